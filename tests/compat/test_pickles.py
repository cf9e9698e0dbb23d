"""Objects that detectron2 itself pickled: read under the hook, and by the safe reader without it.

``detectron2_pickles.json`` was written with detectron2 0.6 (torch 2.13): objects by name and
protocol, compressed.
"""

import base64
import json
import pickle
import zlib
from pathlib import Path

import pytest
import torch

from retinue.config import CfgNode, get_cfg
from retinue.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    ImageList,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
)
from retinue.utils import restricted_pickle

FILES = json.loads((Path(__file__).parents[1] / "golden/detectron2_pickles.json").read_text())


def by_pickle(data):
    from retinue import compat

    compat.install()
    try:
        return pickle.loads(data)
    finally:
        compat.uninstall()


@pytest.fixture(params=[by_pickle, restricted_pickle.loads], ids=["pickle", "safe reader"])
def loads(request):
    return request.param


@pytest.fixture(params=[2, 4])
def read(request, loads):
    def read(name):
        return loads(zlib.decompress(base64.b64decode(FILES[f"{name}_{request.param}"])))

    return read


def test_instances(read):
    (found,) = read("instances")

    assert type(found) is Instances
    assert found.image_size == (20, 30)
    assert len(found) == 2
    kinds = {name: type(value) for name, value in found.get_fields().items()}
    assert kinds == {
        "pred_boxes": Boxes,
        "scores": torch.Tensor,
        "pred_classes": torch.Tensor,
        "pred_masks": BitMasks,
        "gt_masks": PolygonMasks,
        "gt_keypoints": Keypoints,
        "gt_boxes": RotatedBoxes,
    }
    best = found[found.scores > 0.3]
    assert best.pred_boxes.tensor.tolist() == [[1, 2, 3, 4]]
    assert best.pred_masks.tensor.sum() == 4
    assert best.gt_masks.area().tolist() == [8]
    assert best.gt_keypoints.tensor.shape == (1, 2, 3)
    assert best.gt_boxes.area().tolist() == [12]
    assert best.to("cpu").pred_classes.tolist() == [3]


def test_boxes(read):
    boxes = read("boxes")
    assert type(boxes) is Boxes
    assert boxes.area().tolist() == [4, 5]


def test_a_config(read):
    cfg = read("cfg")

    assert type(cfg) is type(cfg.MODEL.RPN) is CfgNode
    assert cfg.SOLVER.BASE_LR == 0.125
    assert cfg.is_frozen()
    with pytest.raises(AttributeError):
        cfg.SOLVER.BASE_LR = 1
    same = get_cfg()
    same.SOLVER.BASE_LR = 0.125
    del same["RETINUE"]
    assert cfg == same
    other = cfg.clone()
    other.defrost()
    other.merge_from_list(["MODEL.RPN.NMS_THRESH", "0.5"])
    assert other.MODEL.RPN.NMS_THRESH == 0.5


def test_dataset_dicts(read):
    (one,) = read("dicts")
    assert one["annotations"][0]["bbox_mode"] is BoxMode.XYWH_ABS


def test_a_batch_of_images(read):
    images = read("images")
    assert type(images) is ImageList
    assert images[0].shape == (3, 2, 1)
