"""RetinaNet with a ResNet-50."""

from retinue.config import LazyCall as L
from retinue.layers import ShapeSpec
from retinue.modeling import FPN, ResNet, RetinaNet
from retinue.modeling.anchor_generator import DefaultAnchorGenerator
from retinue.modeling.backbone import BasicStem
from retinue.modeling.backbone.fpn import LastLevelP6P7
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.matcher import Matcher
from retinue.modeling.meta_arch.retinanet import RetinaNetHead

from ..data.constants import constants

_backbone = L(FPN)(
    bottom_up=L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=True, norm="FrozenBN"),
        out_features=["res3", "res4", "res5"],
    ),
    in_features=["res3", "res4", "res5"],
    out_channels=256,
    top_block=L(LastLevelP6P7)(in_channels=2048, out_channels="${..out_channels}"),
)

model = L(RetinaNet)(
    backbone=_backbone,
    head=L(RetinaNetHead)(
        input_shape=[ShapeSpec(channels=256) for _ in range(5)],  # one a level, p3 to p7
        num_classes="${..num_classes}",
        conv_dims=[256, 256, 256, 256],
        prior_prob=0.01,
        num_anchors=9,
    ),
    anchor_generator=L(DefaultAnchorGenerator)(
        sizes=[[x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)] for x in (32, 64, 128, 256, 512)],
        aspect_ratios=[0.5, 1.0, 2.0],
        strides=[8, 16, 32, 64, 128],
        offset=0.0,
    ),
    box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
    anchor_matcher=L(Matcher)(
        thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True
    ),
    num_classes=80,
    head_in_features=["p3", "p4", "p5", "p6", "p7"],
    focal_loss_alpha=0.25,
    focal_loss_gamma=2.0,
    pixel_mean=constants["imagenet_bgr256_mean"],
    pixel_std=constants["imagenet_bgr256_std"],
    input_format="BGR",
)
