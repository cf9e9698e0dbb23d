import pytest
import torch
from torch.nn import functional as F

from reference import deform_conv as slow
from retinue.layers import DeformConv, ModulatedDeformConv, sparse_rows
from retinue.layers.deform_conv import deform_conv, modulated_deform_conv

GOLDEN = [
    "modulated_k3_s2_p2_d2_g4_dg4",
    "modulated_k3_s1_p1_d1_g2_dg1",
    "plain_k1_s1_p0_d1_g1_dg2",
]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_are_the_recorded_ones(golden_group, name, dtype, tolerance):
    case = golden_group("deform_conv")[name]
    inputs = case.inputs(dtype)
    x, offset, weight = (inputs[k] for k in ("x", "offset", "weight"))

    if name.startswith("plain"):
        out = deform_conv(x, offset, weight, **case.params)
    else:
        out = modulated_deform_conv(
            x, offset, inputs["mask"], weight, inputs["bias"], **case.params
        )

    case.check(out, inputs, tolerance)


@pytest.mark.parametrize("bag_devices", [("cpu",), ()])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups", "deformable"),
    [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 1, 2)],
)
def test_equals_the_sum_over_taps(
    monkeypatch, bag_devices, stride, padding, dilation, groups, deformable
):
    monkeypatch.setattr(sparse_rows, "_BAG_DEVICES", bag_devices)
    options = (stride, padding, dilation, groups, deformable)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    weight, bias = torch.randn(6, 4 // groups, 3, 3).double(), torch.randn(6).double()
    size = F.conv2d(x, weight, None, stride, padding, dilation, groups).shape[2:]
    offset = 3 * torch.randn(2, 18 * deformable, *size, dtype=torch.float64)
    mask = torch.rand(2, 9 * deformable, *size, dtype=torch.float64)

    out = modulated_deform_conv(x, offset, mask, weight, bias, *options)

    expected = slow.deform_conv(x, offset, mask, weight, bias, *options)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_without_offsets_it_is_a_convolution(groups):
    x, weight = torch.randn(2, 4, 7, 8), torch.randn(6, 4 // groups, 3, 3)

    out = deform_conv(x, torch.zeros(2, 18, 4, 4), weight, 2, 1, 1, groups)

    torch.testing.assert_close(out, F.conv2d(x, weight, None, 2, 1, 1, groups))


def test_images_may_be_convolved_in_steps():
    x, offset = torch.randn(3, 2, 4, 4), torch.randn(3, 18, 4, 4)
    weight = torch.randn(5, 2, 3, 3)

    stepwise = deform_conv(x, offset, weight, padding=1, im2col_step=2)

    torch.testing.assert_close(stepwise, deform_conv(x, offset, weight, padding=1))


def test_gradients_are_exact():
    inputs = [
        torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True),
        torch.randn(1, 18, 3, 3, dtype=torch.float64, requires_grad=True),
        torch.rand(1, 9, 3, 3, dtype=torch.float64, requires_grad=True),
        torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True),
        torch.randn(2, dtype=torch.float64, requires_grad=True),
    ]

    assert torch.autograd.gradcheck(
        lambda *xs: modulated_deform_conv(*xs, padding=1), inputs, fast_mode=True
    )


def test_no_images():
    x, offset, mask = torch.zeros(0, 4, 8, 8), torch.zeros(0, 18, 4, 4), torch.zeros(0, 9, 4, 4)
    plain = DeformConv(4, 6, 3, stride=2, padding=1, groups=2)
    modulated = ModulatedDeformConv(4, 6, 3, stride=2, padding=1)

    assert plain(x, offset).shape == (0, 6, 4, 4)
    modulated(x, offset, mask).sum().backward()
    assert not modulated.weight.grad.any()


def test_modules_apply_norm_and_activation():
    layer = ModulatedDeformConv(
        2, 4, 3, padding=1, norm=torch.nn.BatchNorm2d(4), activation=torch.relu
    )
    x, offset, mask = torch.randn(2, 2, 5, 5), torch.randn(2, 18, 5, 5), torch.rand(2, 9, 5, 5)

    out = layer(x, offset, mask)

    plain = modulated_deform_conv(x, offset, mask, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(out, layer.norm(plain).relu())
    assert set(layer.state_dict()) >= {"weight", "bias", "norm.weight"}
    assert "bias=True" in repr(layer)
    assert list(DeformConv(2, 4, 3).state_dict()) == ["weight"]
    assert ModulatedDeformConv(2, 4, 3, bias=False).bias is None


def test_positions_are_precise_in_half_precision():
    """In bf16 a position of 200.3 would become 200; the offset's own rounding is all there is."""
    x = torch.arange(256.0).expand(1, 1, 1, 256)
    offset = torch.zeros(1, 2, 1, 256)
    offset[:, 1] = 0.4

    out = deform_conv(x.bfloat16(), offset.bfloat16(), torch.ones(1, 1, 1, 1).bfloat16())

    assert out[0, 0, 0, 100].item() == 100.5  # 100.4, rounded to bf16
    assert out.dtype == torch.bfloat16


def test_meta_tensors_have_shapes():
    layer = ModulatedDeformConv(4, 6, 3, padding=1).to("meta")
    x = torch.empty(2, 4, 8, 8, device="meta")

    assert layer(x, x.new_empty(2, 18, 8, 8), x.new_empty(2, 9, 8, 8)).shape == (2, 6, 8, 8)


def test_wrong_arguments_are_named():
    x, weight = torch.zeros(1, 4, 5, 5), torch.zeros(2, 4, 3, 3)
    with pytest.raises(ValueError, match=r"input must have shape \(N, C, H, W\)"):
        deform_conv(x[0], torch.zeros(1, 18, 3, 3), weight)
    with pytest.raises(ValueError, match=r"offset must have shape \(1, 18, 3, 3\); got"):
        deform_conv(x, torch.zeros(1, 18, 5, 5), weight)
    with pytest.raises(ValueError, match=r"mask must have shape \(1, 9, 3, 3\); got"):
        modulated_deform_conv(x, torch.zeros(1, 18, 3, 3), torch.zeros(1, 9, 5, 5), weight)
    with pytest.raises(ValueError, match="don't divide 4 input channels"):
        deform_conv(x, torch.zeros(1, 18, 3, 3), weight, groups=2)
    with pytest.raises(AssertionError, match="groups must divide"):
        DeformConv(3, 4, 3, groups=2)
    with pytest.raises(AssertionError, match="bias must be False"):
        DeformConv(4, 4, 3, bias=True)
