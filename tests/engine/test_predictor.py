"""Predicting on single images, from a copy that keeps up with the model."""

import numpy as np
import pytest
import torch

from retinue.config import get_cfg
from retinue.data import MetadataCatalog
from retinue.engine import DefaultPredictor
from retinue.modeling import build_model


@pytest.fixture
def cfg(tmp_path):
    """A small RetinaNet with weights in a file."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RETINANET.NUM_CLASSES, cfg.MODEL.RETINANET.NUM_CONVS = 3, 1
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [24], [32], [48], [64]]
    cfg.TEST.DETECTIONS_PER_IMAGE = 7
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 128
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "weights.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    return cfg


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (48, 96, 3), dtype=np.uint8)


def test_predictions_are_the_models(cfg, image):
    predictor = DefaultPredictor(cfg)
    got = predictor(image)["instances"]
    resized = predictor.aug.get_transform(image).apply_image(image)
    tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
    with torch.no_grad():
        inputs = {"image": tensor, "height": 48, "width": 96}
        expected = predictor.model([inputs])[0]["instances"]

    assert resized.shape == (64, 128, 3)
    assert got.image_size == (48, 96)
    torch.testing.assert_close(got.scores, expected.scores, rtol=1e-4, atol=1e-4)
    boxes = got.pred_boxes.tensor
    torch.testing.assert_close(boxes, expected.pred_boxes.tensor, rtol=1e-4, atol=1e-2)
    assert not hasattr(predictor, "metadata")


def test_channels_come_in_the_models_order(cfg, image):
    seen = []
    for order in ("BGR", "RGB"):
        cfg.INPUT.FORMAT = order
        predictor = DefaultPredictor(cfg)
        predictor.model.register_forward_pre_hook(lambda m, args: seen.append(args[0][0]["image"]))
        predictor(image)
    assert torch.equal(seen[0], seen[1].flip(0))

    cfg.INPUT.FORMAT = "L"
    with pytest.raises(AssertionError, match=r"INPUT\.FORMAT must be RGB or BGR here; got 'L'"):
        DefaultPredictor(cfg)


def test_metadata_of_the_first_test_dataset(cfg):
    cfg.DATASETS.TEST = ("coco_2017_val",)
    assert DefaultPredictor(cfg).metadata is MetadataCatalog.get("coco_2017_val")


def test_images_are_checked(cfg, image):
    with pytest.raises(ValueError, match=r"shape \(height, width, 3\); got \(48, 96\)"):
        DefaultPredictor(cfg)(image[:, :, 0])


class TestTheCopyKeepsUp:
    def test_it_is_made_once(self, cfg, image):
        predictor = DefaultPredictor(cfg)
        predictor(image)
        twin = predictor._prepared._twin
        predictor(image)
        assert predictor._prepared._twin is twin
        assert twin is not predictor.model

    def test_weights(self, cfg, image):
        predictor = DefaultPredictor(cfg)
        before = predictor(image)["instances"].scores
        with torch.no_grad():
            predictor.model.head.cls_score.bias.add_(1.0)
        assert not torch.equal(predictor(image)["instances"].scores, before)

    def test_thresholds(self, cfg, image):
        predictor = DefaultPredictor(cfg)
        before = len(predictor(image)["instances"])
        predictor.model.max_detections_per_image = 2  # one of the two lies outside the picture
        assert len(predictor(image)["instances"]) == 1 < before

    def test_hooks(self, cfg, image):
        predictor = DefaultPredictor(cfg)
        predictor(image)
        calls = []
        predictor.model.backbone.register_forward_hook(lambda *args: calls.append(1))
        predictor(image)
        assert calls == [1]


def test_what_is_no_image_is_named(cfg):
    predictor = DefaultPredictor(cfg)
    with pytest.raises(ValueError, match=r"got NoneType; cv2\.imread returns None for files"):
        predictor(None)
    with pytest.raises(ValueError, match=r"an array of shape \(height, width, 3\); got str$"):
        predictor("a.png")
