"""Configs of projects against those recorded from detectron2 (golden/project_configs.json.gz)."""

import dataclasses
import gzip
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from retinue import projects
from retinue.config import get_cfg
from retinue.projects import zoo
from retinue.utils.registry import locate

with gzip.open(Path(__file__).parents[1] / "golden" / "project_configs.json.gz", "rt") as f:
    RECORDED = json.load(f)

POINT_REND = "projects/PointRend/configs/InstanceSegmentation"


def there(paths):
    """Those of projects that exist here."""
    return [p for p in paths if p.split("/")[1] in zoo.PROJECTS]


def untag(x):
    """Undo the tags of the recording."""
    if isinstance(x, dict) and set(x) == {"__tuple__"}:
        return tuple(untag(v) for v in x["__tuple__"])
    if isinstance(x, list):
        return [untag(v) for v in x]
    return x


def flat(node, prefix=""):
    for key, value in node.items():
        if hasattr(value, "items") and len(value):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("path", there(RECORDED["yaml"]))
def test_each_yaml_config_equals_the_recorded_one(path):
    defaults = get_cfg()
    for add_config in zoo._find(path)[0].ADD_CONFIG:
        add_config(defaults)
    defaults = dict(flat(defaults))
    got = {k: v for k, v in flat(projects.get_config(path)) if v != defaults.get(k)}

    assert got == {k: untag(v) for k, v in RECORDED["yaml"][path].items()}


def same_target(got, want):
    want = want.replace("detectron2.", "retinue.")
    want = want.replace("fvcore.common.param_scheduler", "retinue.solver.param_scheduler")
    got = locate(got) if isinstance(got, str) else got
    return got is locate(want) or got == locate(want)


def expect_equal(got, want, where):
    if dataclasses.is_dataclass(got) and not isinstance(got, type):
        expect_equal(dataclasses.asdict(got), want["fields"], where)
    elif isinstance(want, dict) and "__dataclass__" in want:
        expect_equal(got, want["fields"], where)
    elif isinstance(want, dict) and "__ref__" in want:
        assert same_target(got, want["__ref__"]), where
    elif isinstance(want, dict) and "__partial__" in want:
        assert same_target(got.func, want["__partial__"]), where
        assert list(got.args) == want["args"], where
        expect_equal(got.keywords, want["kwargs"], where)
    elif isinstance(want, dict) and ("__lambda__" in want or "__config_local__" in want):
        assert callable(got), where
    elif isinstance(want, dict):
        assert sorted(map(str, got)) == sorted(want), where
        for key, value in want.items():
            if key == "_target_" and "<config>" not in value:
                assert same_target(got[key], value), f"{where}: {got[key]}"
            elif key != "_target_":
                expect_equal(got[key], value, f"{where}.{key}")
    elif isinstance(want, list):
        assert len(got) == len(want), where
        for i, value in enumerate(want):
            expect_equal(got[i], value, f"{where}[{i}]")
    else:
        assert got == want, where


@pytest.mark.parametrize("path", there(RECORDED["lazy"]))
def test_each_lazy_config_equals_the_recorded_one(path):
    config = projects.get_config(path)
    recorded = RECORDED["lazy"][path]
    expect_equal(OmegaConf.to_container(config, resolve=True), recorded["config"], path)

    for dotted, reference in recorded.get("interpolations", {}).items():
        *parents, leaf = dotted.split(".")
        node = config
        for parent in parents:
            node = node[int(parent) if parent.isdigit() else parent]
        assert OmegaConf.to_container(node, resolve=False)[leaf] == reference, dotted


def test_every_recorded_yaml_name_is_there_and_none_is_ours_alone():
    elsewhere = "projects/MeshRCNN/"  # of another repository; see meshrcnn/test_model.py
    ours = {p for p in zoo.config_paths() if p.endswith(".yaml") and elsewhere not in p}
    assert ours == set(there(RECORDED["yaml"]))


@pytest.mark.parametrize("package", zoo.PROJECTS.values())
def test_a_project_explains_itself(package):
    """Its docstring, its README, and names that can be imported."""
    module = __import__(f"retinue.projects.{package}", fromlist=["_"])
    folder = Path(module.__file__).parent
    assert module.__doc__
    assert (folder / "README.md").read_text().startswith("# ")
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_a_name_may_lack_its_ending():
    path = f"{POINT_REND}/pointrend_rcnn_R_50_FPN_1x_coco"
    assert zoo.get_checkpoint_url(path) == zoo.get_checkpoint_url(path + ".yaml")
    assert zoo.get_config_file(path) == zoo.get_config_file(path + ".yaml")
    lazy = "projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep"
    assert zoo.get_config_file(lazy) == zoo.get_config_file(lazy + ".py")


def test_trained_means_the_published_weights():
    path = f"{POINT_REND}/pointrend_rcnn_R_50_FPN_3x_coco.yaml"
    url = (  # the address on the project's page
        "https://dl.fbaipublicfiles.com/detectron2/PointRend/InstanceSegmentation/"
        "pointrend_rcnn_R_50_FPN_3x_coco/164955410/model_final_edd263.pkl"
    )
    assert projects.get_checkpoint_url(path) == url
    assert url == projects.get_config(path, trained=True).MODEL.WEIGHTS
    assert projects.get_config(path).MODEL.WEIGHTS.endswith("MSRA/R-50.pkl")


def test_wrong_names_get_the_nearest():
    with pytest.raises(KeyError, match="unknown project 'PointRent'; did you mean 'PointRend'"):
        projects.get_config("projects/PointRent/configs/x.yaml")
    with pytest.raises(KeyError, match="did you mean 'InstanceSegmentation/pointrend_rcnn_R_50"):
        projects.get_config(f"{POINT_REND}/pointrend_rcnn_R50_FPN_3x_coco.yaml")
    with pytest.raises(KeyError, match="unknown config with published weights"):
        projects.get_checkpoint_url(f"{POINT_REND}/Base-PointRend-RCNN-FPN.yaml")
