"""Write parts of ones own and let a config name them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling import (
    BACKBONE_REGISTRY,
    ROI_HEADS_REGISTRY,
    Backbone,
    StandardROIHeads,
    build_model,
)
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.roi_heads import FastRCNNOutputLayers
from retinue.structures import Boxes, Instances


@pytest.fixture
def registered():
    """Take back what a test registers, so that it can be registered again."""
    registries = (BACKBONE_REGISTRY, ROI_HEADS_REGISTRY)
    before = [dict(registry._obj_map) for registry in registries]
    yield
    for registry, old in zip(registries, before, strict=True):
        registry._obj_map.clear()
        registry._obj_map.update(old)


def test_a_new_backbone(registered, inputs):
    @BACKBONE_REGISTRY.register()
    class ToyBackbone(Backbone):
        def __init__(self, cfg, input_shape):
            super().__init__()
            self.only = nn.Conv2d(input_shape.channels, 48, 16, stride=16)

        def output_shape(self):
            return {"c4": ShapeSpec(channels=48, stride=16)}

        def forward(self, images):
            return {"c4": self.only(images)}

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "ToyBackbone"
    cfg.MODEL.RPN.IN_FEATURES = ["c4"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["c4"]
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1

    model = build_model(cfg)

    assert isinstance(model.backbone, ToyBackbone)
    sum(model(inputs).values()).backward()
    assert model.backbone.only.weight.grad.abs().sum() > 0


def test_a_backbone_may_be_a_function(registered):
    @BACKBONE_REGISTRY.register()
    def build_tiny_backbone(cfg, input_shape):
        assert input_shape.channels == len(cfg.MODEL.PIXEL_MEAN)
        return TinyBackbone()

    from retinue.modeling import build_backbone

    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"

    assert isinstance(build_backbone(cfg), TinyBackbone)


class TinyBackbone(Backbone):
    """A backbone that sets what the base class's output_shape reads."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 16, stride=16)
        self._out_features = ["c4"]
        self._out_feature_channels = {"c4": 8}
        self._out_feature_strides = {"c4": 16}

    def forward(self, x):
        return {"c4": self.conv(x)}


def test_new_roi_heads(registered, cfg, inputs):
    """Heads that predict one more number a region: how much of it is a whole object."""

    @ROI_HEADS_REGISTRY.register()
    class WholenessHeads(StandardROIHeads):
        def __init__(self, cfg, input_shape):
            super().__init__(cfg, input_shape)
            self.wholeness = nn.Linear(self.box_head.output_shape.channels, 1)

        def _forward_box(self, features, proposals):
            features = [features[f] for f in self.box_in_features]
            x = self.box_pooler(features, [p.proposal_boxes for p in proposals])
            x = self.box_head(x)
            predictions = self.box_predictor(x)
            wholeness = self.wholeness(x).squeeze(1)
            if self.training:
                losses = self.box_predictor.losses(predictions, proposals)
                losses["loss_wholeness"] = wholeness.square().mean()
                return losses
            instances, rows = self.box_predictor.inference(predictions, proposals)
            for found, row, values in zip(
                instances, rows, wholeness.split([len(p) for p in proposals]), strict=True
            ):
                found.wholeness = values[row]
            return instances

    cfg.MODEL.ROI_HEADS.NAME = "WholenessHeads"
    model = build_model(cfg)

    assert "loss_wholeness" in model(inputs)
    with torch.no_grad():
        found = model.eval()(inputs)[0]["instances"]
    assert len(found.wholeness) == len(found)


class MyRCNNOutput(FastRCNNOutputLayers):
    """A box predictor with a classification loss of its own."""

    def losses(self, predictions, proposals):
        losses = super().losses(predictions, proposals)
        labels = torch.cat([p.gt_classes for p in proposals])
        losses["loss_cls"] = F.cross_entropy(predictions[0], labels, label_smoothing=0.1)
        return losses


def test_a_box_predictor_by_instance(cfg, inputs):
    from retinue.modeling import build_backbone

    backbone = build_backbone(cfg)
    output = MyRCNNOutput(
        ShapeSpec(channels=cfg.MODEL.ROI_BOX_HEAD.FC_DIM),
        box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
        num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
    )

    roi_heads = StandardROIHeads(cfg, backbone.output_shape(), box_predictor=output)

    assert roi_heads.box_predictor is output
    assert roi_heads.box_head.output_shape.channels == output.cls_score.in_features
    boxes, labels = Boxes([[0.0, 0, 9, 9], [2, 2, 8, 8]]), torch.tensor([1, 3])
    proposals = Instances((64, 96), proposal_boxes=boxes, gt_boxes=boxes, gt_classes=labels)
    logits = torch.tensor([[0.0, 2, 0, 1], [1, 0, 0, 3]])
    losses = roi_heads.box_predictor.losses((logits, torch.zeros(2, 12)), [proposals])
    smoothed = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(losses["loss_cls"], smoothed)
    model = build_model(cfg)
    model.roi_heads = roi_heads
    assert model(inputs)["loss_cls"] > 0


def test_a_box_predictor_by_a_subclass_that_a_config_file_names(registered, cfg, inputs, tmp_path):
    @ROI_HEADS_REGISTRY.register()
    class MyStandardROIHeads(StandardROIHeads):
        def __init__(self, cfg, input_shape):
            pooled = ShapeSpec(channels=cfg.MODEL.ROI_BOX_HEAD.FC_DIM)
            super().__init__(cfg, input_shape, box_predictor=MyRCNNOutput(cfg, pooled))

    file = tmp_path / "mine.yaml"
    file.write_text("MODEL:\n  ROI_HEADS:\n    NAME: MyStandardROIHeads\n")
    cfg.merge_from_file(str(file))

    model = build_model(cfg)

    assert isinstance(model.roi_heads.box_predictor, MyRCNNOutput)
    assert model(inputs)["loss_cls"] > 0


def test_a_name_that_nobody_registered(cfg):
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbon"
    with pytest.raises(
        KeyError, match=r"did you mean 'build_resnet_fpn_backbone'.*set MODEL.BACKBONE.NAME"
    ):
        build_model(cfg)


def test_a_name_is_registered_once(registered):
    @BACKBONE_REGISTRY.register()
    class Twice(TinyBackbone):
        pass

    with pytest.raises(AssertionError, match="'Twice' was already registered"):
        BACKBONE_REGISTRY.register(Twice)
