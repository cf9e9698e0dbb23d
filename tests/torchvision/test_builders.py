"""Complete models by name; built on the meta device, where they take no time."""

import pytest
import torch

from retinue.checkpoint import DetectionCheckpointer
from retinue.torchvision import (
    fasterrcnn_resnet50_fpn,
    keypointrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    resnet_fpn_backbone,
    retinanet_resnet50_fpn,
)
from retinue.torchvision.backbone import look_at_backbone


@pytest.mark.parametrize(
    ("extra_levels", "strides"),
    [
        ("pool", {"0": 4, "1": 8, "2": 16, "3": 32, "pool": 64}),
        ("p6p7", {"0": 8, "1": 16, "2": 32, "p6": 64, "p7": 128}),
    ],
)
def test_feature_maps_have_torchvisions_names(extra_levels, strides):
    with torch.device("meta"):
        backbone = resnet_fpn_backbone("resnet18", out_channels=8, extra_levels=extra_levels)

    shapes = look_at_backbone(backbone, 3)
    assert {name: shape.stride for name, shape in shapes.items()} == strides
    assert {shape.channels for shape in shapes.values()} == {8}


@pytest.mark.parametrize(("trainable", "frozen"), [(5, []), (3, ["res2", "stem"]), (0, None)])
def test_stages_are_frozen_from_the_first(trainable, frozen):
    with torch.device("meta"):
        resnet = resnet_fpn_backbone("resnet18", trainable_layers=trainable).fpn.bottom_up

    got = {n.split(".")[0] for n, p in resnet.named_parameters() if not p.requires_grad}
    all_stages = ["res2", "res3", "res4", "res5", "stem"]
    assert sorted(got) == (all_stages if frozen is None else frozen)


def test_models_by_name():
    with torch.device("meta"):
        faster = fasterrcnn_resnet50_fpn(num_classes=2)
        mask = maskrcnn_resnet50_fpn(num_classes=4)
        keypoint = keypointrcnn_resnet50_fpn(num_keypoints=5)
        retinanet = retinanet_resnet50_fpn(num_classes=7)

    assert faster.roi_heads.box_predictor.cls_score.out_features == 2
    assert faster.rpn.anchor_generator.strides == [4, 8, 16, 32, 64]
    assert faster.roi_heads.box_roi_pool.featmap_names == ["0", "1", "2", "3"]
    assert mask.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 4
    assert mask.roi_heads.mask_predictor.conv5_mask.in_channels == 256
    assert keypoint.roi_heads.keypoint_predictor.kps_score_lowres.out_channels == 5
    assert retinanet.head.cls_score.out_channels == 9 * 7


def test_weights_of_the_backbone_freeze_what_they_are_for(tmp_path):
    resnet = resnet_fpn_backbone("resnet18").fpn.bottom_up
    DetectionCheckpointer(resnet, save_dir=str(tmp_path)).save("resnet")

    backbone = resnet_fpn_backbone("resnet18", weights=str(tmp_path / "resnet.pth"))

    loaded = backbone.fpn.bottom_up
    assert loaded.res4[0].conv1.weight.equal(resnet.res4[0].conv1.weight)
    assert type(loaded.res4[0].conv1.norm).__name__ == "FrozenBatchNorm2d"
    assert not loaded.res2[0].conv1.weight.requires_grad


def test_what_a_builder_cannot_do_is_said():
    with pytest.raises(KeyError, match="did you mean 'resnet50'"):
        resnet_fpn_backbone("resnet_50")
    with pytest.raises(ValueError, match="from 0 to 5; got 6"):
        resnet_fpn_backbone("resnet18", trainable_layers=6)
    with torch.device("meta"), pytest.raises(ValueError, match="a checkpoint's file or address"):
        fasterrcnn_resnet50_fpn(weights=object())
