"""The wrappers around stand-ins that follow mmdetection's conventions."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from retinue.layers import ShapeSpec
from retinue.modeling import MMDetBackbone, MMDetDetector
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError
from retinue.utils.events import EventStorage

PIXELS = {"pixel_mean": [0.0, 0, 0], "pixel_std": [2.0, 2, 2]}


class Part(nn.Conv2d):
    """A convolution that remembers that it was told to fill its weights."""

    filled = False

    def init_weights(self):
        self.filled = True


class TwoMaps(Part):
    def forward(self, x):
        return [super().forward(x), x]


class Detector(nn.Module):
    def init_weights(self):
        self.bias = nn.Parameter(torch.ones(()))

    def forward_train(self, images, metas, boxes, classes):
        self.seen = (images.shape, metas, boxes, classes)
        return {
            "loss_a": self.bias * torch.ones(4),
            "loss_b": [self.bias, self.bias],
            "acc": self.bias,
        }

    def simple_test(self, images, metas, rescale):
        self.seen = (images.shape, metas, rescale)
        boxes = [np.zeros((0, 5), np.float32), np.array([[1, 2, 3, 4, 0.5]], np.float32)]
        masks = [[], [np.ones(m["ori_shape"][:2], bool) for m in metas[:1]]]
        return [(boxes, masks), [np.zeros((0, 5), np.float32)] * 2]


def test_a_backbone_gives_its_outputs_names():
    backbone, neck = TwoMaps(3, 4, 1), nn.Identity()
    neck.init_weights = lambda: None
    shapes = [ShapeSpec(channels=4, stride=1), ShapeSpec(channels=3, stride=1)]
    model = MMDetBackbone(backbone, neck, output_shapes=shapes, output_names=["a", "b"])
    outputs = model(torch.rand(1, 3, 2, 2))

    assert backbone.filled
    assert {k: v.shape[1] for k, v in outputs.items()} == {"a": 4, "b": 3}
    assert model.output_shape() == {"a": shapes[0], "b": shapes[1]}
    assert list(MMDetBackbone(backbone, output_shapes=shapes).output_shape()) == ["out0", "out1"]


def test_a_backbone_that_does_not_keep_its_word_is_named():
    shape = [ShapeSpec(channels=4, stride=1)]
    with pytest.raises(ValueError, match=r"expected a list of 1 feature maps.*got 2"):
        MMDetBackbone(TwoMaps(3, 4, 1), output_shapes=shape)(torch.rand(1, 3, 2, 2))
    with pytest.raises(AssertionError, match="got Tensor"):
        MMDetBackbone(Part(3, 4, 1), output_shapes=shape)(torch.rand(1, 3, 2, 2))
    with pytest.raises(InputError, match=r"1 output_shapes need as many output_names; got \['a'"):
        MMDetBackbone(Part(3, 4, 1), output_shapes=shape, output_names=["a", "b"])


def test_a_config_dict_needs_mmdetection(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmdet", None)
    with pytest.raises(ImportError, match="for the backbone needs mmdet 2 and mmcv 1"):
        MMDetBackbone({"type": "ResNet"}, output_shapes=[])


def inputs(**size):
    gt = Instances((4, 6), gt_boxes=Boxes([[1, 1, 2, 3]]), gt_classes=torch.tensor([1]))
    first = {"image": torch.full((3, 4, 6), 8.0), "instances": gt} | size
    return [first, {"image": torch.ones(3, 2, 5), "instances": gt} | size]


def test_training_averages_losses_and_reports_the_rest():
    model = MMDetDetector(Detector(), **PIXELS)
    with EventStorage() as storage:
        losses = model(inputs())

    assert {k: v.item() for k, v in losses.items()} == {"loss_a": 1, "loss_b": 2}
    assert float(storage.latest()["acc"][0]) == 1
    shape, metas, boxes, classes = model.detector.seen
    assert shape == (2, 3, 32, 32)
    assert metas[0]["img_shape"] == metas[0]["ori_shape"] == (4, 6, 3)
    assert metas[0]["pad_shape"] == (32, 32, 3)
    assert (boxes[0].tolist(), classes[0].tolist()) == ([[1, 1, 2, 3]], [1])
    model.detector.forward_train = lambda *args: {"loss": 1.0}
    with pytest.raises(TypeError, match="loss must be a tensor or a list of them; got float"):
        model(inputs())


def test_inference_turns_arrays_into_instances():
    model = MMDetDetector(Detector(), **PIXELS).eval()
    first, second = (o["instances"] for o in model(inputs(height=8, width=18)))
    _, metas, rescale = model.detector.seen

    assert rescale is True
    assert metas[0]["scale_factor"].tolist() == pytest.approx([1 / 3, 1 / 2] * 2)
    assert first.image_size == (8, 18)
    assert first.pred_boxes.tensor.tolist() == [[1, 2, 3, 4]]
    assert (first.scores.tolist(), first.pred_classes.tolist()) == ([0.5], [1])
    assert first.pred_masks.shape == (1, 8, 18)
    assert len(second) == 0
    mixed = inputs()
    mixed[0] |= {"height": 4, "width": 6}
    with pytest.raises(ValueError, match="for all images, or for none"):
        model(mixed)
