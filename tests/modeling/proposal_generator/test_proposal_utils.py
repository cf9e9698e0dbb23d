import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.modeling.proposal_generator.proposal_utils import (
    add_ground_truth_to_proposals,
    best_per_level,
    find_top_rpn_proposals,
)
from retinue.modeling.proposal_generator.rrpn import find_top_rrpn_proposals
from retinue.structures import Boxes, Instances, RotatedBoxes
from retinue.utils.errors import InputError

NAN, INF = float("nan"), float("inf")


def top(boxes, logits, sizes, **options):
    """Proposals of boxes and logits given as one nested list a level."""
    arguments = {
        "nms_thresh": 0.5,
        "pre_nms_topk": 10,
        "post_nms_topk": 10,
        "min_box_size": 0.0,
        "training": False,
    } | options
    levels = [torch.tensor(x, dtype=torch.float32) for x in boxes]
    scores = [torch.tensor(x, dtype=torch.float32) for x in logits]
    return find_top_rpn_proposals(levels, scores, sizes, **arguments)


def test_the_better_of_two_alike_stays_within_its_level_only():
    """By hand: both boxes of level 0 overlap; level 1 holds the same box again."""
    a, b = [0, 0, 10, 10], [0, 0, 10, 9]
    (result,) = top([[[a, b]], [[a]]], [[[1.0, 2.0]], [[3.0]]], [(20, 20)])

    assert result.objectness_logits.tolist() == [3, 2]
    assert result.proposal_boxes.tensor.tolist() == [a, b]
    assert result.image_size == (20, 20)


def test_images_do_not_disturb_each_other_and_have_their_own_sizes():
    box = [5.0, 5.0, 40.0, 40.0]
    results = top([[[box], [box]]], [[[1.0], [2.0]]], [(30, 20), (10, 50)])

    assert [r.proposal_boxes.tensor.tolist() for r in results] == [
        [[5, 5, 20, 30]],
        [[5, 5, 40, 10]],
    ]
    assert [r.objectness_logits.tolist() for r in results] == [[1], [2]]


def test_counts_before_and_after_suppression_are_limits():
    boxes = [[[10.0 * i, 0, 10.0 * i + 8, 8] for i in range(5)]]
    logits = [[0.0, 4, 2, 3, 1]]
    levels = ([boxes, boxes], [logits, logits])

    (result,) = top(*levels, [(100, 100)], pre_nms_topk=2)
    assert result.objectness_logits.tolist() == [4, 4, 3, 3]
    (result,) = top(*levels, [(100, 100)], post_nms_topk=3)
    assert result.objectness_logits.tolist() == [4, 4, 3]


def test_small_and_outside_boxes_are_dropped():
    boxes = [[[0, 0, 4, 4], [0, 0, 5, 4], [0, 0, 5, 5], [50, 50, 60, 60]]]
    (result,) = top([boxes], [[[4.0, 3, 2, 1]]], [(20, 20)], min_box_size=4)

    assert result.objectness_logits.tolist() == [2]  # both sides must be longer than 4


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_values_that_are_not_finite_are_dropped_or_stop_training(bad):
    good = [0, 0, 5, 5]
    (result,) = top([[[good, [0, 0, bad, 5]]]], [[[1.0, 2]]], [(20, 20)])
    assert result.objectness_logits.tolist() == [1]
    (result,) = top([[[good, [9, 9, 12, 12]]]], [[[1.0, bad]]], [(20, 20)])
    assert result.objectness_logits.tolist() == [1]

    with pytest.raises(FloatingPointError, match="infinite or NaN, training has diverged"):
        top([[[good]]], [[[bad]]], [(20, 20)], training=True)


def test_no_boxes_are_no_proposals():
    (result,) = top([[[[1.0, 1, 1, 9]]]], [[[1.0]]], [(20, 20)])
    assert len(result) == 0
    assert result.proposal_boxes.tensor.shape == (0, 4)

    empty = find_top_rpn_proposals(
        [torch.zeros(2, 0, 4)], [torch.zeros(2, 0)], [(5, 5)] * 2, 0.5, 10, 10, 0.0, True
    )
    assert [len(x) for x in empty] == [0, 0]


def test_rotated_boxes_are_compared_rotated():
    """By hand: a long box and itself turned by 90 degrees share a 2 x 2 square of 38."""
    boxes = [torch.tensor([[[20.0, 20, 20, 2, 0], [20, 20, 20, 2, 90], [20, 20, 20, 2, 1]]])]
    logits = [torch.tensor([[3.0, 2, 1]])]
    (result,) = find_top_rrpn_proposals(boxes, logits, [(40, 40)], 0.5, 10, 10, 0.0, False)

    assert isinstance(result.proposal_boxes, RotatedBoxes)
    assert result.objectness_logits.tolist() == [3, 2]


def test_the_best_of_each_level_come_with_their_values():
    logits = [torch.tensor([[1.0, 3, 2]]), torch.tensor([[5.0]])]
    values = [torch.tensor([[[10.0], [30], [20]]]), torch.tensor([[[50.0]]])]
    best, level, taken = best_per_level(logits, 2, values)

    assert best.tolist() == [[3, 2, 5]]
    assert level.tolist() == [0, 0, 1]
    assert taken.tolist() == [[[30], [20], [50]]]


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def greedy(levels, size_hw, pre, post):
    """The slow twin: box by box, for one image; ``levels`` hold (logit, box) pairs."""
    kept = []
    for pairs in levels:
        of_level = []
        for logit, box in sorted(pairs, reverse=True)[:pre]:
            x0, y0, x1, y1 = box
            box = (max(x0, 0), max(y0, 0), min(x1, size_hw[1]), min(y1, size_hw[0]))
            solid = box[2] > box[0] and box[3] > box[1]
            if solid and all(iou(box, other) <= 0.5 for _, other in of_level):
                of_level.append((logit, box))
        kept += of_level
    return sorted(kept, reverse=True)[:post]


side = st.integers(1, 30)
pair = st.tuples(st.integers(-5, 30), st.integers(-5, 30), side, side)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(pair, min_size=1, max_size=8), min_size=1, max_size=3),
    st.integers(1, 8),
    st.integers(1, 12),
)
def test_against_the_slow_twin(levels, pre, post):
    """Every logit differs, so the order is settled."""
    counter = iter(range(1000))
    pairs = [
        [((next(counter) * 37) % 101, (x, y, x + w, y + h)) for x, y, w, h in level]
        for level in levels
    ]
    # Two images: the same boxes, in another order in the second.
    per_level = [(level, level[::-1]) for level in pairs]
    boxes = [[[box for _, box in image] for image in images] for images in per_level]
    logits = [[[logit for logit, _ in image] for image in images] for images in per_level]
    results = top(boxes, logits, [(24, 28)] * 2, pre_nms_topk=pre, post_nms_topk=post)

    want = greedy(pairs, (24, 28), pre, post)
    for result in results:
        assert result.objectness_logits.tolist() == [logit for logit, _ in want]
        assert result.proposal_boxes.tensor.tolist() == [list(box) for _, box in want]


# ---------------------------------------------------------------------------------- ground truth


def proposals(num=1):
    return Instances(
        (10, 10), proposal_boxes=Boxes(torch.ones(num, 4)), objectness_logits=torch.zeros(num)
    )


def test_ground_truth_joins_the_proposals():
    gt = Instances((10, 10), gt_boxes=Boxes([[1, 2, 3, 4]]), gt_classes=torch.tensor([7]))
    (joined,) = add_ground_truth_to_proposals([gt], [proposals(2)])

    assert joined.proposal_boxes.tensor.tolist() == [[1] * 4, [1] * 4, [1, 2, 3, 4]]
    # The logit of a probability of 1 - 1e-10, by hand: ln(1e10), up to rounding.
    assert joined.objectness_logits.tolist() == pytest.approx([0, 0, math.log(1e10)], rel=1e-6)
    assert sorted(joined.get_fields()) == ["objectness_logits", "proposal_boxes"]


def test_boxes_alone_will_do_and_none_is_an_ordinary_number():
    (joined,) = add_ground_truth_to_proposals([Boxes(torch.zeros(0, 4))], [proposals(0)])

    assert len(joined) == 0
    assert add_ground_truth_to_proposals([], []) == []


def test_ground_truth_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="one gt for each of 1 images is needed; got 0"):
        add_ground_truth_to_proposals([], [proposals()])
    with pytest.raises(AssertionError, match="got None"):
        add_ground_truth_to_proposals(None, [proposals()])
    rated = proposals()
    rated.rating = torch.zeros(1)
    with pytest.raises(InputError, match="a field 'rating' that gt lacks"):
        add_ground_truth_to_proposals([Boxes(torch.ones(1, 4))], [rated])
