import builtins
import dataclasses
import functools
import logging
import os
import sys
from itertools import count

import pytest
import torch
import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from retinue.config import LazyCall, LazyConfig, instantiate
from retinue.config.instantiate import dump_dataclass

L = LazyCall


class Thing:
    def __init__(self, a, b=None, c=None):
        self.a, self.b, self.c = a, b, c

    def __call__(self, d):
        return self.a + d


@dataclasses.dataclass
class Shape:
    channels: int
    height: int | None = None


@dataclasses.dataclass
class Pair:
    shapes: list
    first: Shape


@pytest.fixture
def files(tmp_path):
    """A folder of configs that import each other, beside and above."""

    def write(**texts):
        for name, text in texts.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def saved(cfg, folder):
    path = str(folder / "saved.yaml")
    LazyConfig.save(cfg, path)
    return LazyConfig.load(path)


# ---- calls


@pytest.mark.parametrize("reload", [False, True])
def test_a_call_with_calls_lists_and_references(reload, tmp_path):
    cfg = L(Thing)(a=3, b=[10, L(dict)(x=1)], c=L(Thing)(a="${..a}", b="${..b}"))
    cfg = saved(cfg, tmp_path) if reload else cfg
    cfg.a = 4
    made = instantiate(cfg)
    assert type(made).__name__ == "Thing"
    assert (made.a, list(made.b)) == (4, [10, {"x": 1}])
    assert (made.c.a, made.c.b[0]) == (4, 10)


def test_other_things_come_back_as_they_are():
    plain = {"x": 1}
    assert instantiate(plain) is plain
    assert instantiate(5) == 5
    assert instantiate([1, L(dict)(a=1)]) == [1, {"a": 1}]
    assert isinstance(instantiate(ListConfig([1])), ListConfig)


def test_a_target_can_be_made_by_a_call():
    node = L(L(Thing)(a=3))(d=4)
    assert instantiate(node) == 7


@pytest.mark.parametrize("reload", [False, True])
def test_dataclasses_as_targets_and_as_values(reload, tmp_path):
    cfg = L(Thing)(a=L(Shape)(channels=2), b=Shape(channels=1))
    cfg = saved(cfg, tmp_path) if reload else cfg
    made = instantiate(cfg)
    assert (made.a.channels, made.a.height) == (2, None)
    assert (made.b.channels, made.b.height) == (1, None)


def test_dump_dataclass():
    node = dump_dataclass(Pair([Shape(1)], Shape(2)))
    assert node["first"]["channels"] == 2
    assert node["shapes"][0]["_target_"].endswith("Shape")
    for wrong in (3, Shape):
        with pytest.raises(AssertionError, match="expected an instance of a dataclass"):
            dump_dataclass(wrong)


def test_wrong_targets(caplog):
    with pytest.raises(TypeError, match="expected something to call, or its name; got 3"):
        L(3)
    with pytest.raises(AssertionError, match="expected something to call; got 3"):
        instantiate({"_target_": 3})
    with pytest.raises(ImportError, match=r"cannot find 'no\.such\.thing'"):
        instantiate({"_target_": "no.such.thing"})
    with pytest.raises(TypeError, match="unexpected"):
        instantiate(L(Thing)(z=1))
    assert "calling Thing with z failed" in caplog.text


# ---- files


def test_files_import_each_other_and_share_nothing(files):
    folder = files(
        root="from .sub.a import opts, call\nfrom .sub.b import opts as again\ncall.step = 5\n",
        sub__a="from .b import opts\nfrom retinue.config import LazyCall as L\n"
        "from itertools import count\nopts.lr = 2\ncall = L(count)(start=opts.lr)\n_hidden = {}\n",
        sub__b="opts = dict(lr=1, deep={'x': 1})\n",
    )
    before = set(sys.modules)
    cfg = LazyConfig.load(str(folder / "root.py"))
    assert (cfg.opts.lr, cfg.again.lr, cfg.opts.deep.x) == (2, 1, 1)
    assert (cfg.call._target_, cfg.call.start, cfg.call.step) == (count, 2, 5)
    cfg.opts.lr = 99
    assert LazyConfig.load(str(folder / "root.py")).opts.lr == 2
    assert "_hidden" not in LazyConfig.load(str(folder / "sub" / "a.py"))
    assert not [name for name in set(sys.modules) - before if "config_" in name]


def test_nothing_of_python_is_replaced(files):
    folder = files(
        root="import builtins, sys\nseen = {'same': builtins.__import__ is sys.original_import}\n"
    )
    original, finders = builtins.__import__, list(sys.meta_path)
    sys.original_import = original
    try:
        assert LazyConfig.load(str(folder / "root.py")).seen.same
    finally:
        del sys.original_import
    assert builtins.__import__ is original
    assert sys.meta_path == finders


def test_imports_from_folders_above_and_of_modules(files):
    folder = files(
        top__common__data="loader = {'batch': 2}\n",
        top__models__m="from ..common.data import loader\nfrom ...top.common import data\n"
        "from . import sibling\nmodel = {'n': data.loader.batch if False else 3}\n"
        "other = sibling.x\n",
        top__models__sibling="x = {'y': 1}\n",
    )
    cfg = LazyConfig.load(str(folder / "top" / "models" / "m.py"))
    assert (cfg.loader.batch, cfg.model.n, cfg.other.y) == (2, 3, 1)


def test_functions_of_a_config_keep_working(files):
    folder = files(
        root="from .b import scale\ndef lr(x):\n    return x * scale\n"
        "from retinue.config import LazyCall as L\nsched = L(lr)(x=3)\n",
        b="scale = 2\n",
    )
    assert instantiate(LazyConfig.load(str(folder / "root.py"), "sched")) == 6


def test_missing_and_circular_imports(files):
    folder = files(
        a="from .nosuch import x\n", b="from . import x\n", c="from .c import x\nx = {}\n"
    )
    with pytest.raises(ImportError, match=r"a\.py, line 1: .*relative import.*nosuch\.py does not"):
        LazyConfig.load(str(folder / "a.py"))
    with pytest.raises(ImportError, match=r"relative import.*x\.py does not exist"):
        LazyConfig.load(str(folder / "b.py"))
    with pytest.raises(ImportError, match="config files import each other"):
        LazyConfig.load(str(folder / "c.py"))


def test_errors_name_the_file(files):
    folder = files(a="x = (1\n", b="x = 1 / 0\n")
    with pytest.raises(SyntaxError) as caught:
        LazyConfig.load(str(folder / "a.py"))
    assert caught.value.filename.endswith("a.py")
    with pytest.raises(ZeroDivisionError) as raised:
        LazyConfig.load(str(folder / "b.py"))
    assert str(raised.traceback[-1].path).endswith("b.py")


def test_keys_pick_names(files):
    folder = files(a="model = {'x': 1}\noptim = [1]\nnumber = 3\n")
    path = str(folder / "a.py")
    assert LazyConfig.load(path, "number") == 3
    model, optim = LazyConfig.load(path, ("model", "optim"))
    assert (model.x, optim) == (1, [1])
    with pytest.raises(KeyError, match=r"a\.py 'modle'; did you mean 'model'\?"):
        LazyConfig.load(path, "modle")
    with pytest.raises(ValueError, match=r"'a\.json': expected \.py, \.yaml or \.yml"):
        LazyConfig.load("a.json")


def test_load_rel(files):
    folder = files(
        a="from retinue.config import LazyConfig\nx = LazyConfig.load_rel('sub/b.py', 'y')\n",
        sub__b="y = {'z': 1}\n",
    )
    assert LazyConfig.load(str(folder / "a.py")).x.z == 1
    with pytest.raises(AssertionError, match="the caller must be a file"):
        exec("LazyConfig.load_rel('x.py')")


# ---- writing


def test_save_is_plain_yaml_and_reads_back(tmp_path):
    cfg = DictConfig(
        {
            "lr": 0.1,
            "none": None,
            "sizes": (1, 2),
            "act": torch.nn.ReLU,
            "dtype": torch.float16,
            "call": L(torch.nn.Linear)(in_features=2, out_features="${sizes[0]}"),
        },
        flags={"allow_objects": True},
    )
    back = saved(cfg, tmp_path)
    content = yaml.safe_load((tmp_path / "saved.yaml").read_text())
    assert content["call"]["_target_"] == "torch.nn.Linear"
    assert content["call"]["out_features"] == "${sizes[0]}"
    assert (back.lr, back.none, back.sizes) == (0.1, None, [1, 2])
    assert instantiate(back.act) is torch.nn.ReLU
    assert instantiate(back.dtype) is torch.float16
    assert instantiate(back.call).weight.shape == (1, 2)


def test_what_yaml_cannot_hold_is_named(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    cfg = DictConfig(
        {"a": {"f": lambda: 3}, "p": functools.partial(int)}, flags={"allow_objects": True}
    )
    back = saved(cfg, tmp_path)
    assert "cannot hold a.f (function), p (partial)" in caplog.text
    assert back.a.f.startswith("<<function")


def test_tags_of_other_tools_become_nodes(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("act: !!python/name:torch.nn.ReLU ''\nn: !!python/tuple [1]\n")
    cfg = LazyConfig.load(str(path))
    assert instantiate(cfg.act) is torch.nn.ReLU
    assert list(cfg.n) == [1]
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(yaml.YAMLError, match="would run code"):
        LazyConfig.load(str(path))
    assert LazyConfig.load(str(path), trust=True).a == os.getcwd()


def test_overrides():
    cfg = OmegaConf.create({"a": {"x": 1, "l": [1, 2]}, "s": "t", "lr": 0.1})
    words = ["a.x=5", "a.l.1=7", "s='abc'", "lr=1e-3", "a.new={'k': [1]}", "++b.c=true", "d=a/b=c"]
    LazyConfig.apply_overrides(cfg, words)
    assert cfg == {
        "a": {"x": 5, "l": [1, 7], "new": {"k": [1]}},
        "s": "abc",
        "lr": 0.001,
        "b": {"c": True},
        "d": "a/b=c",
    }
    LazyConfig.apply_overrides(cfg, ['s="123"', "a.x=null", "lr=(1, 2)", "d=[unclosed"])
    assert (cfg.s, cfg.a.x, tuple(cfg.lr), cfg.d) == ("123", None, (1, 2), "[unclosed")


def test_wrong_overrides():
    cfg = OmegaConf.create({"train": {"max_iter": 5}, "model": L(Thing)(norm="BN")})
    with pytest.raises(KeyError, match=r"'train\.max_iter' is 5, which has no entries"):
        LazyConfig.apply_overrides(cfg, ["train.max_iter.x=1"])
    with pytest.raises(ValueError, match="expected key=value; got 'train'"):
        LazyConfig.apply_overrides(cfg, ["train"])
    with pytest.warns(UserWarning, match=r"'train\.max_itr'; was 'max_iter' meant") as caught:
        LazyConfig.apply_overrides(cfg, ["train.max_itr=3"])
    assert caught[0].filename == __file__
    LazyConfig.apply_overrides(cfg, ["model.norms=GN"])  # a call may take any argument


def test_to_py():
    cfg = OmegaConf.create({"b": {"x": 1, "a-b": 2}, "empty": {}, "l": ["a", 3.2, None]})
    cfg.call = L(count)(start={"k": "it's", "c": L(count)(step=[1.5] * 20)}, step=torch.nn.ReLU)
    broken = "                1.5,\n" * 20  # they do not fit on a line
    assert LazyConfig.to_py(cfg) == (
        'cfg.b["a-b"] = 2\n'
        "cfg.b.x = 1\n"
        "cfg.call = itertools.count(\n"
        "    start={\n"
        '        "k": "it\'s",\n'
        '        "c": itertools.count(\n'
        "            step=[\n" + broken + "            ],\n"
        "        ),\n"
        "    },\n"
        "    step=torch.nn.ReLU,\n"
        ")\n"
        "cfg.empty = {}\n"
        'cfg.l = ["a", 3.2, None]\n'
    )
    assert LazyConfig.to_py({"a": 1}, prefix="") == "a = 1\n"


def test_to_py_puts_arguments_on_a_line_of_their_own_where_they_fit():
    x, y = "x" * 30, "y" * 30
    node = {"call": {"_target_": "pkg.function", "first": x, "second": y}}
    assert LazyConfig.to_py(node) == (
        f'cfg.call = pkg.function(\n    first="{x}", second="{y}"\n)\n'
    )
