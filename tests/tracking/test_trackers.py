"""Trackers keep the numbers of objects that move, meet, vanish and come back."""

import itertools

import numpy as np
import pytest
import torch

from retinue.config import CfgNode
from retinue.structures import Boxes, Instances
from retinue.tracking import (
    BaseHungarianTracker,
    BaseTracker,
    BBoxIOUTracker,
    IOUWeightedHungarianBBoxIOUTracker,
    VanillaHungarianBBoxIOUTracker,
    build_tracker_head,
)
from retinue.tracking.assignment import linear_sum_assignment

SIZE = {"video_height": 100, "video_width": 200}
TRACKERS = (BBoxIOUTracker, VanillaHungarianBBoxIOUTracker, IOUWeightedHungarianBBoxIOUTracker)


def frame(*boxes):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(
        (100, 200),
        pred_boxes=Boxes(boxes),
        scores=torch.ones(len(boxes)),
        pred_classes=torch.zeros(len(boxes), dtype=torch.int64),
        pred_masks=torch.zeros(len(boxes), 2, 2, dtype=torch.bool),
    )


def square(x, y=40):
    return [x, y, x + 20, y + 20]


@pytest.mark.parametrize("kind", TRACKERS)
def test_objects_that_move_keep_their_ids(kind):
    """Two squares cross the frame at 3 pixels a frame; every other frame lists them reversed."""
    tracker = kind(**SIZE)
    for t in range(10):
        boxes = [square(3 * t, 10), square(150 - 3 * t, 60)]
        found = tracker.update(frame(*(boxes if t % 2 else boxes[::-1])))
        assert ([0, 1] if t % 2 == 0 else [1, 0]) == found.ID
        assert found.ID_period == [t + 1] * 2
        assert found.lost_frame_count == [0, 0]


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_new_object_gets_a_new_id_even_if_another_vanished(kind):
    """No overlap, no match: the square far away is not the one that was here."""
    tracker = kind(**SIZE)
    tracker.update(frame(square(10)))
    found = tracker.update(frame(square(150)))

    assert found.ID == [1]
    assert found.ID_period == [1]


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_lost_object_waits_and_comes_back(kind):
    tracker = kind(**SIZE, max_lost_frame_count=2)
    for _ in range(2):
        tracker.update(frame(square(10), square(100)))
    lost = tracker.update(frame(square(10)))

    assert lost.ID == [0, 1]
    assert lost.lost_frame_count == [0, 1]
    assert lost.pred_boxes.tensor[1].tolist() == square(100)
    assert len(lost.pred_masks) == 2

    assert tracker.update(frame(square(10), square(101))).ID == [0, 1]


@pytest.mark.parametrize("kind", TRACKERS)
@pytest.mark.parametrize(
    "options",
    [
        {"max_lost_frame_count": 0},
        {"max_lost_frame_count": 1, "min_instance_period": 2},
        {"max_lost_frame_count": 1, "min_box_rel_dim": 0.5},
    ],
)
def test_lost_objects_are_given_up(kind, options):
    tracker = kind(**SIZE, **options)
    for _ in range(2):
        tracker.update(frame(square(10), square(100)))

    assert tracker.update(frame(square(10))).ID == [0]


def test_lost_for_too_long():
    tracker = BBoxIOUTracker(**SIZE, max_lost_frame_count=1)
    for boxes in ([square(10), square(100)], [square(10), square(100)], [square(10)]):
        tracker.update(frame(*boxes))

    assert tracker.update(frame(square(10))).ID == [0]
    assert tracker.update(frame(square(10), square(100))).ID == [0, 2]


@pytest.mark.parametrize("kind", TRACKERS)
def test_empty_frames(kind):
    tracker = kind(**SIZE)
    assert tracker.update(frame()).ID == []
    assert tracker.update(frame(square(10))).ID == [0]
    assert tracker.update(frame()).ID == []
    assert tracker.update(frame(square(10))).ID == [1]


def test_the_largest_overlap_wins():
    """Both old squares overlap the new one by more than half; the second by more."""
    old, new = [square(10), square(18)], [square(16)]
    for kind in (BBoxIOUTracker, IOUWeightedHungarianBBoxIOUTracker):
        tracker = kind(**SIZE)
        tracker.update(frame(*old))
        assert tracker.update(frame(*new)).ID == [1]


def test_built_from_a_config():
    cfg = CfgNode()
    cfg.TRACKER_HEADS = CfgNode({"TRACKER_NAME": "BBoxIOUTracker", "VIDEO_HEIGHT": 100})
    with pytest.raises(AssertionError, match=r"TRACKER_HEADS\.VIDEO_WIDTH: expected the video's"):
        build_tracker_head(cfg)
    cfg.TRACKER_HEADS.VIDEO_WIDTH = 200
    cfg.TRACKER_HEADS.TRACK_IOU_THRESHOLD = 0.9
    for kind in TRACKERS:
        cfg.TRACKER_HEADS.TRACKER_NAME = kind.__name__
        tracker = build_tracker_head(cfg)
        assert type(tracker) is kind
        assert tracker._track_iou_threshold == 0.9
        assert tracker._max_num_instances == 200


def test_what_a_subclass_must_define():
    with pytest.raises(NotImplementedError, match="BaseTracker: define update"):
        BaseTracker().update(frame())
    with pytest.raises(NotImplementedError, match="define build_cost_matrix"):
        BaseHungarianTracker(**SIZE).build_cost_matrix(frame(), frame())
    for kind in (BaseTracker, BaseHungarianTracker):
        with pytest.raises(NotImplementedError, match="define from_config"):
            kind.from_config(CfgNode())


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (4, 4)])
def test_assignment_against_all_permutations(shape):
    for seed in range(20):
        cost = np.random.default_rng(seed).integers(-9, 9, shape).astype(float)
        rows, columns = linear_sum_assignment(cost)
        wide = cost if shape[0] <= shape[1] else cost.T
        best = min(
            wide[range(len(wide)), list(p)].sum()
            for p in itertools.permutations(range(wide.shape[1]), len(wide))
        )

        assert cost[rows, columns].sum() == best
        assert (np.diff(rows) > 0).all()
        assert len(set(columns)) == len(columns) == min(shape)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(shape):
    rows, columns = linear_sum_assignment(np.zeros(shape))

    assert len(rows) == len(columns) == 0


def _video(num_frames=24, height=96, width=160):
    """Draw three shapes that drift over a noisy ground; yield the picture and the true boxes.

    One goes right, one left below it, one down; shapes 0 and 2 meet, and 1 is hidden for 2 frames.
    """
    rng = np.random.default_rng(3)
    starts = np.array([[10.0, 20.0], [130.0, 66.0], [70.0, 2.0]])
    speeds = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 2.0]])
    sizes = np.array([[22, 18], [18, 22], [20, 20]])
    colors = np.array([[230, 60, 60], [60, 230, 60], [60, 60, 230]], dtype=np.uint8)
    for t in range(num_frames):
        picture = rng.integers(0, 40, (height, width, 3), dtype=np.uint8)
        boxes = {}
        for shape in range(3):
            if shape == 1 and t in (10, 11):
                continue
            x, y = (starts[shape] + t * speeds[shape]).astype(int)
            w, h = sizes[shape]
            picture[y : y + h, x : x + w] = colors[shape]
            boxes[shape] = [x, y, x + w, y + h]
        yield picture, boxes


def _detect(picture):
    """Find the shapes by their colours: the box of the pixels in which one channel is bright."""
    found = []
    for channel in (2, 0, 1):  # another order than that of the shapes
        ys, xs = np.nonzero(picture[:, :, channel] > 200)
        if len(xs):
            found.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    boxes = torch.tensor(np.array(found, dtype=np.float32).reshape(-1, 4))
    return Instances(
        picture.shape[:2],
        pred_boxes=Boxes(boxes),
        scores=torch.ones(len(boxes)),
        pred_classes=torch.zeros(len(boxes), dtype=torch.int64),
    )


def _overlap(box, other):
    sides = [min(box[k + 2], other[k + 2]) - max(box[k], other[k]) for k in (0, 1)]
    return max(sides[0], 0) * max(sides[1], 0)


@pytest.mark.parametrize("kind", TRACKERS)
def test_identities_are_kept_in_a_video(kind):
    """Each shape of a drawn video keeps one number, also while it is hidden or touches another."""
    tracker = kind(video_height=96, video_width=160, max_lost_frame_count=4, min_box_rel_dim=0.01,
                   track_iou_threshold=0.2)  # fmt: skip
    numbers = {0: set(), 1: set(), 2: set()}
    for picture, boxes in _video():
        found = tracker.update(_detect(picture))
        seen = [i for i, lost in enumerate(found.lost_frame_count) if lost == 0]
        for shape, box in boxes.items():
            rows = found.pred_boxes.tensor.tolist()
            best = max(seen, key=lambda i: _overlap(rows[i], box))
            numbers[shape].add(found.ID[best])
        assert len(set(found.ID)) == len(found)

    assert [len(ids) for ids in numbers.values()] == [1, 1, 1]
    assert len(set.union(*numbers.values())) == 3
    assert found.ID_period == [24 if i not in numbers[1] else 22 for i in found.ID]
