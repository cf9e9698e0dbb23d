"""TridentNet: branches share weights, join as a batch, and merge in inference."""

import pytest
import torch
from torch.nn import functional as F

from retinue.layers import ShapeSpec
from retinue.projects import get_config
from retinue.projects.tridentnet import TridentBottleneckBlock, build_trident_resnet_backbone
from retinue.projects.tridentnet.trident_conv import TridentConv
from retinue.projects.tridentnet.trident_rcnn import merge_branch_instances
from retinue.structures import Boxes, Instances

BASE = "projects/TridentNet/configs/Base-TridentNet-Fast-C4.yaml"


def test_branches_are_one_convolution_at_several_dilations():
    conv = TridentConv(
        3, 4, 3, paddings=[1, 2], dilations=[1, 2], num_branch=2, test_branch_idx=1, bias=True
    )
    x = torch.randn(2, 3, 8, 8)
    want = [F.conv2d(x, conv.weight, conv.bias, padding=d, dilation=d) for d in (1, 2)]

    torch.testing.assert_close(conv([x, x]), want)
    torch.testing.assert_close(conv.eval()([x]), want[1:])
    assert conv([x[:0]])[0].shape == (0, 4, 8, 8)
    with pytest.raises(AssertionError, match="an input for each of 1 branches; got 2"):
        conv([x, x])
    with pytest.raises(AssertionError, match="3 branches need as many paddings and dilations"):
        TridentConv(3, 4, 3, dilations=[1, 2], num_branch=3)


def test_the_last_block_joins_the_branches():
    def block(dim_in, joins):
        return TridentBottleneckBlock(
            dim_in, 8, bottleneck_channels=4, norm="", concat_output=joins, test_branch_idx=1
        )

    stage = torch.nn.Sequential(block(6, False), block(8, True))
    x = torch.randn(2, 6, 9, 9)
    joined = stage(x)

    assert joined.shape == (6, 8, 9, 9)
    torch.testing.assert_close(stage.eval()(x), joined[2:4])  # the middle branch


def test_a_backbone_by_config():
    cfg = get_config(BASE)
    cfg.MODEL.RESNETS.NORM = ""
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    with torch.device("meta"):
        backbone = build_trident_resnet_backbone(cfg, ShapeSpec(channels=3))
        out = backbone(torch.zeros(1, 3, 64, 64))["res4"]
    assert out.shape == (3, 1024, 4, 4)
    assert [p.requires_grad for p in backbone.res2.parameters()].count(True) == 0
    assert all(p.requires_grad for p in backbone.res4.parameters())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TRIDENT.TRIDENT_STAGE", "res6", "unknown MODEL.TRIDENT.TRIDENT_STAGE 'res6'"),
        ("RESNETS.DEPTH", 34, "unknown MODEL.RESNETS.DEPTH '34'"),
        ("RESNETS.RES5_DILATION", 4, "RES5_DILATION must be 1 or 2; got 4"),
        (
            "RESNETS.DEFORM_ON_PER_STAGE",
            [False, False, True, False],
            "TRIDENT_STAGE res4 has no deformable form",
        ),
    ],
)
def test_wrong_backbones_are_named(key, value, message):
    cfg = get_config(BASE)
    cfg.merge_from_list([f"MODEL.{key}", value])
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_trident_resnet_backbone(cfg, ShapeSpec(channels=3))


def found(x, score):
    boxes = torch.tensor([[x, 0.0, x + 10, 10.0]])
    return Instances(
        (20, 40),
        pred_boxes=Boxes(boxes),
        scores=torch.tensor([score]),
        pred_classes=torch.tensor([3]),
    )


def test_detections_of_branches_become_one():
    """Two images, two branches: image 0 is seen twice, image 1 in two places."""
    per_branch = [found(0.0, 0.5), found(0.0, 0.6), found(1.0, 0.7), found(20.0, 0.9)]
    first, second = merge_branch_instances(per_branch, 2, 0.5, 10)

    assert first.scores.tolist() == pytest.approx([0.7])
    assert second.scores.tolist() == pytest.approx([0.9, 0.6])
    assert len(merge_branch_instances(per_branch, 2, 0.5, 1)[1]) == 1
    assert len(merge_branch_instances(per_branch, 2, 0.5, -1)[1]) == 2
    assert merge_branch_instances(per_branch, 1, 0.5, 1) == per_branch
