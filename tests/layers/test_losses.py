import math

import pytest
import torch
from torch.nn import functional as F

from retinue.layers import losses

GOLDEN = {
    "smooth_l1_0.1111_none": losses.smooth_l1_loss,
    "giou_none": losses.giou_loss,
    "diou_none": losses.diou_loss,
    "ciou_none": losses.ciou_loss,
    "focal_a0.25_g2.0_none": losses.sigmoid_focal_loss,
    "focal_star": losses.sigmoid_focal_loss_star_jit,
}
BOX_LOSSES = [losses.giou_loss, losses.diou_loss, losses.ciou_loss]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_are_the_recorded_ones(golden_group, name, dtype, tolerance):
    case = golden_group("losses")[name]
    inputs = case.inputs(dtype)

    case.check(GOLDEN[name](*inputs.values(), **case.params), inputs, tolerance)


@pytest.mark.parametrize(("function", "apart"), [(losses.giou_loss, 1.5), (losses.diou_loss, 1.25)])
def test_boxes_that_meet_at_a_corner(function, apart):
    """Unit squares: IoU 0, half of the hull is empty, centres 2 of 8 apart (squared)."""
    square = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)

    assert function(square, square + 1).item() == pytest.approx(apart, abs=1e-6)
    assert function(square, square).item() == pytest.approx(0, abs=1e-6)


def test_ciou_counts_the_aspect_ratio():
    """By hand: IoU 1/2, centres 0.5 apart, hull 2 x 2, aspect ratios 1 and 1/2."""
    square = torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64)
    half = torch.tensor([0.0, -1, 1, 1], dtype=torch.float64)

    v = 4 / math.pi**2 * (math.atan(1) - math.atan(0.5)) ** 2
    expected = 0.5 + 0.25 / 8 + v * v / (0.5 + v)
    assert losses.ciou_loss(square, half).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("function", BOX_LOSSES)
def test_reductions_and_no_boxes(make_boxes, function):
    a, b = make_boxes(6, seed=1), make_boxes(6, seed=2)
    each = function(a, b)

    assert function(a, b, "sum").item() == pytest.approx(each.sum().item())
    assert function(a, b, "mean").item() == pytest.approx(each.mean().item())
    empty = a[:0].requires_grad_()
    loss = function(empty, b[:0], "mean")
    loss.backward()
    assert loss.item() == 0
    assert empty.grad.shape == (0, 4)


@pytest.mark.parametrize("function", BOX_LOSSES)
def test_gradients_of_boxes_are_exact(make_boxes, function):
    a, b = (
        make_boxes(4, size=20, largest=15, seed=3).requires_grad_(),
        make_boxes(4, size=20, seed=4),
    )
    gradient_of_weight_is_dropped = function is losses.ciou_loss

    if not gradient_of_weight_is_dropped:
        assert torch.autograd.gradcheck(lambda a: function(a, b), a)
    function(a, b, "sum").backward()
    assert a.grad.isfinite().all()


def test_smooth_l1_is_quadratic_then_linear():
    x = torch.tensor([0.0, 0.5, 1.0, 3.0])

    assert losses.smooth_l1_loss(x, torch.zeros(4), 1.0).tolist() == [0, 0.125, 0.5, 2.5]
    assert losses.smooth_l1_loss(x, torch.zeros(4), 0.0).tolist() == [0, 0.5, 1, 3]
    assert losses.smooth_l1_loss(x, torch.zeros(4), 2.0, "sum").item() == 0.0625 + 0.25 + 2
    assert losses.smooth_l1_loss(x[:0], x[:0], 1.0, "mean").item() == 0


def test_focal_loss_with_gamma_0_is_cross_entropy():
    logits, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()

    out = losses.sigmoid_focal_loss(logits, targets, gamma=0, reduction="mean")

    expected = F.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(out, expected)


def test_focal_loss_by_hand():
    """At logit 0, p = 1/2: (1/2)^2 * log 2, times alpha or 1 - alpha."""
    logits, targets = torch.zeros(2), torch.tensor([1.0, 0.0])

    out = losses.sigmoid_focal_loss_jit(logits, targets, alpha=0.25)

    expected = [0.25 * math.log(2) / 4, 0.75 * math.log(2) / 4]
    assert out.tolist() == pytest.approx(expected)
    star = losses.sigmoid_focal_loss_star(logits, targets, gamma=2)
    assert star.tolist() == pytest.approx([math.log(2) / 2] * 2)


def test_half_precision_logits_are_computed_in_float32():
    logits, targets = torch.randn(9).bfloat16(), torch.ones(9).bfloat16()

    out = losses.sigmoid_focal_loss(logits, targets)

    assert out.dtype == torch.float32
    assert torch.equal(out, losses.sigmoid_focal_loss(logits.float(), targets.float()))
