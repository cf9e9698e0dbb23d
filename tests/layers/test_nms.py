import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import overlap as slow
from retinue.layers import batched_nms, batched_nms_rotated, greedy, nms, nms_rotated

FUNCTIONS = {
    "nms_0.5": nms,
    "batched_0.5": batched_nms,
    "rotated_0.3": nms_rotated,
    "batched_rotated_0.3": batched_nms_rotated,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_indices_are_the_recorded_ones(golden_group, name, dtype):
    case = golden_group("nms")[name]
    inputs = case.inputs(dtype)

    kept = FUNCTIONS[name](*inputs.values(), case.params["iou_threshold"])

    assert kept.tolist() == case.arrays["out64"].tolist()


coordinates = st.integers(0, 6).map(float)
boxes_and_scores = st.lists(
    st.tuples(coordinates, coordinates, coordinates, coordinates, st.integers(0, 3)), max_size=12
)


@settings(max_examples=60)
@given(boxes_and_scores, st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.7, 1.0]))
def test_ties_empty_and_equal_boxes(rows, threshold):
    """Small integers make boxes touch and coincide, scores tie and IoUs meet the threshold."""
    numbers = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
    boxes = torch.cat([numbers[:, :2], numbers[:, :2] + numbers[:, 2:4]], dim=1)
    scores, groups = numbers[:, 4], numbers[:, 0].long() % 2

    assert nms(boxes, scores, threshold).tolist() == slow.nms(boxes, scores, threshold).tolist()
    kept = batched_nms(boxes, scores, groups, threshold)
    assert kept.tolist() == slow.nms(boxes, scores, threshold, groups).tolist()


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("num_groups", [None, 1, 5])
def test_equals_the_greedy_definition(make_boxes, threshold, num_groups):
    boxes = make_boxes(150, seed=1)
    scores = torch.rand(150)
    groups = None if num_groups is None else torch.randint(0, num_groups, (150,)) * 1000 - 7

    if groups is None:
        kept = nms(boxes, scores, threshold)
    else:
        kept = batched_nms(boxes, scores, groups, threshold)

    assert kept.tolist() == slow.nms(boxes, scores, threshold, groups).tolist()


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_rotated_boxes_by_the_greedy_definition(make_rotated_boxes, threshold):
    boxes, scores = make_rotated_boxes(60), torch.rand(60)
    groups = torch.randint(0, 3, (60,))

    kept = nms_rotated(boxes, scores, threshold)
    kept_by_group = batched_nms_rotated(boxes, scores, groups, threshold)

    expected = slow.nms(boxes, scores, threshold, None, slow.iou_rotated)
    expected_by_group = slow.nms(boxes, scores, threshold, groups, slow.iou_rotated)
    assert kept.tolist() == expected.tolist()
    assert kept_by_group.tolist() == expected_by_group.tolist()


@pytest.mark.parametrize("num_groups", [1, 3, 60])
def test_how_work_is_cut_does_not_change_the_result(monkeypatch, make_boxes, num_groups):
    boxes, scores = make_boxes(120, seed=2), torch.rand(120)
    groups = torch.randint(0, num_groups, (120,))
    expected = slow.nms(boxes, scores, 0.3, groups)

    for head, pairs, batch in [(7, 500, 1), (64, 1000, 20), (31, 1, 1000)]:
        monkeypatch.setattr(greedy, "_CPU_HEAD", head)
        monkeypatch.setattr(greedy, "_CPU_PAIRS", pairs)
        monkeypatch.setattr(greedy, "_CPU_BATCH", batch)

        assert batched_nms(boxes, scores, groups, 0.3).tolist() == expected.tolist()


@pytest.mark.parametrize("head", [17, 4096])
def test_settling_all_at_once_gives_the_same(monkeypatch, make_boxes, head):
    boxes, scores = make_boxes(120, seed=2), torch.rand(120)
    groups = torch.randint(0, 3, (120,))
    expected = batched_nms(boxes, scores, groups, 0.3)
    assert len(expected) < 120

    def select(numbers, group, conflict):
        return greedy._select(numbers, group, conflict, head, 1000, greedy._settle_at_once)

    monkeypatch.setattr(sys.modules["retinue.layers.nms"], "select", select)

    assert batched_nms(boxes, scores, groups, 0.3).tolist() == expected.tolist()


def test_a_long_chain_of_suppressions():
    """Each box overlaps the next one only, so that every second one is kept."""
    start = torch.arange(300.0)
    boxes = torch.stack([start * 2, start * 0, start * 2 + 3, start * 0 + 1], dim=1)

    kept = nms(boxes, -start, 0.1)

    assert kept.tolist() == list(range(0, 300, 2))


def test_ties_with_the_threshold_are_decided_in_double_precision():
    """An IoU of 3/10 is above 0.3 in float32 and below it in float64, as a number of either."""
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
    scores = torch.tensor([1.0, 0.5])

    assert torch.tensor(0.3).double().item() > 0.3
    assert nms(boxes, scores, 0.3).tolist() == [0]
    assert nms(boxes.double(), scores, 0.3).tolist() == [0, 1]


def test_half_precision_boxes_are_compared_in_float32(make_boxes):
    boxes, scores = make_boxes(100).bfloat16(), torch.rand(100).bfloat16()

    assert nms(boxes, scores, 0.5).tolist() == nms(boxes.float(), scores, 0.5).tolist()


@pytest.mark.parametrize("function", [nms, nms_rotated])
def test_no_box_and_one_box(function):
    size = 5 if function is nms_rotated else 4

    assert function(torch.zeros(0, size), torch.zeros(0), 0.5).tolist() == []
    assert function(torch.zeros(1, size), torch.zeros(1), 0.5).tolist() == [0]


def test_degenerate_boxes_suppress_nothing():
    nan, inf = float("nan"), float("inf")
    boxes = torch.tensor(
        [[1.0, 1, 1, 1], [1, 1, 1, 1], [5, 5, 2, 2], [nan, 0, 1, 1], [0, 0, inf, 1], [0, 0, 2, 2]]
    )

    assert nms(boxes, torch.ones(6), 0.5).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_negative_threshold_keeps_one_box_of_a_group(make_boxes):
    boxes = make_boxes(20)

    assert nms(boxes, torch.arange(20.0), -1.0).tolist() == [19]


@pytest.mark.slow
def test_a_hundred_thousand_boxes(make_boxes):
    boxes = torch.cat([make_boxes(20_000, size=2000).float(), torch.zeros(80_000, 4)])
    boxes[20_000:, 2:] = 30  # most of them the same, which makes billions of pairs
    scores = torch.rand(100_000)

    kept = nms(boxes, scores, 0.5)

    same = kept[kept >= 20_000]
    assert len(same) <= 1
    again = nms(boxes[kept], scores[kept], 0.5)
    assert again.tolist() == list(range(len(kept)))


def test_all_boxes_of_meta_tensors_may_be_kept():
    boxes = torch.empty(7, 4, device="meta")

    assert nms(boxes, boxes[:, 0], 0.5).shape == (7,)


def test_wrong_shapes_are_named():
    with pytest.raises(AssertionError, match=r"boxes must have shape \(N, 4\); got \(3, 5\)"):
        batched_nms(torch.zeros(3, 5), torch.zeros(3), torch.zeros(3), 0.5)
    with pytest.raises(AssertionError, match=r"boxes must have shape \(N, 5\); got \(3, 4\)"):
        batched_nms_rotated(torch.zeros(3, 4), torch.zeros(3), torch.zeros(3), 0.5)
    with pytest.raises(ValueError, match=r"scores must have shape \(3,\); got \(2,\)"):
        nms(torch.zeros(3, 4), torch.zeros(2), 0.5)
    with pytest.raises(ValueError, match=r"idxs must have shape \(3,\)"):
        batched_nms(torch.zeros(3, 4), torch.zeros(3), torch.zeros(2), 0.5)
