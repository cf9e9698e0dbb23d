import pytest
import torch
from torch import nn

from retinue.layers import ASPP, CNNBlockBase, Conv2d, DepthwiseSeparableConv2d, FrozenBatchNorm2d
from retinue.layers.weight_init import c2_msra_fill, c2_xavier_fill


class Block(CNNBlockBase):
    def __init__(self) -> None:
        super().__init__(3, 4, 2)
        self.conv = Conv2d(3, 4, 1, norm=nn.BatchNorm2d(4))


def test_freezing_a_block_stops_training_it():
    block = Block()

    assert block.freeze() is block
    assert (block.in_channels, block.out_channels, block.stride) == (3, 4, 2)
    assert isinstance(block.conv.norm, FrozenBatchNorm2d)
    assert not any(p.requires_grad for p in block.parameters())


def test_depthwise_separable_convolution_has_biases_only_without_norms():
    plain = DepthwiseSeparableConv2d(4, 6)
    normed = DepthwiseSeparableConv2d(4, 6, 5, 2, norm1="BN", norm2="BN", activation2=torch.relu)

    assert plain(torch.randn(2, 4, 7, 7)).shape == (2, 6, 7, 7)
    assert plain.depthwise.bias is not None
    assert plain.depthwise.groups == 4
    assert normed.pointwise.bias is None
    assert normed(torch.randn(2, 4, 7, 7)).min() >= 0


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("pool", [None, (4, 8)])
def test_aspp_keeps_the_size_of_its_input(separable, pool):
    aspp = ASPP(
        4,
        8,
        [1, 2, 3],
        norm="BN",
        activation=nn.ReLU(),
        pool_kernel_size=pool,
        dropout=0.1,
        use_depthwise_separable_conv=separable,
    )

    aspp.eval()  # one training image, pooled to a pixel, has no batch statistics
    assert aspp(torch.randn(2, 4, 8, 16)).shape == (2, 8, 8, 16)
    assert len(aspp.convs) == 5
    assert aspp.convs[0].bias is None
    assert aspp.convs[4][1].bias is not None
    assert aspp.convs[0].activation is not aspp.project.activation


def test_names_of_aspp_parameters():
    aspp = ASPP(2, 2, [1, 2, 3], norm="", activation=None)

    names = [f"convs.{i}.{p}" for i in range(4) for p in ("weight", "bias")]
    names += ["convs.4.1.weight", "convs.4.1.bias", "project.weight", "project.bias"]
    assert list(aspp.state_dict()) == names


def test_aspp_refuses_what_does_not_fit():
    with pytest.raises(AssertionError, match="dilations must be 3 numbers; got"):
        ASPP(2, 2, [1, 2], norm="", activation=None)
    aspp = ASPP(2, 2, [1, 2, 3], norm="", activation=None, pool_kernel_size=(3, 3))
    with pytest.raises(ValueError, match=r"must divide .* got \(3, 3\) for an input of \(4, 6\)"):
        aspp(torch.zeros(1, 2, 4, 6))


def test_initial_weights_have_caffe2s_spread():
    conv = nn.Conv2d(64, 128, 3)

    c2_xavier_fill(conv)
    bound = (3 / (64 * 9)) ** 0.5  # uniform, variance 1 / fan_in
    assert conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not conv.bias.any()

    c2_msra_fill(conv)
    assert conv.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    c2_msra_fill(nn.Conv2d(3, 4, 1, bias=False))
