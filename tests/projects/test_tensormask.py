"""TensorMask: its operator against the definition, its windows by hand, its head and model."""

import math

import numpy as np
import pytest
import torch

from retinue.layers import ShapeSpec
from retinue.projects.tensormask import arch
from retinue.projects.tensormask.anchors import TensorMaskAnchorGenerator, assign_windows
from retinue.projects.tensormask.head import TensorMaskHead
from retinue.projects.tensormask.layers import SwapAlign2Nat, swap_align2nat
from retinue.structures import Boxes, Instances


def slow_swap(x, factor, pad):
    """The definition, cell by cell, for a whole-numbered place and mask position where possible."""
    channels, height, width = x.shape
    side = math.isqrt(channels)
    masks = x.reshape(side, side, height, width)
    out_side, out_h, out_w = side * factor, -(-height // factor), -(-width // factor)

    def read(v, u, y, x):
        total = 0.0
        for corner in np.ndindex(2, 2, 2, 2):
            cells, weight = [], 1.0
            for position, up in zip((v, u, y, x), corner, strict=True):
                low = math.floor(position)
                cells.append(low + up)
                weight *= (position - low) if up else 1 - (position - low)
            inside = all(0 <= c < n for c, n in zip(cells, masks.shape, strict=True))
            total += weight * (float(masks[tuple(cells)]) if inside else pad)
        return total

    out = np.zeros((out_side, out_side, out_h, out_w))
    for v, u, y, x_ in np.ndindex(out.shape):
        half = out_side / 2
        out[v, u, y, x_] = read(
            (v + 0.5) / factor - 0.5,
            (u + 0.5) / factor - 0.5,
            y * factor + v - half + 0.5,
            x_ * factor + u - half + 0.5,
        )
    return out.reshape(-1, out_h, out_w)


@pytest.mark.parametrize("factor", [1, 2])
def test_the_swap_follows_its_definition(factor):
    x = torch.randn(1, 9, 4, 3, dtype=torch.float64)
    got = swap_align2nat(x, factor, -6.0)

    np.testing.assert_allclose(got[0].numpy(), slow_swap(x[0], factor, -6.0), rtol=1e-12)


def test_the_swap_has_exact_gradients():
    x = torch.randn(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SwapAlign2Nat(2), (x,))
    assert "lambda_val=2" in repr(SwapAlign2Nat(2))


def test_a_window_holds_an_object_inside_of_half_its_size_at_its_centre():
    windows = torch.tensor([[0.0, 0, 44, 44], [8, 0, 52, 44], [0, 0, 120, 120]])
    strides = torch.tensor([4.0, 4, 8])

    def holds(*boxes):
        return assign_windows(torch.tensor(boxes), windows, strides, 40.0)[1].tolist()

    assert holds([12.0, 12, 32, 32]) == [True, False, False]  # 40 / 20: just small enough
    assert holds([17.0, 17, 27, 27]) == [True, False, False]  # the smallest window takes smaller
    assert holds([-1.0, 12, 44, 32]) == [False, False, False]  # not inside
    assert holds([16.0, 12, 36, 32]) == [True, True, False]  # centres 4 to the right, and 4 left
    assert holds([12.0, 12, 32, 32], [13.0, 13, 33, 33]) == [False, False, False]  # two


def test_windows_know_their_place():
    make = TensorMaskAnchorGenerator(
        sizes=[[44, 60], [88, 120]], aspect_ratios=[[1.0]], strides=[4, 8], offset=0.0
    )
    anchors, strides, indexes = make([torch.zeros(2, 1, 2, 3), torch.zeros(2, 1, 1, 2)])

    assert len(anchors) == 2
    assert [len(a) for a in anchors[0]] == [12, 4]
    assert strides[0][1].tolist() == [8.0] * 4
    assert indexes[0][0][3].tolist() == [0, 0, 0, 1, 1]
    assert anchors[0][0].tensor[3].tolist() == [4 - 30, -30, 4 + 30, 30]
    assert indexes[0][1][-1].tolist() == [1, 0, 0, 1, 1]


@pytest.mark.parametrize(("align", "bipyramid"), [(True, True), (True, False), (False, False)])
def test_mask_sizes_of_the_head(align, bipyramid):
    head = TensorMaskHead(
        2,
        1,
        [3],
        [ShapeSpec(channels=4)] * 2,
        num_classes=5,
        num_convs=1,
        cls_channels=4,
        bbox_channels=4,
        mask_channels=4,
        align_on=align,
        bipyramid_on=bipyramid,
    )
    logits, deltas, masks = head([torch.randn(2, 4, 8, 6), torch.randn(2, 4, 4, 3)])

    assert [x.shape[1] for x in logits] == [5, 5]
    assert [x.shape[1] for x in deltas] == [4, 4]
    coarse = (2, 36, 4, 3) if bipyramid else (2, 9, 4, 3)
    assert [tuple(level[0].shape) for level in masks] == [(2, 9, 8, 6), coarse]
    assert logits[0].sigmoid().mean().item() == pytest.approx(0.01, rel=0.2)


def test_predictions_of_all_levels_below_each_other():
    logits = [torch.arange(8.0).reshape(1, 4, 1, 2), torch.full((1, 4, 1, 1), 9.0)]
    flat, _ = arch.permute_all_cls_and_box_to_N_HWA_K_and_concat(
        logits, [torch.zeros(1, 8, 1, 2), torch.zeros(1, 8, 1, 1)], num_classes=2
    )
    assert flat.tolist() == [[0, 2], [4, 6], [1, 3], [5, 7], [9, 9], [9, 9]]


def test_masks_of_several_sizes_are_pasted_and_empty_boxes_dropped():
    found = Instances(
        (10, 10),
        pred_boxes=Boxes(torch.tensor([[0.0, 0, 4, 4], [20, 20, 30, 30], [5, 5, 10, 10]])),
        scores=torch.tensor([0.9, 0.8, 0.7]),
    )
    windows = Boxes(torch.tensor([[0.0, 0, 4, 4], [20, 20, 30, 30], [5, 5, 10, 10]]))
    masks = [torch.ones(1, 3, 3), torch.ones(1, 3, 3), torch.ones(1, 5, 5)]
    out = arch._postprocess(found, (masks, windows), 20, 10)

    assert out.scores.tolist() == pytest.approx([0.9, 0.7])
    assert out.pred_boxes.tensor.tolist() == [[0, 0, 4, 8], [5, 10, 10, 20]]
    assert out.pred_masks.shape == (2, 20, 10)
    assert out.pred_masks[0, :8, :4].float().mean() > 0.9
    assert not out.pred_masks[0, 10:].any()
    assert arch._postprocess(found[:0], ([], windows[:0]), 20, 10).pred_masks.shape == (0, 20, 10)
