"""Names of weights, against what detectron2 makes of them (recorded from 02b5c4e)."""

import json
from pathlib import Path

import pytest
import torch

from retinue.checkpoint.c2_model_loading import (
    _group_str,
    _longest_common_prefix_str,
    align_and_update_state_dicts,
    convert_basic_c2_names,
    convert_c2_detectron_names,
)
from retinue.checkpoint.catalog import ModelCatalog, ModelCatalogHandler
from retinue.utils.file_io import PathManager

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "checkpoint_names.json").read_text())


@pytest.mark.parametrize("row", GOLDEN["names"], ids=lambda row: row[0])
def test_caffe2_names(row):
    blob, name, *operation = row
    weights = {blob: torch.arange(6.0)[:, None].expand(6, 2)}
    converted, original = convert_c2_detectron_names(weights)
    rows = {
        "drop_first_4_rows": [4, 5],
        "drop_first_row": [1, 2, 3, 4, 5],
        "first_row_to_end": [1, 2, 3, 4, 5, 0],
    }

    assert original == {name: blob}
    assert converted[name][:, 0].tolist() == rows.get((*operation, "")[0], list(range(6)))


def test_backbone_names_keep_their_order():
    assert convert_basic_c2_names(["res2_0_branch1_bn_b", "conv1_w"]) == [
        "res2.0.shortcut.norm.bias",
        "stem.conv1.weight",
    ]


def test_two_names_that_become_one():
    with pytest.raises(AssertionError, match="'conv1_gn_s' and 'res_conv1_bn_s' both mean 'stem"):
        convert_c2_detectron_names({"conv1_gn_s": torch.zeros(1), "res_conv1_bn_s": torch.zeros(1)})


@pytest.mark.parametrize("case", GOLDEN["matching"].values(), ids=GOLDEN["matching"])
def test_matching_by_endings(case):
    model, checkpoint = (
        {name: torch.zeros(shape) for name, shape in case[part].items()}
        for part in ("model", "checkpoint")
    )
    if "raises" in case:
        with pytest.raises(ValueError, match="fits both"):
            align_and_update_state_dicts(model, checkpoint, case.get("c2_conversion", False))
        return
    result = align_and_update_state_dicts(model, checkpoint, case.get("c2_conversion", False))

    name_of = {id(tensor): name for name, tensor in checkpoint.items()}
    assert {name: name_of[id(tensor)] for name, tensor in result.items()} == case["result"]
    assert sorted(name for name in result if name in model) == sorted(case["result_keys_in_model"])


def test_what_is_said_of_a_match(caplog):
    caplog.set_level("INFO")
    tensors = {"a.weight": torch.zeros(1), "a.bias": torch.zeros(1), "scale": torch.zeros(1)}
    model = {"net.a.weight": torch.zeros(1), "net.a.bias": torch.zeros(1), "scale": torch.zeros(2)}
    align_and_update_state_dicts(model, tensors, c2_conversion=False)

    assert "net.a.{bias, weight}  <-  a.{bias, weight}" in caplog.text
    assert "scale is not loaded: its shape is (1,) in the checkpoint, but (2,) at" in caplog.text


def test_common_beginnings():
    assert _longest_common_prefix_str(["class", "dlaps_model"]) == ""
    assert _longest_common_prefix_str(["classA", "classB", "clab"]) == "cla"
    assert _group_str(["conv1_w"]) == "conv1_w"


def test_catalog():
    base = "https://dl.fbaipublicfiles.com/detectron"
    assert ModelCatalog.get("ImageNetPretrained/FAIR/X-101-64x4d") == (
        f"{base}/ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl"
    )
    assert ModelCatalog.get("Caffe2Detectron/COCO/35998355/rpn_R-50-C4_1x") == (
        f"{base}/35998355/12_2017_baselines/rpn_R-50-C4_1x.yaml.08_00_43.njH5oD9L/output/train/"
        "coco_2014_train%3Acoco_2014_valminusminival/rpn/model_final.pkl"
    )
    keypoints = ModelCatalog.get("Caffe2Detectron/COCO/37697547/e2e_keypoint_rcnn_R-50-FPN_1x")
    assert "train/keypoints_coco_2014_train%3A" in keypoints
    assert keypoints.endswith("/generalized_rcnn/model_final.pkl")


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_a_misspelt_model_is_named(error):
    with pytest.raises(
        error, match="'ImageNetPretrained/MSRA/R50'; did you mean 'ImageNetPretrain"
    ):
        ModelCatalog.get("ImageNetPretrained/MSRA/R50")


def test_the_path_manager_knows_the_catalog():
    with pytest.raises(RuntimeError, match="unknown model in the catalog 'ImageNetPretrained/R-5"):
        PathManager.get_local_path("catalog://ImageNetPretrained/R-50")


def test_catalog_addresses_are_resolved(monkeypatch, tmp_path):
    file = tmp_path / "R-50.pkl"
    file.write_bytes(b"weights")
    asked = []
    monkeypatch.setattr(
        PathManager, "get_local_path", lambda path, **_: asked.append(path) or str(file)
    )
    handler = ModelCatalogHandler()

    assert handler._get_supported_prefixes() == ["catalog://"]
    with handler._open("catalog://ImageNetPretrained/MSRA/R-50", "rb") as opened:
        assert opened.read() == b"weights"
    assert asked == ["https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-50.pkl"]
