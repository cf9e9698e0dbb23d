import pytest
import torch

from retinue.layers.losses import giou_loss
from retinue.modeling.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    Box2BoxTransformRotated,
    _dense_box_regression_loss,
)
from retinue.structures import Boxes

UNIT = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))


def random_boxes(num, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(num, 2, generator=generator, dtype=dtype) * 50
    size = 5 + torch.rand(num, 2, generator=generator, dtype=dtype) * 40
    return torch.cat((low, low + size), dim=1)


@pytest.mark.parametrize("num", [0, 1, 20])
@pytest.mark.parametrize("kind", ["plain", "rotated", "linear"])
def test_offsets_lead_back_to_the_target(kind, num):
    source, target = random_boxes(num), random_boxes(num, seed=1)
    transform = Box2BoxTransform((5.0, 5.0, 10.0, 10.0))
    if kind == "rotated":
        transform = Box2BoxTransformRotated((5.0, 5.0, 10.0, 10.0, 1.0))
        source = torch.cat((source[:, :2], source[:, 2:], source[:, :1] * 3), dim=1)
        target = torch.cat((target[:, :2], target[:, 2:], target[:, :1] * -3), dim=1)
    elif kind == "linear":
        transform = Box2BoxTransformLinear()
        target = torch.tensor([[-10.0, -10.0, 200.0, 200.0]], dtype=torch.float64).repeat(num, 1)

    moved = transform.apply_deltas(transform.get_deltas(source, target), source)

    torch.testing.assert_close(moved, target)


def test_growth_is_clamped():
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    moved = UNIT.apply_deltas(torch.tensor([[0.0, 0.0, 99.0, 4.0]]), box)

    width, height = moved[0, 2] - moved[0, 0], moved[0, 3] - moved[0, 1]
    torch.testing.assert_close(width, torch.tensor(1000.0))  # by hand: 16 * 1000 / 16
    torch.testing.assert_close(height, 16 * torch.tensor(4.0).exp())


def test_half_precision_is_decoded_in_float32():
    deltas = torch.zeros(1, 8, dtype=torch.bfloat16)
    moved = UNIT.apply_deltas(deltas, torch.tensor([[1001.0, 1.0, 1003.0, 2.0]]))

    assert moved.tolist() == [[1001.0, 1.0, 1003.0, 2.0] * 2]


def test_angles_come_out_between_minus_180_and_180():
    transform = Box2BoxTransformRotated((1.0, 1.0, 1.0, 1.0, 1.0))
    boxes = torch.tensor([[5.0, 5.0, 4.0, 2.0, 170.0]])
    moved = transform.apply_deltas(torch.tensor([[0.0, 0.0, 0.0, 0.0, torch.pi / 9]]), boxes)

    torch.testing.assert_close(moved[0, 4], torch.tensor(-170.0))


@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
def test_dense_loss_sums_over_the_foreground(kind):
    """Two images, two levels of 3 and 2 anchors; the loss is that of the three chosen pairs."""
    anchors = random_boxes(5).float()
    targets = [random_boxes(5, seed=s).float() for s in (1, 2)]
    deltas = torch.randn(2, 5, 4, requires_grad=True)
    chosen = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 0, 0]], dtype=torch.bool)
    levels = [Boxes(anchors[:3]), Boxes(anchors[3:])]
    loss = _dense_box_regression_loss(
        levels, UNIT, [deltas[:, :3], deltas[:, 3:]], targets, chosen, kind
    )
    loss.backward()

    pairs = [(0, 0), (0, 3), (1, 2)]
    if kind == "smooth_l1":
        expected = sum(
            (UNIT.get_deltas(anchors[a : a + 1], targets[i][a : a + 1]) - deltas[i, a]).abs().sum()
            for i, a in pairs
        )
        torch.testing.assert_close(loss, expected)
    if kind == "giou":
        moved = [UNIT.apply_deltas(deltas[i, a][None], anchors[a : a + 1]) for i, a in pairs]
        wanted = torch.stack([targets[i][a] for i, a in pairs])
        torch.testing.assert_close(loss, giou_loss(torch.cat(moved), wanted, reduction="sum"))
    assert ((deltas.grad != 0).any(dim=2) == chosen).all()


def test_dense_loss_of_all_anchors_takes_an_ellipsis():
    """Heads that have chosen their boxes before index with ``...``."""
    anchors, target = random_boxes(5).float(), random_boxes(5, seed=1).float()
    deltas = torch.randn(1, 5, 4)
    every, some = (
        _dense_box_regression_loss([anchors], UNIT, [deltas], [target], mask)
        for mask in (..., torch.ones(1, 5, dtype=torch.bool))
    )
    torch.testing.assert_close(every, some)


def test_dense_loss_without_foreground_is_zero():
    deltas = torch.randn(1, 5, 4, requires_grad=True)
    for kind in ("smooth_l1", "giou"):
        loss = _dense_box_regression_loss(
            [random_boxes(5).float()],
            UNIT,
            [deltas],
            [random_boxes(5).float()],
            torch.zeros(1, 5, dtype=torch.bool),
            kind,
        )
        assert loss == 0
        loss.backward()


@pytest.mark.parametrize("error", [ValueError, AssertionError])
def test_wrong_input_is_named(error):
    flat = torch.tensor([[0.0, 0.0, 4.0, 4.0], [3.0, 1.0, 3.0, 5.0]])
    with pytest.raises(error, match=r"1 of 2 have not, the first is box 1 with 0 x 4 pixels"):
        UNIT.get_deltas(flat, flat)
    with pytest.raises(error, match="src_boxes must be a tensor; got Boxes"):
        UNIT.get_deltas(Boxes(flat), flat)
    with pytest.raises(error, match=r"target_boxes must have shape \(N, 4\); got \(2, 5\)"):
        UNIT.get_deltas(flat, torch.zeros(2, 5))
    rotated = Box2BoxTransformRotated((1.0, 1.0, 1.0, 1.0, 1.0))
    with pytest.raises(error, match=r"deltas must have shape \(N, k \* 5\); got \(2, 4\)"):
        rotated.apply_deltas(torch.zeros(2, 4), torch.zeros(2, 5))


def test_an_unknown_loss_is_named():
    with pytest.raises(
        ValueError, match="unknown box regression loss 'gious'; did you mean 'giou'"
    ):
        _dense_box_regression_loss([], UNIT, [], [], torch.zeros(1, 0), "gious")
