import pytest
import torch
import torch.nn.functional as F

from retinue.layers.winograd import winograd_conv3x3, winograd_weight


def case(num, channels, out_channels, height, width, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = (num, channels, height, width), (out_channels, channels, 3, 3), (out_channels,)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


@pytest.mark.parametrize(
    ("num", "height", "width"),
    [(1, 4, 4), (2, 1, 1), (1, 5, 11), (3, 14, 14), (1, 37, 130), (40, 7, 7), (0, 8, 8), (1, 0, 4)],
)
@pytest.mark.parametrize("relu", [False, True])
def test_it_is_a_convolution(num, height, width, relu):
    x, weight, bias = case(num, 3, 5, height, width)
    expected = F.conv2d(x, weight, bias, padding=1) if height else x.new_empty(num, 5, 0, width)

    got = winograd_conv3x3(x, winograd_weight(weight), bias, relu=relu)

    torch.testing.assert_close(got, expected.relu() if relu else expected, rtol=1e-11, atol=1e-11)


def test_the_error_of_float32_is_small():
    x, weight, bias = case(1, 256, 64, 32, 32)
    exact = F.conv2d(x, weight, bias, padding=1)
    x = x.float().contiguous(memory_format=torch.channels_last)
    got = winograd_conv3x3(x, winograd_weight(weight.float()), bias.float())

    assert got.is_contiguous(memory_format=torch.channels_last)
    assert (got - exact).abs().max() < 5e-6 * exact.abs().max()


def test_without_a_bias():
    x, weight, _ = case(1, 3, 5, 6, 6)

    torch.testing.assert_close(
        winograd_conv3x3(x, winograd_weight(weight)), F.conv2d(x, weight, padding=1)
    )


def test_gradients_reach_the_input():
    x, weight, bias = case(1, 2, 3, 5, 6)
    weight = winograd_weight(weight)

    assert torch.autograd.gradcheck(
        lambda x: winograd_conv3x3(x, weight, bias), x.requires_grad_(), fast_mode=True
    )


def test_wrong_input_is_named():
    x, weight, _ = case(1, 3, 5, 6, 6)
    with pytest.raises(ValueError, match=r"weight must have shape \(D, C, 3, 3\)"):
        winograd_weight(torch.zeros(5, 3, 1, 1))
    with pytest.raises(ValueError, match=r"x must have shape \(N, 3, H, W\); got \(1, 4, 6, 6\)"):
        winograd_conv3x3(torch.zeros(1, 4, 6, 6), winograd_weight(weight))
    with pytest.raises(ValueError, match="must be float32 or float64; got torch"):
        winograd_conv3x3(x.bfloat16(), winograd_weight(weight))
