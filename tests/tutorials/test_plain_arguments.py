"""A model without any config: from its parts, or the way torchvision's users write it."""

import pytest
import torch
from torch import nn

import retinue.torchvision as tv
from retinue.layers import ShapeSpec
from retinue.modeling import Backbone, GeneralizedRCNN
from retinue.modeling.anchor_generator import DefaultAnchorGenerator
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.matcher import Matcher
from retinue.modeling.poolers import ROIPooler
from retinue.modeling.proposal_generator.rpn import RPN, StandardRPNHead
from retinue.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    StandardROIHeads,
)


class ToyBackbone(Backbone):
    """One convolution of stride 16."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 16, stride=16)

    def forward(self, image):
        return {"c4": self.conv(image)}

    def output_shape(self):
        return {"c4": ShapeSpec(channels=8, stride=16)}


def test_faster_rcnn_from_its_parts(inputs):
    backbone = ToyBackbone()
    anchors = DefaultAnchorGenerator(sizes=[32, 64], aspect_ratios=[0.5, 1, 2], strides=[16])
    box_head = FastRCNNConvFCHead(
        ShapeSpec(channels=8, height=7, width=7), conv_dims=[], fc_dims=[32]
    )
    model = GeneralizedRCNN(
        backbone=backbone,
        proposal_generator=RPN(
            in_features=["c4"],
            head=StandardRPNHead(in_channels=8, num_anchors=6),
            anchor_generator=anchors,
            anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
            box2box_transform=Box2BoxTransform(weights=(1, 1, 1, 1)),
            batch_size_per_image=64,
            positive_fraction=0.5,
            pre_nms_topk=(100, 100),
            post_nms_topk=(20, 20),
        ),
        roi_heads=StandardROIHeads(
            num_classes=3,
            batch_size_per_image=16,
            positive_fraction=0.25,
            proposal_matcher=Matcher([0.5], [0, 1]),
            box_in_features=["c4"],
            box_pooler=ROIPooler(7, (1 / 16,), 2, "ROIAlignV2"),
            box_head=box_head,
            box_predictor=FastRCNNOutputLayers(
                box_head.output_shape,
                box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
                num_classes=3,
            ),
        ),
        pixel_mean=[103.53, 116.28, 123.675],
        pixel_std=[1.0, 1.0, 1.0],
        input_format="BGR",
    )

    sum(model(inputs).values()).backward()
    with torch.no_grad():
        found = model.eval()(inputs)[0]["instances"]

    assert found.image_size == (64, 96)


class Features(nn.Module):
    """Any module will do as a backbone; torchvision asks for out_channels."""

    out_channels = 8

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 16, stride=16)

    def forward(self, x):
        return self.conv(x)


def test_faster_rcnn_as_torchvisions_users_write_it():
    anchors = tv.AnchorGenerator(sizes=((32, 64),), aspect_ratios=((0.5, 1.0, 2.0),))
    pool = tv.MultiScaleRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2)
    model = tv.FasterRCNN(
        Features(), num_classes=2, rpn_anchor_generator=anchors, box_roi_pool=pool, min_size=64
    )
    images = [torch.rand(3, 64, 80), torch.rand(3, 70, 64)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4, 40, 44]]), "labels": torch.tensor([1])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]

    sum(model(images, targets).values()).backward()
    with torch.no_grad():
        found = model.eval()(images)

    assert [sorted(f) for f in found] == [["boxes", "labels", "scores"]] * 2


def test_anchors_that_do_not_fit_are_refused_before_anything_runs():
    anchors = tv.AnchorGenerator(sizes=((32,), (64,), (128,), (256,), (512,)))
    with pytest.raises(ValueError, match=r"sizes for 5 feature maps.*returns 1"):
        tv.FasterRCNN(Features(), num_classes=2, rpn_anchor_generator=anchors)


def test_anchors_that_do_not_fit_the_parts_are_refused_too():
    two_levels = DefaultAnchorGenerator(sizes=[[32], [64]], aspect_ratios=[1], strides=[16, 32])
    with pytest.raises(ValueError, match="2"):
        RPN(
            in_features=["c4"],
            head=StandardRPNHead(in_channels=8, num_anchors=1),
            anchor_generator=two_levels,
            anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1]),
            box2box_transform=Box2BoxTransform(weights=(1, 1, 1, 1)),
            batch_size_per_image=64,
            positive_fraction=0.5,
            pre_nms_topk=(100, 100),
            post_nms_topk=(20, 20),
        )
