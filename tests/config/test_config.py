import copy
import json
import pickle
import warnings
from pathlib import Path

import pytest
import yaml

from retinue.config import (
    CfgNode,
    configurable,
    downgrade_config,
    get_cfg,
    global_cfg,
    set_global_cfg,
    upgrade_config,
)
from retinue.config.compat import guess_version
from retinue.config.safe_yaml import load_yaml

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "config_defaults.json").read_text())


def decode(value):
    if isinstance(value, dict):
        return tuple(map(decode, value["__tuple__"]))
    return [decode(v) for v in value] if isinstance(value, list) else value


def flat(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def without_ours(cfg):
    return {k: v for k, v in flat(cfg) if not k.startswith("RETINUE.")}


def write(path, text):
    path.write_text(text)
    return str(path)


# ---- defaults and versions


def test_defaults_are_detectron2s():
    """Recorded from detectron2: every key, its value and its type."""
    got = without_ours(get_cfg())
    want = {key: decode(value) for key, value in GOLDEN["defaults"].items()}
    assert got == want
    assert {k: type(v) for k, v in got.items()} == {k: type(v) for k, v in want.items()}


def test_own_keys_change_nothing_by_default():
    assert dict(get_cfg().RETINUE) == {
        "EPOCHS": 0,
        "ACCUMULATE": 1,
        "VAL_LOSS_PERIOD": 0,
        "BEST_METRIC": "",
        "EARLY_STOPPING_PATIENCE": 0,
        "EMA_DECAY": 0.0,
        "KEEP_CHECKPOINTS": 0,
        "ASYNC_CHECKPOINTS": False,
        "FSDP": False,
        "SKIP_UNREADABLE": False,
        "COMPILE": False,
    }


def test_each_config_is_fresh():
    get_cfg().MODEL.PIXEL_MEAN.append(1)
    assert len(get_cfg().MODEL.PIXEL_MEAN) == 3


@pytest.mark.parametrize("version", [1, 0])
def test_downgrading_renames_and_upgrading_undoes_it(version):
    cfg = get_cfg()
    cfg.MINE = 1
    old = downgrade_config(cfg, version)
    golden = GOLDEN[f"downgraded_to_v{version}"]
    want = {k: decode(v) for k, v in GOLDEN["defaults"].items() if k not in golden["removed"]}
    want |= {k: decode(v) for k, v in golden["added"].items()} | {"VERSION": version, "MINE": 1}

    assert without_ours(old) == want
    assert upgrade_config(old) == cfg
    assert upgrade_config(old, 1).VERSION == 1


def test_retinanet_brings_its_own_anchors_up():
    old = downgrade_config(get_cfg(), 1)
    old.MODEL.META_ARCHITECTURE = "RetinaNet"
    old.MODEL.RETINANET.ANCHOR_SIZES = [[7]]
    assert upgrade_config(old).MODEL.ANCHOR_GENERATOR.SIZES == [[7]]


def test_versions_that_are_not_there():
    with pytest.raises(AssertionError, match="expected 0 to 2; got 3"):
        upgrade_config(get_cfg(), 3)
    with pytest.raises(AssertionError, match="expected a version up to 0; got 1"):
        downgrade_config(downgrade_config(get_cfg(), 0), 1)


def test_an_old_file_is_upgraded_as_it_is_read(tmp_path, caplog):
    cfg = get_cfg()
    cfg.MINE = 1
    cfg.merge_from_file(
        write(tmp_path / "v0.yaml", "VERSION: 0\nMODEL: {RPN_HEAD: {NAME: Test}}\n")
    )
    assert cfg.MODEL.RPN.HEAD_NAME == "Test"
    cfg.merge_from_file(write(tmp_path / "v1.yaml", "MODEL: {WEIGHT: /a.pkl}\n"))
    assert cfg.MODEL.WEIGHTS == "/a.pkl"
    assert (cfg.VERSION, cfg.MINE) == (2, 1)
    assert "has no VERSION" in caplog.text
    assert "keys of version 0" in caplog.text
    assert guess_version(CfgNode({"MODEL": {"X": 1}}), "f") == 2


def test_a_file_from_the_future(tmp_path):
    with pytest.raises(AssertionError, match=r"expected VERSION up to 2; got 3"):
        get_cfg().merge_from_file(write(tmp_path / "a.yaml", "VERSION: 3"))


# ---- merging


def test_lists_and_tuples_stand_for_each_other_and_text_is_read():
    cfg = get_cfg()
    cfg.merge_from_list(
        ["SOLVER.STEPS", "[1, 2]", "MODEL.PIXEL_STD", (1.0,), "SOLVER.BASE_LR", "1e-3"]
    )
    cfg.merge_from_list(["SOLVER.WEIGHT_DECAY_BIAS", "0.5", "OUTPUT_DIR", "a/b"])
    assert cfg.SOLVER.STEPS == (1, 2)
    assert cfg.MODEL.PIXEL_STD == [1.0]
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY_BIAS) == (0.001, 0.5)
    assert cfg.OUTPUT_DIR == "a/b"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("SOLVER.BASE_RL", r"'SOLVER\.BASE_RL'; did you mean 'SOLVER\.BASE_LR'\?"),
        ("SOLVERS.BASE_LR", r"'SOLVERS\.BASE_LR'; did you mean 'SOLVER\.BASE_LR'"),
        ("TEST.AUG.QQQ", r"known names: TEST\.AUG\.ENABLED, TEST\.AUG\.FLIP"),
        (
            "MODEL.MASK_ON.X",
            r"unknown config key 'MODEL\.MASK_ON\.X'; did you mean 'MODEL\.MASK_ON",
        ),
        ("NOSUCH", r"known names: CUDNN_BENCHMARK"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key, message):
    for caught in (KeyError, AssertionError):  # the first is ours, the second detectron2's
        with pytest.raises(caught, match=message):
            get_cfg().merge_from_list([key, 1])


def test_an_unknown_key_in_a_file_is_refused(tmp_path):
    path = write(tmp_path / "a.yaml", "MODEL:\n  RESNETS:\n    DEPHT: 101\n")
    with pytest.raises(KeyError, match=r"a\.yaml: .*did you mean 'MODEL\.RESNETS\.DEPTH'\?"):
        get_cfg().merge_from_file(path)
    path = write(tmp_path / "b.yaml", "SOLVER:\n  BASE_LR: fast\n")
    with pytest.raises(ValueError, match=r"b\.yaml: SOLVER\.BASE_LR: expected float"):
        get_cfg().merge_from_file(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.MAX_ITER", "x", r"SOLVER\.MAX_ITER: expected int, such as 40000; got 'x'"),
        ("SOLVER.BASE_LR", 1, r"expected float, such as 0\.001; got 1; write 1\.0"),
        ("MODEL.MASK_ON", 1, r"expected bool, such as False; got 1"),
        ("SOLVER.AMP", 1, r"SOLVER\.AMP: expected keys below it \(ENABLED\); got 1"),
        (
            "DATASETS.TEST",
            "x",
            r"DATASETS\.TEST: expected a tuple; got the text 'x'; write \('x',\)",
        ),
        ("MODEL.RPN.IN_FEATURES", "p2", r"expected a list; got the text 'p2'; write \['p2'\]"),
    ],
)
def test_a_wrong_type_is_refused_in_words(key, value, message):
    with pytest.raises(ValueError, match=message):
        get_cfg().merge_from_list([key, value])
    folders, _, name = key.rpartition(".")
    tree = {name: value}
    for folder in reversed(folders.split(".")):
        tree = {folder: tree}
    with pytest.raises(ValueError, match=message):
        get_cfg().merge_from_other_cfg(CfgNode(tree))


def test_a_missing_comma_is_refused_on_assignment():
    cfg = get_cfg()
    with pytest.raises(ValueError, match=r"DATASETS\.TEST: .* write \('coco',\) with the comma"):
        cfg.DATASETS.TEST = ("coco")  # fmt: skip
    cfg.DATASETS.TEST = ("coco",)


def test_odd_overrides_and_bases_in_the_wrong_place():
    with pytest.raises(AssertionError, match="expected pairs KEY VALUE; got 1 words"):
        get_cfg().merge_from_list(["SEED"])
    with pytest.raises(AssertionError, match="_BASE_ has a meaning in files only"):
        get_cfg().merge_from_list(["_BASE_", "x"])
    with pytest.raises(AssertionError, match="_BASE_ has a meaning in files only"):
        get_cfg().merge_from_other_cfg(CfgNode({"_BASE_": "x"}))


def test_new_keys_where_they_are_allowed():
    cfg = CfgNode({"A": {}}, new_allowed=True)
    cfg.A.set_new_allowed(True)
    cfg.merge_from_other_cfg(CfgNode({"A": {"B": 1}, "C": 2}))
    assert (cfg.A.B, cfg.C) == (1, 2)


def test_deprecated_and_renamed_keys():
    cfg = get_cfg()
    cfg.register_deprecated_key("OLD.KEY")
    cfg.register_renamed_key("FORMER", "SEED")
    cfg.merge_from_list(["OLD.KEY", 1])
    cfg.merge_from_other_cfg(CfgNode({"OLD.KEY": 1}))
    with pytest.raises(KeyError, match="FORMER was renamed to SEED"):
        cfg.merge_from_list(["FORMER", 1])


# ---- assigning


def test_new_keys_in_python_are_fine():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cfg = get_cfg()
        cfg.MODEL.MINE = CfgNode()
        cfg.MODEL.MINE.LOSS_A = 1.0
        cfg.MODEL.MINE.LOSS_B = 1.0  # one letter apart, but both are the user's own
        cfg.MODEL.RESNETS.RES4_DILATION = 1  # one digit from RES5_DILATION
        cfg.MODEL.RESNETS.STEM_TYPE = "basic"
    cfg.merge_from_list(["MODEL.MINE.LOSS_A", 2.0])
    assert cfg.MODEL.MINE.LOSS_A == 2.0


@pytest.mark.parametrize(
    ("slip", "known"),
    [("MAX_ITR", "MAX_ITER"), ("BASE_RL", "BASE_LR"), ("STEP", "STEPS"), ("GAMME", "GAMMA")],
)
def test_a_slip_in_a_new_key_is_warned_of(slip, known):
    cfg = get_cfg()
    with pytest.warns(UserWarning, match=f"'{slip}' is one slip away from '{known}'") as caught:
        setattr(cfg.SOLVER, slip, 1)
    assert caught[0].filename == __file__


def test_paths_follow_nodes_that_are_put_in():
    cfg = get_cfg()
    cfg.A = CfgNode({"B": {"C": (1,)}})
    with pytest.raises(ValueError, match=r"A\.B\.C: expected a tuple"):
        cfg.A.B.C = "1"


def test_computed_keys_cannot_change():
    cfg = get_cfg()
    cfg.COMPUTED_X = 1
    cfg.COMPUTED_X = 1
    with pytest.raises(KeyError, match="COMPUTED_X was computed before as 1; now as 2"):
        cfg.COMPUTED_X = 2


def test_values_that_cannot_be_written_are_refused():
    with pytest.raises(AssertionError, match="Invalid type"):
        get_cfg().SEED = object()


def test_freezing():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(AttributeError, match="immutable"):
        cfg.SOLVER.MAX_ITER = 3
    clone = cfg.clone()
    clone.defrost()
    clone.SOLVER.MAX_ITER = 3
    assert cfg.SOLVER.MAX_ITER == 40000


def test_copies_and_pickles_are_equal():
    cfg = get_cfg()
    assert copy.deepcopy(cfg) == cfg == pickle.loads(pickle.dumps(cfg))


def test_dump_is_read_back():
    cfg = get_cfg()
    cfg.SOLVER.STEPS = (5, 6)
    cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS = ()  # YAML has no tuples within tuples
    other = get_cfg()
    other.merge_from_other_cfg(CfgNode(yaml.safe_load(cfg.dump())))
    assert other == cfg


def test_global_cfg_holds_what_it_is_given():
    set_global_cfg(CfgNode({"A": 1}))
    assert global_cfg.A == 1
    set_global_cfg(CfgNode())
    assert not global_cfg


# ---- files


def test_bases_are_merged_below(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "base.yaml", "SEED: 1\nMODEL: {MASK_ON: true, WEIGHTS: a}\n")
    write(tmp_path / "second.yaml", "SEED: 2\n")
    relative = write(tmp_path / "sub" / "a.yaml", "_BASE_: ../base.yaml\nMODEL: {WEIGHTS: b}\n")
    home = write(tmp_path / "sub" / "b.yaml", "_BASE_: ~/base.yaml\n")
    absolute = write(tmp_path / "sub" / "c.yaml", f"_BASE_: {tmp_path}/base.yaml\n")
    several = write(tmp_path / "d.yaml", "_BASE_: [base.yaml, second.yaml]\n")

    cfg = get_cfg()
    cfg.merge_from_file(relative)
    assert (cfg.SEED, cfg.MODEL.MASK_ON, cfg.MODEL.WEIGHTS) == (1, True, "b")
    for path, seed in ((home, 1), (absolute, 1), (several, 2)):
        assert CfgNode.load_yaml_with_base(path)["SEED"] == seed
        assert CfgNode.load_yaml_with_base(path)["MODEL"]["WEIGHTS"] == "a"


def test_bases_at_an_address(tmp_path):
    from retinue.utils.file_io import PathManager

    with PathManager.open("memory://configs/base.yaml", "w") as file:
        file.write("SEED: 5\n")
    with PathManager.open("memory://configs/a.yaml", "w") as file:
        file.write("_BASE_: base.yaml\n")
    cfg = get_cfg()
    cfg.merge_from_file("memory://configs/a.yaml")
    assert cfg.SEED == 5


def test_a_base_that_is_not_there(tmp_path):
    path = write(tmp_path / "a.yaml", "_BASE_: b.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"a.yaml: its _BASE_ '.*b.yaml' does not exist"):
        CfgNode.load_yaml_with_base(path)


def test_bases_in_a_circle(tmp_path):
    path = write(tmp_path / "a.yaml", "_BASE_: a.yaml\n")
    with pytest.raises(AssertionError, match=r"_BASE_ leads back to itself: .*a\.yaml -> "):
        CfgNode.load_yaml_with_base(path)


def test_a_value_below_keys(tmp_path):
    write(tmp_path / "base.yaml", "MODEL: 1\n")
    path = write(tmp_path / "a.yaml", "_BASE_: base.yaml\nMODEL: {MASK_ON: true}\n")
    with pytest.raises(AssertionError, match="MODEL has keys below it here, but is the value 1"):
        CfgNode.load_yaml_with_base(path)


def test_files_that_are_not_there_or_not_yaml(tmp_path):
    with pytest.raises(AssertionError, match=r"config file 'nosuch\.yaml' does not exist"):
        get_cfg().merge_from_file("nosuch.yaml")
    with pytest.raises(yaml.YAMLError, match=r"config file .*a\.yaml"):
        get_cfg().merge_from_file(write(tmp_path / "a.yaml", "A: [1\nB: 2"))
    with pytest.raises(yaml.YAMLError, match=r"a\.py: expected YAML; .* lazyconfig_train_net"):
        get_cfg().merge_from_file(write(tmp_path / "a.py", '"""A lazy config."""\n\nlr = 0.1\n'))
    with pytest.raises(AssertionError, match="expected keys and values; got 'text'"):
        get_cfg().merge_from_file(write(tmp_path / "b.yaml", "text"))
    get_cfg().merge_from_file(write(tmp_path / "c.yaml", ""))


def test_a_config_without_versions_reads_files_too(tmp_path):
    cfg = CfgNode({"A": 1})
    cfg.merge_from_file(write(tmp_path / "a.yaml", "A: 2"))
    assert cfg.A == 2


def test_python_tags_are_plain_data():
    text = """
a: !!python/tuple [1, !!python/tuple [2]]
b: !!python/name:torch.nn.ReLU ''
c: !!python/object/new:detectron2.config.config.CfgNode
  dictitems: {X: 1}
  state: {__immutable__: false}
d: !!python/object/apply:collections.OrderedDict [[[k, 1]]]
e: !!python/object:pkg.Point {x: 1, y: 2}
f: !!python/unicode text
g: !!python/list [1]
h: !!python/dict {k: 1}
i: !!python/object/new:pkg.Seq {listitems: [3]}
j: !!python/none
k: !!python/long 5
"""
    assert load_yaml(text) == {
        "a": (1, (2,)),
        "b": "torch.nn.ReLU",
        "c": {"X": 1},
        "d": {"k": 1},
        "e": {"x": 1, "y": 2},
        "f": "text",
        "g": [1],
        "h": {"k": 1},
        "i": [3],
        "j": None,
        "k": 5,
    }


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch hacked']",
        "!!python/object/apply:eval ['open(1)']",
        "!!python/object/apply:eval [1, 2]",
        "!!python/object/new:os.system ['touch hacked']",
        "!!python/bytes aGk=",
    ],
)
def test_tags_that_would_run_code_are_refused(tag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.yaml", f"SEED: {tag}\n")
    with pytest.raises(yaml.YAMLError, match=r"(?s)a\.yaml.*would run code.*line 1, column 7"):
        get_cfg().merge_from_file(path, allow_unsafe=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.yaml"]


def test_a_config_that_is_trusted_runs_what_it_names(tmp_path, caplog):
    base = write(tmp_path / "base.yaml", "SEED: !!python/object/apply:operator.add [3, 4]\n")
    path = write(tmp_path / "a.yaml", f"_BASE_: {base}\nOUTPUT_DIR: a\n")
    cfg = get_cfg()
    cfg.merge_from_file(path, trust=True)
    assert (cfg.SEED, cfg.OUTPUT_DIR) == (7, "a")
    assert "base.yaml: read with trust=True, which runs any code" in caplog.text


# ---- configurable


class Base:
    @configurable
    def __init__(self, dim: int, scale=1, *, bias=True):
        """Words about Base."""
        self.args = (dim, scale, bias)

    @classmethod
    def from_config(cls, cfg):
        return {"dim": cfg.DIM}


class WithShape(Base):
    @configurable
    def __init__(self, shape, **kwargs):
        super().__init__(**kwargs)
        self.shape = shape

    @classmethod
    def from_config(cls, cfg, shape):
        return {**super().from_config(cfg), "shape": shape}


class Variadic(Base):
    @classmethod
    def from_config(cls, cfg, **kwargs):
        return {"dim": cfg.DIM, **kwargs}


class InConfigStyle(WithShape):
    def __init__(self, cfg, shape):
        super().__init__(cfg, shape)


CFG = CfgNode({"DIM": 8})


def test_configurable_classes_take_arguments_or_a_config():
    from omegaconf import OmegaConf

    assert Base(1, 2, bias=False).args == (1, 2, False)
    assert Base(dim=1).args == (1, 1, True)
    assert Base(CFG).args == Base(cfg=CFG).args == (8, 1, True)
    assert Base(OmegaConf.create({"DIM": 3})).args == (3, 1, True)
    assert Base(CFG, scale=4, dim=9).args == (9, 4, True)
    assert WithShape(CFG, "s").shape == WithShape(CFG, shape="s").shape == "s"
    assert WithShape("s", dim=2).args == (2, 1, True)
    assert WithShape(CFG, "s", bias=False).args == (8, 1, False)
    assert Variadic(CFG, scale=3).args == (8, 3, True)
    assert InConfigStyle(CFG, "s").shape == "s"


def test_configurable_keeps_what_describes_the_function():
    assert Base.__init__.__doc__ == "Words about Base."
    assert Base.__init__.__annotations__["dim"] in (int, "int")


def test_positional_arguments_are_not_passed_around_from_config():
    with pytest.raises(TypeError, match="from_config"):
        Base(CFG, 4)
    with pytest.raises(TypeError, match="not_there"):
        Base(CFG, not_there=1)


def test_configurable_classes_need_a_classmethod_from_config():
    class Without:
        @configurable
        def __init__(self, a=1):
            pass

    class NotAClassmethod(Without):
        def from_config(self, cfg):
            return {}

    class OtherName(Without):
        @classmethod
        def from_config(cls, config):
            return {}

    with pytest.raises(AttributeError, match="Without: @configurable expects a classmethod"):
        Without(1)
    with pytest.raises(TypeError, match="NotAClassmethod: @configurable expects a classmethod"):
        NotAClassmethod(1)
    with pytest.raises(TypeError, match=r"must be called cfg; got \['config'\]"):
        OtherName(CFG)


def test_configurable_functions():
    @configurable(from_config=lambda cfg, b: {"a": cfg.DIM, "b": b})
    def make(a, b=2, c=3):
        return a, b, c

    assert make(1) == (1, 2, 3)
    assert make(CFG, b=5, c=6) == (8, 5, 6)
    assert make(CFG, 5, a=7) == (7, 5, 3)
    assert callable(make.from_config)
    with pytest.raises(TypeError, match="'b'"):
        make(CFG)


def test_configurable_with_empty_parentheses():
    class A(Base):
        @configurable()
        def __init__(self, dim):
            self.dim = dim

    assert A(CFG).dim == 8


def test_configurable_on_the_wrong_thing():
    with pytest.raises(AssertionError, match="expected an __init__ below it"):
        configurable(lambda a: a)
    with pytest.raises(AssertionError, match="from_config must be a function; got 3"):
        configurable(from_config=3)
