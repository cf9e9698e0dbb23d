"""torchvision's names of weights; whole models are beside theirs in tests/interop."""

import pytest
import torch

from retinue.checkpoint.names_torchvision import (
    convert_torchvision_names,
    is_torchvision_detector,
    rename_torchvision_parts,
)

RPN = {"rpn.head.cls_logits.weight": torch.zeros(3, 4, 1, 1)}


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("backbone.body.conv1.weight", "backbone.bottom_up.stem.conv1.weight"),
        ("backbone.body.bn1.running_var", "backbone.bottom_up.stem.conv1.norm.running_var"),
        ("backbone.body.layer3.5.conv2.weight", "backbone.bottom_up.res4.5.conv2.weight"),
        ("backbone.body.layer1.0.bn3.bias", "backbone.bottom_up.res2.0.conv3.norm.bias"),
        ("backbone.body.layer2.0.downsample.0.weight", "backbone.bottom_up.res3.0.shortcut.weight"),
        (
            "backbone.body.layer2.0.downsample.1.bias",
            "backbone.bottom_up.res3.0.shortcut.norm.bias",
        ),
        ("backbone.fpn.inner_blocks.3.0.weight", "backbone.fpn_lateral5.weight"),
        ("backbone.fpn.layer_blocks.0.bias", "backbone.fpn_output2.bias"),  # an older file
        ("backbone.fpn.layer_blocks.0.1.weight", "backbone.fpn_output2.norm.weight"),
        ("rpn.head.conv.0.0.weight", "proposal_generator.rpn_head.conv.weight"),
        ("rpn.head.conv.bias", "proposal_generator.rpn_head.conv.bias"),  # an older file
        ("rpn.head.bbox_pred.bias", "proposal_generator.rpn_head.anchor_deltas.bias"),
        ("roi_heads.box_head.fc7.weight", "roi_heads.box_head.fc2.weight"),
        ("roi_heads.box_head.2.0.weight", "roi_heads.box_head.conv3.weight"),
        ("roi_heads.box_head.2.1.bias", "roi_heads.box_head.conv3.norm.bias"),
        ("roi_heads.box_head.5.weight", "roi_heads.box_head.fc1.weight"),
        ("roi_heads.mask_head.1.0.weight", "roi_heads.mask_head.mask_fcn2.weight"),
        ("roi_heads.mask_head.mask_fcn2.weight", "roi_heads.mask_head.mask_fcn2.weight"),
        ("roi_heads.mask_predictor.conv5_mask.bias", "roi_heads.mask_head.deconv.bias"),
        ("roi_heads.keypoint_head.14.weight", "roi_heads.keypoint_head.conv_fcn8.weight"),
        (
            "roi_heads.keypoint_predictor.kps_score_lowres.weight",
            "roi_heads.keypoint_head.score_lowres.weight",
        ),
    ],
)
def test_names(theirs, name):
    converted, old_names = convert_torchvision_names({**RPN, theirs: torch.zeros(8, 8, 1, 1)})

    assert old_names[name] == theirs
    assert name in converted


def test_a_pyramid_of_three_begins_at_stride_8():
    blocks = {f"backbone.fpn.inner_blocks.{i}.0.weight": torch.zeros(1) for i in range(3)}

    assert list(rename_torchvision_parts(blocks)[0]) == [
        f"backbone.fpn_lateral{k}.weight" for k in (3, 4, 5)
    ]


def test_several_convolutions_of_the_proposal_network_are_numbered():
    convs = {f"rpn.head.conv.{i}.0.weight": torch.zeros(1) for i in range(2)}

    assert list(rename_torchvision_parts(convs)[0]) == [
        f"proposal_generator.rpn_head.conv.conv{i}.weight" for i in range(2)
    ]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("conv.1.0", "2"),  # convolution and ReLU, counted together
        ("conv.2", "2"),  # an older file counts as we do
    ],
)
def test_layers_of_retinanets_head_are_counted_one_by_one(theirs, ours):
    state = {
        "head.classification_head.cls_logits.weight": torch.zeros(9, 1),
        "head.regression_head.bbox_reg.bias": torch.zeros(36),
        f"head.regression_head.{theirs}.bias": torch.zeros(1),
    }

    assert f"head.bbox_subnet.{ours}.bias" in convert_torchvision_names(state)[0]


def test_with_norms_there_are_three_layers_and_biases_of_zero():
    state = {
        "head.classification_head.cls_logits.weight": torch.zeros(9, 1),
        "head.regression_head.bbox_reg.bias": torch.zeros(36),
        "head.classification_head.conv.0.1.weight": torch.ones(5),
        "head.classification_head.conv.1.0.weight": torch.ones(5, 5, 3, 3),
    }

    converted, _ = convert_torchvision_names(state)

    assert {"head.cls_subnet.1.weight", "head.cls_subnet.3.weight"} <= set(converted)
    assert converted["head.cls_subnet.3.bias"].tolist() == [0] * 5


def test_background_goes_from_first_to_last():
    state = RPN | {
        "roi_heads.box_predictor.cls_score.bias": torch.tensor([0.0, 1, 2]),
        "roi_heads.box_predictor.bbox_pred.bias": torch.arange(12.0),
        "roi_heads.mask_predictor.mask_fcn_logits.bias": torch.tensor([0.0, 1, 2]),
    }

    converted, _ = convert_torchvision_names(state)

    assert converted["roi_heads.box_predictor.cls_score.bias"].tolist() == [1, 2, 0]
    assert converted["roi_heads.box_predictor.bbox_pred.bias"].tolist() == list(range(4, 12))
    assert converted["roi_heads.mask_head.predictor.bias"].tolist() == [1, 2]


def test_anchors_are_ordered_by_size_first():
    """Two sizes, three ratios, one class: there ratio by ratio, here size by size."""
    state = {
        "head.classification_head.cls_logits.weight": torch.zeros(6, 1),
        "head.classification_head.cls_logits.bias": torch.arange(6.0),
        "head.regression_head.bbox_reg.bias": torch.arange(24.0),
    }

    converted, _ = convert_torchvision_names(state)

    assert converted["head.cls_score.bias"].tolist() == [0, 2, 4, 1, 3, 5]
    assert converted["head.bbox_pred.bias"][4:8].tolist() == [8, 9, 10, 11]


def test_names_of_others_are_refused():
    assert not is_torchvision_detector(["conv1.weight", "layer1.0.conv1.weight"])
    with pytest.raises(ValueError, match=r"of a detector of torchvision.*got \['conv1.weight'\]"):
        convert_torchvision_names({"conv1.weight": torch.zeros(1)})
