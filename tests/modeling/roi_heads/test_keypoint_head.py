import math

import pytest
import torch

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling.roi_heads import KRCNNConvDeconvUpsampleHead, build_keypoint_head
from retinue.modeling.roi_heads.keypoint_head import (
    BaseKeypointRCNNHead,
    keypoint_rcnn_inference,
    keypoint_rcnn_loss,
)
from retinue.structures import Boxes, Instances, Keypoints
from retinue.utils.events import EventStorage

POOLED = ShapeSpec(channels=4, height=2, width=2)


def persons(points):
    """Each with two keypoints (x, y, visibility), in a box of 8 x 8 pixels."""
    points = torch.tensor(points, dtype=torch.float32).view(-1, 2, 3)
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(len(points), 1)
    return Instances((8, 8), proposal_boxes=Boxes(boxes), gt_keypoints=Keypoints(points))


# Visible inside; visible outside the box.
ONE_COUNTS = [[[1.0, 1.0, 2.0], [20.0, 1.0, 2.0]]]
# Not visible; visible inside.
OTHER_COUNTS = [[[1.0, 1.0, 0.0], [7.0, 7.0, 1.0]]]


@pytest.mark.parametrize(("normalizer", "divisor"), [(None, 2), (10.0, 10)])
def test_loss_by_hand(normalizer, divisor):
    """Two keypoints count; equal logits over 4 x 4 cells cost log(16) each."""
    logits = torch.zeros(2, 2, 4, 4)

    loss = keypoint_rcnn_loss(
        logits, [persons(ONE_COUNTS), persons([]), persons(OTHER_COUNTS)], normalizer
    )

    assert loss.item() == pytest.approx(2 * math.log(16) / divisor)


def test_the_right_cell_costs_nothing():
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 0, 0, 0] = 99.0  # x = y = 1 of 8 pixels lies in the first of 4 cells

    assert keypoint_rcnn_loss(logits, [persons(ONE_COUNTS)], None).item() == pytest.approx(0)


@pytest.mark.parametrize(("points", "rows"), [([], 0), ([[[1.0, 1, 0], [1, 1, 0]]], 1)])
def test_without_visible_keypoints_the_loss_is_zero_with_a_gradient(points, rows):
    logits = torch.zeros(rows, 2, 4, 4, requires_grad=True)

    with EventStorage() as storage:
        loss = keypoint_rcnn_loss(logits, [persons(points)], None)

    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
    assert float(storage.latest()["kpts_num_skipped_batches"][0]) == 1


def test_keypoints_lie_at_the_peak_of_their_map():
    logits = torch.zeros(2, 2, 8, 8)
    logits[:, :, 2, 5] = 50.0
    found = [
        Instances((8, 8), pred_boxes=Boxes([[0.0, 0.0, 8.0, 8.0]])),
        Instances((8, 8), pred_boxes=Boxes([])),
        Instances((8, 8), pred_boxes=Boxes([[10.0, 10.0, 18.0, 18.0]])),
    ]

    keypoint_rcnn_inference(logits, found)

    assert [i.pred_keypoints.shape for i in found] == [(1, 2, 3), (0, 2, 3), (1, 2, 3)]
    assert found[0].pred_keypoints[0, 0].tolist() == pytest.approx([5.5, 2.5, 1.0], abs=1e-4)
    assert found[2].pred_keypoints[0, 1].tolist() == pytest.approx([15.5, 12.5, 1.0], abs=1e-4)
    assert found[0].pred_keypoint_heatmaps.shape == (1, 2, 8, 8)


def test_the_head_in_training_and_in_inference():
    head = KRCNNConvDeconvUpsampleHead(POOLED, num_keypoints=2, conv_dims=[6, 6])
    assert list(dict.fromkeys(k.split(".")[0] for k in head.state_dict())) == [
        "conv_fcn1",
        "conv_fcn2",
        "score_lowres",
    ]
    x = torch.randn(1, 4, 2, 2)

    losses = head(x, [persons(ONE_COUNTS), persons([])])
    want = keypoint_rcnn_loss(head.layers(x), [persons(ONE_COUNTS)], 2.0)
    assert losses["loss_keypoint"].item() == pytest.approx(want.item())

    found = [Instances((8, 8), pred_boxes=Boxes([[0.0, 0.0, 8.0, 8.0]]))]
    assert head.eval()(x, found) is found
    assert found[0].pred_keypoint_heatmaps.shape == (1, 2, 8, 8)


@pytest.mark.parametrize(("by_visible", "normalizer"), [(True, "visible"), (False, 5 * 8 * 0.5)])
def test_from_a_config(by_visible, normalizer):
    cfg = get_cfg()
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 5
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (6,)
    cfg.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = by_visible
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.5

    head = build_keypoint_head(cfg, POOLED)

    assert head.loss_normalizer == normalizer
    assert head.layers(torch.zeros(0, 4, 2, 2)).shape == (0, 5, 8, 8)


def test_wrong_arguments_are_named():
    with pytest.raises(AssertionError, match="must be a number or 'visible'; got 'all'"):
        BaseKeypointRCNNHead(num_keypoints=2, loss_normalizer="all")
    with pytest.raises(NotImplementedError, match=r"must define layers\(x\)"):
        BaseKeypointRCNNHead(num_keypoints=2)(torch.zeros(1), [])
