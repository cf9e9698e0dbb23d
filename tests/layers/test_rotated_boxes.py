import math

import pytest
import torch

from reference import overlap as slow
from retinue.layers import pairwise_iou_rotated
from retinue.layers import rotated_boxes as module


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_are_the_recorded_ones(golden_group, dtype, tolerance):
    case = golden_group("iou")["pairwise_iou_rotated"]
    inputs = case.inputs(dtype)

    case.check(pairwise_iou_rotated(*inputs.values()), inputs, tolerance)


def test_equals_polygon_clipping(make_rotated_boxes):
    a, b = make_rotated_boxes(30, seed=1), make_rotated_boxes(20, seed=2)

    out = pairwise_iou_rotated(a, b)

    expected = [[slow.iou_rotated(x, y) for y in b.tolist()] for x in a.tolist()]
    torch.testing.assert_close(out, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (out > 0).sum() > 40


@pytest.mark.parametrize(
    ("change", "iou"),
    [
        ((0, 0, 0, 0, 0), 1),  # the same box
        ((0, 0, 0, 0, 180), 1),
        ((0, 0, 0, 0, 90), 2 / 6),  # a 4 x 2 box across itself: 4 of 12
        ((2, 0, 0, 0, 0), 1 / 3),
        ((4, 0, 0, 0, 0), 0),  # touching
        ((0, 0, -2, -1, 0), 1 / 4),  # half its size, inside
        ((9, 9, 0, 0, 45), 0),
        ((0, 0, -4, 0, 0), 0),  # no area
    ],
)
@pytest.mark.parametrize("angle", [0.0, 30.0, -77.0])
def test_by_hand(change, iou, angle):
    turn = math.radians(angle)
    box = torch.tensor([[7.0, 5.0, 4.0, 2.0, 0.0]], dtype=torch.float64)
    dx, dy, *rest = change
    moved = (math.cos(turn) * dx + math.sin(turn) * dy, -math.sin(turn) * dx + math.cos(turn) * dy)
    box[0, 4] = angle
    other = box + torch.tensor([[*moved, *rest]], dtype=torch.float64)

    assert pairwise_iou_rotated(box, other).item() == pytest.approx(iou, abs=1e-12)
    assert pairwise_iou_rotated(other, box).item() == pytest.approx(iou, abs=1e-12)


def test_nearly_equal_boxes_have_an_iou_of_one(make_rotated_boxes):
    boxes = make_rotated_boxes(200)
    boxes[:, 2:4] += 1
    noise = 1e-13 * torch.randn(boxes.shape, dtype=torch.float64)

    assert pairwise_iou_rotated(boxes, boxes + noise).diagonal().sub(1).abs().max() < 1e-9
    single = pairwise_iou_rotated(boxes.float(), boxes.float()).diagonal()
    assert single.sub(1).abs().max() < 1e-5


def test_gradients_are_exact():
    a = torch.tensor([[5, 5, 4, 3, 20], [1, 1, 2, 2, 45]], dtype=torch.float64).requires_grad_()
    b = torch.tensor([[5.5, 4.7, 3, 4, -35], [2, 1, 3, 1, 5]], dtype=torch.float64).requires_grad_()

    assert torch.autograd.gradcheck(pairwise_iou_rotated, (a, b))


def test_no_boxes_and_work_in_parts(monkeypatch, make_rotated_boxes):
    a, b = make_rotated_boxes(7, seed=3), make_rotated_boxes(5, seed=4)
    whole = pairwise_iou_rotated(a, b)

    monkeypatch.setattr(module, "_MAX_PAIRS", 10)

    assert torch.equal(pairwise_iou_rotated(a, b), whole)
    assert pairwise_iou_rotated(a[:0], b).shape == (0, 5)
    assert pairwise_iou_rotated(a, b[:0]).shape == (7, 0)


def test_half_precision_is_computed_in_float32_and_meta_has_a_shape(make_rotated_boxes):
    boxes = make_rotated_boxes(6).bfloat16()

    assert torch.equal(
        pairwise_iou_rotated(boxes, boxes), pairwise_iou_rotated(boxes.float(), boxes.float())
    )
    meta = boxes.to("meta")
    assert pairwise_iou_rotated(meta, meta[:2]).shape == (6, 2)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"boxes1 must have shape \(N, 5\)"):
        pairwise_iou_rotated(torch.zeros(2, 4), torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"boxes2 must have shape \(M, 5\)"):
        pairwise_iou_rotated(torch.zeros(2, 5), torch.zeros(2, 4))
