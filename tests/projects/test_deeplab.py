"""DeepLab's loss, schedule, backbone and heads, by hand and by what they promise."""

import math

import pytest
import torch
from torch.nn import functional as F

from retinue.layers import ShapeSpec
from retinue.projects import get_config
from retinue.projects.deeplab import DeepLabV3Head, DeepLabV3PlusHead, build_lr_scheduler
from retinue.projects.deeplab.loss import DeepLabCE, make_pixel_loss
from retinue.projects.deeplab.lr_scheduler import WarmupPolyLR
from retinue.projects.deeplab.resnet import DeepLabStem, build_resnet_deeplab_backbone
from retinue.projects.deeplab.training import build_sem_seg_train_aug

BASE = "projects/DeepLab/configs/Cityscapes-SemanticSegmentation/Base-DeepLabV3-OS16-Semantic.yaml"


def test_hard_pixels_are_the_ones_with_the_largest_loss():
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(1, 1, 2, 2) * torch.tensor(
        [1.0, -1.0]
    ).reshape(1, 2, 1, 1)
    labels = torch.ones(1, 2, 2, dtype=torch.long)  # the class whose logit is -x: loss grows with x
    each = [F.softplus(torch.tensor(2.0 * x)).item() for x in range(4)]

    assert DeepLabCE()(logits, labels).item() == pytest.approx(sum(each) / 4)
    assert DeepLabCE(-1, 0.5)(logits, labels).item() == pytest.approx((each[2] + each[3]) / 2)
    weights = torch.tensor([[[10.0, 0, 0, 0]]]).reshape(1, 2, 2)
    assert DeepLabCE()(logits, labels, weights).item() == pytest.approx(10 * each[0] / 4)
    labels[0, 0, 0] = 255  # costs nothing, and counts in the mean
    assert DeepLabCE(255)(logits, labels).item() == pytest.approx(sum(each[1:]) / 4)


def test_plain_cross_entropy_takes_weights_too():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    loss = make_pixel_loss("cross_entropy", 255)

    assert loss(logits, labels) == F.cross_entropy(logits, labels)
    torch.testing.assert_close(loss(logits, labels, torch.ones(2, 4, 4)), loss(logits, labels))
    with pytest.raises(ValueError, match=r"unknown MODEL\.SEM_SEG_HEAD\.LOSS_TYPE 'hard_pixels'"):
        make_pixel_loss("hard_pixels", 255)


def rates(scheduler, optimizer, count):
    for _ in range(count):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()


def test_the_rate_is_a_power_of_what_is_left():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = WarmupPolyLR(optimizer, 10, 0.5, 2, power=2.0, constant_ending=0.09)
    want = [2 * w * max((1 - i / 10) ** 2, 0.09) for i, w in enumerate([0.5, 0.75, *[1.0] * 8])]

    assert list(rates(schedule, optimizer, 10)) == pytest.approx(want)


def test_other_schedules_are_the_librarys():
    cfg = get_config(BASE)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    assert isinstance(build_lr_scheduler(cfg, optimizer), WarmupPolyLR)
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    assert not isinstance(build_lr_scheduler(cfg, optimizer), WarmupPolyLR)


def test_the_stem_has_stride_4_and_no_negative_outputs():
    x = DeepLabStem(3, 8, "")(torch.randn(2, 3, 32, 48))
    assert x.shape == (2, 8, 8, 12)
    assert x.min() >= 0


def resnet_cfg(**changes):
    cfg = get_config(BASE)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_deeplab_backbone"
    for key, value in changes.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


@pytest.mark.parametrize(
    ("res4", "res5", "stride", "dilations"),
    [(1, 2, 16, [2, 4, 8]), (2, 4, 8, [4, 8, 16]), (1, 1, 32, [1, 2, 4])],
)
def test_dilation_takes_the_place_of_strides(res4, res5, stride, dilations):
    """RES5_MULTI_GRID (1, 2, 4) times RES5_DILATION."""
    cfg = resnet_cfg(RES4_DILATION=res4, RES5_DILATION=res5)
    with torch.device("meta"):
        backbone = build_resnet_deeplab_backbone(cfg, ShapeSpec(channels=3))

    assert backbone.output_shape()["res5"].stride == stride
    assert [block.conv2.dilation[0] for block in backbone.res5] == dilations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"STEM_TYPE": "deplab"}, "unknown MODEL.RESNETS.STEM_TYPE 'deplab'; did you mean"),
        ({"DEPTH": 18}, "unknown MODEL.RESNETS.DEPTH of DeepLab '18'; known names: 101, 152, 50"),
        ({"RES4_DILATION": 2}, "RES4_DILATION 1 with RES5_DILATION 1, 2 or 4, or 2 with 4; got 2"),
    ],
)
def test_wrong_backbones_are_named(changes, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_resnet_deeplab_backbone(resnet_cfg(**changes), ShapeSpec(channels=3))


SHAPES = {
    "res2": ShapeSpec(channels=6, stride=4),
    "res5": ShapeSpec(channels=8, stride=16),
}
ASPP = {"aspp_dilations": [1, 2, 3], "aspp_dropout": 0.0, "norm": "", "train_size": None}


def features(size=64):
    return {
        k: torch.randn(2, s.channels, size // s.stride, size // s.stride) for k, s in SHAPES.items()
    }


@pytest.mark.parametrize("separable", [False, True])
def test_heads_from_plain_arguments(separable):
    plus = DeepLabV3PlusHead(
        SHAPES,
        project_channels=[3],
        decoder_channels=[5, 7],
        common_stride=4,
        num_classes=4,
        use_depthwise_separable_conv=separable,
        **ASPP,
    )
    plain = DeepLabV3Head(
        {"res5": SHAPES["res5"]}, aspp_channels=7, num_classes=4, common_stride=16, **ASPP
    )
    labels = torch.randint(4, (2, 64, 64))
    for head in (plus, plain):
        assert head.eval()(features())[0].shape == (2, 4, 64, 64)
        nothing, losses = head.train()(features(), labels)
        assert nothing is None
        assert losses["loss_sem_seg"].item() == pytest.approx(math.log(4), rel=0.05)


def test_channels_that_do_not_fit_are_named():
    with pytest.raises(AssertionError, match=r"\['res2', 'res5'\] need 1 project channels and 2"):
        DeepLabV3PlusHead(
            SHAPES, project_channels=[], decoder_channels=[5], common_stride=4, **ASPP
        )
    with pytest.raises(AssertionError, match=r"must name one feature map.*got"):
        DeepLabV3Head(SHAPES, aspp_channels=7, num_classes=4, common_stride=16, **ASPP)


def test_crops_that_do_not_fit_are_named():
    cfg = get_config(BASE)
    cfg.INPUT.CROP.SIZE = [500, 1024]
    with pytest.raises(ValueError, match=r"CROP.SIZE must be divisible by .* 16; got \(500, 1024"):
        DeepLabV3Head(cfg, {"res5": SHAPES["res5"]})
    cfg.INPUT.CROP.TYPE = "relative"
    with pytest.raises(
        AssertionError, match=r"INPUT\.CROP\.TYPE must be 'absolute'; got 'relative'"
    ):
        DeepLabV3Head(cfg, {"res5": SHAPES["res5"]})


def test_augmentations_follow_the_config():
    cfg = get_config(BASE)
    names = [type(a).__name__ for a in build_sem_seg_train_aug(cfg)]
    assert names == ["ResizeShortestEdge", "RandomCrop_CategoryAreaConstraint", "RandomFlip"]
    cfg.INPUT.CROP.ENABLED = False
    assert len(build_sem_seg_train_aug(cfg)) == 2
