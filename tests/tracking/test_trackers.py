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
