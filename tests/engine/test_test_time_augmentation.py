"""Versions of an image, and what is merged from them."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from retinue.config import get_cfg
from retinue.engine.test_time_augmentation import DatasetMapperTTA, GeneralizedRCNNWithTTA
from retinue.modeling import build_model
from retinue.structures import Boxes, Instances


def make_input(height=32, width=48, out_hw=(64, 96)):
    pixels = torch.arange(height * width * 3, dtype=torch.int32) % 251
    image = pixels.reshape(3, height, width).to(torch.uint8)
    return {"image": image, "height": out_hw[0], "width": out_hw[1], "image_id": 7}


class TestVersions:
    def test_sizes_and_mirrors(self):
        versions = DatasetMapperTTA([32, 64], 1000, True)(make_input())
        assert [tuple(v["image"].shape[1:]) for v in versions] == [(32, 48)] * 2 + [(64, 96)] * 2
        assert torch.equal(versions[1]["image"], versions[0]["image"].flip(2))
        assert {v["image_id"] for v in versions} == {7}
        assert len(DatasetMapperTTA([32, 64], 1000, False)(make_input())) == 2

    def test_transforms_lead_there_from_the_original(self):
        """By hand: the original is 64 x 96, a version half as large, and mirrored."""
        for out_hw, scale in (((64, 96), 0.5), ((32, 48), 1.0)):
            item = make_input(out_hw=out_hw)
            plain, mirrored = DatasetMapperTTA([32], 1000, True)(item)
            box = np.array([[10.0, 20.0, 30.0, 24.0]])
            moved = box * scale
            np.testing.assert_allclose(plain["transforms"].apply_box(box), moved)
            expected = [[48 - moved[0, 2], moved[0, 1], 48 - moved[0, 0], moved[0, 3]]]
            np.testing.assert_allclose(mirrored["transforms"].apply_box(box), expected)

    def test_from_a_config(self):
        cfg = get_cfg()
        cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP = (5, 6), False
        mapper = DatasetMapperTTA(cfg)
        assert (mapper.min_sizes, mapper.max_size, mapper.flip) == ((5, 6), 4000, False)


@pytest.fixture(scope="module")
def cfg():
    """A Mask R-CNN small enough for a test."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.MODEL.MASK_ON = "cpu", True
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = [f"res{k}" for k in (2, 3, 4, 5)]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 10
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "StandardROIHeads", 2
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 1, 4
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = (32, 48), 100
    return cfg


@pytest.fixture(scope="module")
def model(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


@torch.no_grad()
def test_predictions_come_in_the_asked_size(cfg, model):
    predicted = GeneralizedRCNNWithTTA(cfg, model)([make_input()])[0]["instances"]

    assert predicted.image_size == (64, 96)
    assert 0 < len(predicted) <= 5
    assert predicted.pred_masks.shape[1:] == (64, 96)
    assert (predicted.scores[:-1] >= predicted.scores[1:]).all()
    assert model.roi_heads.mask_on


@torch.no_grad()
def test_one_version_predicts_as_the_model_does(cfg, model):
    """The version is the image itself, so that merging has nothing to merge."""
    item = make_input(out_hw=(32, 48))
    same = DatasetMapperTTA([32], 1000, False)
    got = GeneralizedRCNNWithTTA(cfg, model, same)([item])[0]["instances"]
    expected = model([item])[0]["instances"]

    torch.testing.assert_close(got.pred_boxes.tensor, expected.pred_boxes.tensor)
    torch.testing.assert_close(got.scores, expected.scores)
    assert torch.equal(got.pred_masks, expected.pred_masks)


@torch.no_grad()
def test_a_file_alone_will_do(cfg, model, tmp_path):
    item = make_input(out_hw=(32, 48))
    path = tmp_path / "a.png"
    Image.fromarray(item["image"].permute(1, 2, 0).numpy()[:, :, ::-1].copy()).save(path)
    tta = GeneralizedRCNNWithTTA(cfg, model)
    got, expected = tta([{"file_name": str(path)}, item])

    boxes = [out["instances"].pred_boxes.tensor for out in (got, expected)]
    torch.testing.assert_close(*boxes)


def test_merging_keeps_the_best_of_a_class(cfg, model):
    """By hand: two boxes nearly on each other in class 0, the same place again in class 1."""
    boxes = torch.tensor([[0, 0, 20, 20], [0, 0, 20, 21], [0, 0, 20, 20]], dtype=torch.float32)
    scores, classes = torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 0, 1])
    tta = GeneralizedRCNNWithTTA(cfg, model)
    merged = tta._merge_detections(boxes, list(scores), list(classes), (64, 96))

    assert merged.scores.tolist() == pytest.approx([0.9, 0.7])
    assert merged.pred_classes.tolist() == [0, 1]
    none = tta._merge_detections(boxes[:0], scores[:0], classes[:0], (64, 96))
    assert len(none) == 0


def test_masks_are_mirrored_back(cfg, model):
    plain, mirrored = DatasetMapperTTA([32], 1000, True)(make_input())
    mask = torch.zeros(1, 1, 2, 2)
    mask[..., 0] = 1.0
    outputs = [
        Instances((32, 48), pred_masks=mask, pred_boxes=Boxes([[0, 0, 1, 1]])),
        Instances((32, 48), pred_masks=mask.flip(3), pred_boxes=Boxes([[0, 0, 1, 1]])),
    ]
    tfms = [plain["transforms"], mirrored["transforms"]]
    got = GeneralizedRCNNWithTTA(cfg, model)._reduce_pred_masks(outputs, tfms)
    assert torch.equal(got, mask)


def test_a_failure_switches_heads_on_again(cfg, model):
    tta = GeneralizedRCNNWithTTA(cfg, model)
    with pytest.raises(RuntimeError), tta._turn_off_roi_heads(["mask_on", "no_such_head"]):  # noqa: PT012
        assert not model.roi_heads.mask_on
        raise RuntimeError
    assert model.roi_heads.mask_on


def test_what_cannot_be_merged_is_refused(cfg, model):
    with pytest.raises(AssertionError, match="needs a GeneralizedRCNN; got Linear"):
        GeneralizedRCNNWithTTA(cfg, nn.Linear(1, 1))
    for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
        other = cfg.clone()
        other.MODEL[key] = True
        with pytest.raises(AssertionError, match=rf"MODEL\.{key} can't be merged"):
            GeneralizedRCNNWithTTA(other, model)


def test_the_old_path():
    from retinue.modeling import test_time_augmentation as old

    assert old.GeneralizedRCNNWithTTA is GeneralizedRCNNWithTTA
