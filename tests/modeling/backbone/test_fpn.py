import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.modeling.backbone import FPN, Backbone, build_backbone
from retinue.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from retinue.utils.errors import InputError, UnknownNameError


class Steps(Backbone):
    """Feature maps of one channel: "a" of stride 4 is all ones, "b" of stride 8 all tens, ..."""

    _out_features = ("a", "b", "c")
    _out_feature_channels = dict.fromkeys("abc", 1)
    _out_feature_strides = {"a": 4, "b": 8, "c": 16}  # noqa: RUF012

    def forward(self, x):
        n, _, h, w = x.shape
        sizes = {k: (n, 1, h // s, w // s) for k, s in self._out_feature_strides.items()}
        return {k: torch.full(sizes[k], 10.0**i) for i, k in enumerate("abc")}


def identity_fpn(in_features=("a", "b"), **kwargs):
    """A pyramid whose convolutions pass their input on."""
    fpn = FPN(Steps(), in_features, 1, **kwargs)
    for name, conv in fpn.named_children():
        if name.startswith("fpn_"):
            nn.init.dirac_(conv.weight)
    return fpn


def values(features):
    return {name: x.unique().tolist() for name, x in features.items()}


@pytest.mark.parametrize(("fuse_type", "finest"), [("sum", 111.0), ("avg", (1 + 110 / 2) / 2)])
def test_each_level_is_fused_with_the_one_above(fuse_type, finest):
    """By hand: 100 above, 10 + 100 below it, 1 + 110 below that; halves of the sums for avg."""
    fpn = identity_fpn("abc", fuse_type=fuse_type)
    features = fpn(torch.rand(2, 3, 32, 48))

    middle = 110.0 if fuse_type == "sum" else 55.0
    assert values(features) == {"p2": [finest], "p3": [middle], "p4": [100.0]}
    assert list(features) == ["p2", "p3", "p4"]
    assert features["p2"].shape == (2, 1, 8, 12)
    assert fpn.size_divisibility == 16


def test_output_shape_agrees_with_the_outputs():
    fpn = FPN(Steps(), ["b", "c"], 32, norm="GN", top_block=LastLevelP6P7(1, 32, "c"))
    features = fpn(torch.rand(1, 3, 64, 64))

    assert list(features) == ["p3", "p4", "p5", "p6"]
    for name, shape in fpn.output_shape().items():
        assert (shape.channels, 64 // shape.stride) == tuple(features[name].shape[1:3])


def test_a_top_block_may_take_a_level():
    top = LastLevelMaxPool()
    top.in_feature = "p4"
    fpn = identity_fpn("abc", top_block=top)

    assert values(fpn(torch.rand(1, 3, 32, 32)))["p5"] == [100.0]


def test_p7_sees_p6_through_a_relu():
    top = LastLevelP6P7(1, 1)
    for conv in (top.p6, top.p7):
        nn.init.zeros_(conv.weight)
    nn.init.constant_(top.p6.bias, -2.0)
    nn.init.constant_(top.p7.weight, 1.0)
    p6, p7 = top(torch.rand(1, 1, 8, 8))

    assert (p6.unique().tolist(), p7.unique().tolist()) == ([-2.0], [0.0])
    assert (p6.shape[2:], p7.shape[2:]) == ((4, 4), (2, 2))


def test_square_padding_is_passed_on():
    assert identity_fpn(square_pad=96).padding_constraints == {"square_size": 96}


def test_convolutions_are_listed_coarsest_first():
    fpn = identity_fpn()

    assert fpn.lateral_convs == [fpn.fpn_lateral3, fpn.fpn_lateral2]
    assert fpn.output_convs == [fpn.fpn_output3, fpn.fpn_output2]
    assert fpn.fpn_lateral2.bias is not None
    assert identity_fpn(norm="BN").fpn_lateral2.bias is None


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="bottom_up must be a Backbone; got Linear"):
        FPN(nn.Linear(1, 1), ["a"], 1)
    with pytest.raises(InputError, match="at least one feature map; got none"):
        FPN(Steps(), [], 1)
    with pytest.raises(UnknownNameError, match=r"in FPN's in_features 'd'.*bottom_up"):
        FPN(Steps(), ["d"], 1)
    with pytest.raises(AssertionError, match=r"twice the one before; got \[4, 16\]"):
        FPN(Steps(), ["a", "c"], 1)
    with pytest.raises(InputError, match="fuse_type must be 'sum' or 'avg'; got 'max'"):
        FPN(Steps(), ["a"], 1, fuse_type="max")
    with pytest.raises(UnknownNameError, match="unknown input of the FPN's top block 'p5'"):
        FPN(Steps(), ["a", "b"], 1, top_block=LastLevelMaxPool())


@pytest.mark.parametrize(
    ("name", "out", "levels"),
    [
        ("build_resnet_fpn_backbone", "res2 res3 res4 res5", "p2 p3 p4 p5 p6"),
        ("build_retinanet_resnet_fpn_backbone", "res3 res4 res5", "p3 p4 p5 p6 p7"),
    ],
)
def test_the_builders_make_their_levels(name, out, levels):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = out.split()
    with torch.device("meta"):
        backbone = build_backbone(cfg)

    assert list(backbone.output_shape()) == levels.split()
    assert {shape.channels for shape in backbone.output_shape().values()} == {256}


def test_retinanets_levels_need_res5():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    with torch.device("meta"), pytest.raises(UnknownNameError, match="feature map for p6 'res5'"):
        build_backbone(cfg)
