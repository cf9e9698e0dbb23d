from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reference import pasting as slow
from retinue.layers import mask_ops, paste_masks_in_image, roi_align
from retinue.layers.mask_ops import (
    pad_masks,
    paste_mask_in_image_old,
    paste_soft_masks,
    scale_boxes,
)

BOXES = torch.tensor(
    [[3.2, 2.7, 20.4, 14.1], [-6.0, -4.0, 9.5, 8.0], [15.0, 9.0, 40.0, 30.0], [4.0, 4.0, 5.0, 5.5]]
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pixels_are_the_recorded_ones(golden_group, dtype):
    case = golden_group("masks")["paste_0.5"]
    inputs = case.inputs(dtype)
    shape = tuple(case.params["image_shape"])

    out = paste_masks_in_image(inputs["masks"], inputs["boxes"], shape, 0.5)

    assert np.array_equal(np.packbits(out.numpy()), case.arrays["out64_bits"])


@pytest.mark.parametrize("threshold", [0.3, 0.5, -1])
def test_equals_interpolation_pixel_by_pixel(threshold):
    masks = torch.rand(4, 7, 7, dtype=torch.float64)

    out = paste_masks_in_image(masks, BOXES.double(), (24, 30), threshold)

    for mask, box, pasted in zip(masks, BOXES, out, strict=True):
        soft = slow.paste_soft(mask, box, 24, 30)
        x0, y0, x1, y1 = box.tolist()
        y, x = torch.meshgrid(torch.arange(24), torch.arange(30), indexing="ij")
        near = (x >= x0 - 2) & (x < x1 + 2) & (y >= y0 - 2) & (y < y1 + 2)
        expected = (soft >= threshold) if threshold >= 0 else (soft * 255).to(torch.uint8)
        inside = (x > x0) & (x < x1 - 1) & (y > y0) & (y < y1 - 1)
        assert torch.equal(pasted[inside], expected[inside])
        assert not pasted[~near].any()


def test_soft_masks_equal_interpolation_pixel_by_pixel():
    masks = torch.rand(4, 5, 5, dtype=torch.float64)

    out = paste_soft_masks(masks, BOXES.double(), (16, 22))

    expected = [slow.paste_soft(m, b, 16, 22) for m, b in zip(masks, BOXES, strict=True)]
    torch.testing.assert_close(out, torch.stack(expected), rtol=0, atol=1e-12)


def test_soft_masks_have_gradients():
    masks = torch.rand(2, 3, 3, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda m: paste_soft_masks(m, BOXES[:2], (5, 6)), masks)


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.5, -1])
def test_one_by_one_and_many_at_once_agree(monkeypatch, threshold):
    masks = torch.rand(4, 7, 7)
    expected = paste_masks_in_image(masks, BOXES, (24, 30), threshold)

    monkeypatch.setattr(mask_ops, "_paste_one_by_one", mask_ops._paste_many)
    monkeypatch.setattr(mask_ops, "GPU_MEM_LIMIT", 4 * 24 * 30 * 3)  # three masks at a time

    out = paste_masks_in_image(masks, BOXES, (24, 30), threshold)
    assert (out.int() - expected.int()).abs().max() <= (threshold < 0)
    assert (out != expected).sum() <= 2


def test_a_full_mask_covers_its_box():
    out = paste_masks_in_image(torch.ones(1, 4, 4), torch.tensor([[2.0, 1.0, 6.0, 3.0]]), (4, 8))

    expected = torch.zeros(1, 4, 8, dtype=torch.bool)
    expected[0, 1:3, 2:6] = True
    assert torch.equal(out, expected)
    assert paste_masks_in_image(torch.ones(1, 4, 4), BOXES[:1], (24, 30), -1).max() == 255


@pytest.mark.parametrize(
    "box", [(3.0, 3.0, 3.0, 3.0), (5.0, 1.0, 2.0, 4.0), (90.0, 90.0, 95.0, 95.0)]
)
def test_boxes_without_pixels_stay_empty(box):
    out = paste_masks_in_image(torch.ones(1, 4, 4), torch.tensor([box]), (8, 8))

    assert not out.any()


def test_no_masks_and_boxes_objects():
    empty = paste_masks_in_image(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6))
    assert empty.shape == (0, 5, 6)
    wrapped = SimpleNamespace(tensor=BOXES)
    masks = torch.rand(4, 7, 7)
    assert torch.equal(
        paste_masks_in_image(masks, wrapped, (24, 30)), paste_masks_in_image(masks, BOXES, (24, 30))
    )


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.float16])
def test_other_dtypes_are_pasted_in_float32(dtype):
    masks = (torch.rand(4, 7, 7) > 0.5).to(dtype)

    out = paste_masks_in_image(masks, BOXES, (24, 30))

    assert torch.equal(out, paste_masks_in_image(masks.float(), BOXES, (24, 30)))


def test_meta_tensors_have_shapes():
    masks, boxes = torch.empty(3, 28, 28, device="meta"), torch.empty(3, 4, device="meta")

    assert paste_masks_in_image(masks, boxes, (5, 6)).dtype == torch.bool
    assert paste_masks_in_image(masks, boxes, (5, 6), -1).dtype == torch.uint8


def test_wrong_shapes_are_named():
    with pytest.raises(AssertionError, match=r"masks must be square; got \(3, 4\)"):
        paste_masks_in_image(torch.zeros(2, 3, 4), torch.zeros(2, 4), (5, 6))
    with pytest.raises(AssertionError, match=r"boxes must have shape \(2, 4\); got \(3, 4\)"):
        paste_masks_in_image(torch.zeros(2, 3, 3), torch.zeros(3, 4), (5, 6))
    with pytest.raises(ValueError, match=r"masks must have shape \(N, M, M\)"):
        paste_masks_in_image(torch.zeros(2, 1, 3, 3), torch.zeros(2, 4), (5, 6))


def test_padding_keeps_cells_in_place():
    masks, scale = pad_masks(torch.rand(2, 4, 4), 1)
    boxes = torch.tensor([[0.0, 0.0, 8.0, 4.0]])

    assert masks.shape == (2, 6, 6)
    assert scale == 1.5
    assert not masks[:, 0].any()
    assert scale_boxes(boxes, scale).tolist() == [[-2, -1, 10, 5]]


def test_the_old_way_covers_the_last_pixel_too():
    box = torch.tensor([2.0, 1.0, 5.0, 3.0])

    out = paste_mask_in_image_old(torch.ones(3, 3), box, 6, 8, 0.5)
    soft = paste_mask_in_image_old(torch.ones(3, 3), box - 5, 6, 8, -1)

    assert out.dtype == torch.uint8
    assert out.nonzero().amin(0).tolist() == [1, 2]
    assert out.nonzero().amax(0).tolist() == [3, 5]
    assert not soft.any()  # it ends above the image
    assert not paste_mask_in_image_old(torch.ones(3, 3), box + 50, 6, 8, 0.5).any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.float64])
def test_crops_are_those_of_roi_align(make_boxes, dtype):
    masks = (torch.rand(9, 20, 30) > 0.5).to(dtype)
    boxes = make_boxes(9, size=25, largest=22)
    boxes[0] = torch.tensor([-50.0, -50, -40, -40])  # outside
    boxes[1, 2:] = boxes[1, :2]  # a point
    rois = torch.cat([torch.arange(9.0)[:, None], boxes], dim=1)

    out = mask_ops.crop_masks(masks, boxes, 5)

    expected = roi_align(masks[:, None].double(), rois, 5, 1.0, 0, True)[:, 0]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert mask_ops.crop_masks(masks, boxes.float(), 5).dtype == torch.float32
    assert mask_ops.crop_masks(masks, boxes.bfloat16(), 5).dtype == torch.float32


def test_no_crops_and_meta_tensors():
    assert mask_ops.crop_masks(torch.zeros(0, 6, 7), torch.zeros(0, 4), 3).shape == (0, 3, 3)
    assert not mask_ops.crop_masks(torch.ones(1, 6, 7), torch.zeros(1, 4), 3).any()
    meta = torch.empty(2, 6, 7, device="meta", dtype=torch.bool)
    assert mask_ops.crop_masks(meta, torch.empty(2, 4, device="meta"), 3).shape == (2, 3, 3)
    with pytest.raises(ValueError, match=r"boxes must have shape \(2, 4\)"):
        mask_ops.crop_masks(meta, torch.zeros(3, 4), 3)
    with pytest.raises(ValueError, match=r"masks must have shape \(N, H, W\)"):
        mask_ops.crop_masks(meta[0], torch.zeros(2, 4), 3)
