import pytest
import torch
from torch import nn

from retinue.layers import FrozenBatchNorm2d
from retinue.modeling.backbone import RegNet, regnet
from retinue.utils.errors import InputError


def small_net(**kwargs):
    options = {
        "stem_class": regnet.SimpleStem,
        "stem_width": 8,
        "block_class": regnet.ResBottleneckBlock,
        "depths": [1, 2],
        "widths": [8, 16],
        "group_widths": [4, 4],
        "strides": [2, 2],
        "bottleneck_ratios": [1.0, 1.0],
        "se_ratio": 0.0,
        "activation_class": nn.ReLU,
    }
    return regnet.AnyNet(**options | kwargs)


def test_widths_and_depths_are_the_published_ones():
    """RegNetX-4GF: table 11 of the paper, widths 80, 240, 560, 1360 and depths 2, 5, 14, 2."""
    widths, depths, num_stages, *_ = regnet.generate_regnet_parameters(38.65, 96, 2.43, 23)
    widths, ratios, group_widths = regnet.adjust_block_compatibility(widths, [1.0] * 4, [40] * 4)

    assert (num_stages, depths) == (4, [2, 5, 14, 2])
    assert (widths, group_widths) == ([80, 240, 560, 1360], [40] * 4)
    assert ratios == [1.0] * 4


def test_wide_bottlenecks_divide_into_groups():
    """By hand: 10 * 4 = 40 channels; a multiple of lcm(16, 4) = 16 next to it is 32, or 8 wide."""
    assert regnet.adjust_block_compatibility([10], [4], [16]) == ([8], [4], [16])


def test_a_regnet_has_its_stages_on_the_meta_device():
    with torch.device("meta"):
        model = RegNet(
            stem_class=regnet.SimpleStem,
            stem_width=32,
            block_class=regnet.ResBottleneckBlock,
            depth=22,
            w_a=31.41,
            w_0=96,
            w_m=2.24,
            group_width=64,
            se_ratio=0.25,
            out_features=["s1", "s4"],
        )

    shapes = {k: (v.channels, v.stride) for k, v in model.output_shape().items()}
    assert shapes == {"s1": (128, 4), "s4": (1088, 32)}  # RegNetY-4GF
    assert model.s2.b1.f.se.f_ex[0].out_channels == 32  # a quarter of the block's input


@pytest.mark.parametrize("stem", [regnet.SimpleStem, regnet.ResStem])
@pytest.mark.parametrize(
    "block", [regnet.VanillaBlock, regnet.ResBasicBlock, regnet.ResBottleneckBlock]
)
def test_every_stem_and_block_keeps_its_word(stem, block):
    model = small_net(stem_class=stem, block_class=block, se_ratio=0.5,
                      out_features=["stem", "s1", "s2"])  # fmt: skip
    outputs = model(torch.rand(2, 3, 32, 64))

    assert list(outputs) == ["stem", "s1", "s2"]
    for name, shape in model.output_shape().items():
        assert tuple(outputs[name].shape) == (
            2, shape.channels, 32 // shape.stride, 64 // shape.stride,
        )  # fmt: skip


def test_the_last_stage_is_the_default_and_freezing_is_by_stage():
    model = small_net(freeze_at=2)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}

    assert list(model.output_shape()) == ["s2"]
    assert frozen == {n for n, _ in model.named_parameters() if n.startswith(("stem", "s1"))}
    assert isinstance(model.s1.b1.f.a_bn, FrozenBatchNorm2d)
    assert [name for _, name in model.stages_and_names] == ["s1", "s2"]


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match=r"need one value a stage; got \[1, 2, 2, 2, 2\] values"):
        small_net(depths=[1])
    with pytest.raises(InputError, match=r"must name some of \['stem', 's1', 's2'\]; got \['s3'\]"):
        small_net(out_features=["s3"])
    with pytest.raises(InputError, match="kernels must have an odd size"):
        regnet.conv2d(1, 1, 2)
    with pytest.raises(InputError, match="w_m > 1 are needed; got w_a=1, w_0=9"):
        regnet.generate_regnet_parameters(1, 9, 2, 3)
    with pytest.raises(InputError, match=r"one of each a stage; got \[8\], \[\], \[4\]"):
        regnet.adjust_block_compatibility([8], [], [4])
    with pytest.raises(AssertionError, match=r"AnyNet: x must have shape \(N, C, H, W\)"):
        small_net()(torch.rand(3, 8, 8))
