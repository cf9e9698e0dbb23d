"""Published configs against those recorded from detectron2 (tests/golden/zoo_configs.json.gz)."""

import gzip
import json
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from retinue import model_zoo
from retinue.config import get_cfg
from retinue.model_zoo import overlays
from retinue.model_zoo.presets import PRESETS
from retinue.utils.registry import locate

with gzip.open(Path(__file__).parents[1] / "golden" / "zoo_configs.json.gz", "rt") as f:
    RECORDED = json.load(f)


def untag(x):
    """Undo the tags of the recording: tuples, and nothing else in YAML configs."""
    if isinstance(x, dict) and set(x) == {"__tuple__"}:
        return tuple(untag(v) for v in x["__tuple__"])
    if isinstance(x, list):
        return [untag(v) for v in x]
    return x


def flat(node, prefix=""):
    for key, value in node.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.parametrize("path", RECORDED["yaml"])
def test_each_yaml_config_equals_the_recorded_one(path):
    defaults = dict(flat(get_cfg()))
    got = {k: v for k, v in flat(model_zoo.get_config(path)) if v != defaults[k]}

    assert got == {k: untag(v) for k, v in RECORDED["yaml"][path].items()}


def test_every_recorded_name_is_a_preset_and_none_is_ours_alone():
    assert set(PRESETS) == {path.removesuffix(".yaml") for path in RECORDED["yaml"]}


def test_every_overlay_sets_known_keys_to_values_of_their_type():
    defaults = dict(flat(get_cfg()))
    facts = {n: o for n, o in vars(overlays).items() if n.isupper() and isinstance(o, dict)}
    assert len(facts) > 30
    for name, overlay in facts.items():
        for key, value in overlay.items():
            assert key in defaults, f"{name}: {key}"
            kinds = {type(value), type(defaults[key])}
            assert len(kinds) == 1 or kinds <= {tuple, list} or kinds <= {int, float}, (
                f"{name}: {key}"
            )


def test_the_ending_may_be_left_out():
    name = "COCO-Detection/faster_rcnn_R_50_FPN_3x"
    assert model_zoo.get_config(name) == model_zoo.get_config(f"{name}.yaml")


def test_trained_means_the_published_weights():
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
    url = (  # the address on detectron2's model zoo page
        "https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/"
        "mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl"
    )
    assert model_zoo.get_checkpoint_url(name) == url
    assert url == model_zoo.get_config(name, trained=True).MODEL.WEIGHTS
    assert model_zoo.get_config(name).MODEL.WEIGHTS.endswith("MSRA/R-50.pkl")


def test_a_config_file_can_be_a_base(tmp_path, monkeypatch):
    monkeypatch.setenv("RETINUE_CACHE", str(tmp_path))
    base = model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"_BASE_": base, "MODEL": {"RETINANET": {"NUM_CLASSES": 3}}}))

    cfg = get_cfg()
    cfg.merge_from_file(str(mine))
    want = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x")
    want.MODEL.RETINANET.NUM_CLASSES = 3
    assert Path(base).is_relative_to(tmp_path)
    assert cfg == want


@pytest.mark.parametrize("function", ["get_config", "get_config_file", "get_checkpoint_url", "get"])
def test_a_misspelt_name_gets_the_nearest(function):
    with pytest.raises(RuntimeError, match="did you mean 'COCO-Detection/faster_rcnn_R_50_FPN_3x'"):
        getattr(model_zoo, function)("COCO-Detection/faster_rcnn_R50_FPN_3x.yaml")


def test_a_model_without_published_weights_says_so():
    with pytest.raises(RuntimeError, match="unknown model 'Misc/semantic_R_50_FPN_1x'"):
        model_zoo.get_checkpoint_url("Misc/semantic_R_50_FPN_1x")


# ------------------------------------------------------------------------------- lazy configs


def same_target(got, want):
    want = want.replace("detectron2.", "retinue.")
    want = want.replace("fvcore.common.param_scheduler", "retinue.solver.param_scheduler")
    return (locate(got) if isinstance(got, str) else got) is locate(want) or (
        # bound methods such as ResNet.make_stage are made anew at each look-up
        got == locate(want) or (isinstance(got, str) and locate(got) == locate(want))
    )


def expect_equal(got, want, where):
    if isinstance(want, dict) and "__dataclass__" in want:
        assert got == want["fields"], where  # a container holds a dataclass as a dict
    elif isinstance(want, dict) and "__ref__" in want:
        assert same_target(got, want["__ref__"]), where
    elif isinstance(want, dict) and "__object__" in want:
        assert isinstance(got, locate(want["__object__"])), where
    elif isinstance(want, dict) and "__lambda__" in want:
        assert callable(got), where
    elif isinstance(want, dict):
        assert list(map(str, sorted(got))) == sorted(want), where
        for key, value in want.items():
            if key == "_target_" and value.startswith("<config>"):  # defined in the config itself
                assert getattr(got[key], "__name__", got[key]).endswith(value[9:]), where
            elif key == "_target_":
                assert same_target(got[key], value), f"{where}: {got[key]}"
            else:
                expect_equal(got[key], value, f"{where}.{key}")
    elif isinstance(want, list):
        assert len(got) == len(want), where
        for i, value in enumerate(want):
            expect_equal(got[i], value, f"{where}[{i}]")
    else:
        assert got == want, where


LAZY = [
    pytest.param(path, marks=pytest.mark.interop if "torchvision" in path else ())
    for path in RECORDED["lazy"]
]


@pytest.mark.parametrize("path", LAZY)
def test_each_lazy_config_equals_the_recorded_one(path):
    config = model_zoo.get_config(path)
    expect_equal(
        OmegaConf.to_container(config, resolve=True), RECORDED["lazy"][path]["config"], path
    )

    for dotted, reference in RECORDED["lazy"][path].get("interpolations", {}).items():
        *parents, leaf = dotted.split(".")
        node = config
        for parent in parents:
            node = node[int(parent) if parent.isdigit() else parent]
        assert OmegaConf.to_container(node, resolve=False)[leaf] == reference, dotted


def test_loading_one_lazy_config_does_not_change_another():
    first = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
    first.dataloader.train.total_batch_size = 7
    model_zoo.get_config("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.py")
    again = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")

    assert again.dataloader.train.total_batch_size == 16
    assert "mask_head" in again.model.roi_heads
