"""Our operators beside torchvision's compiled ones, on random input."""

import pytest
import torch

ops = pytest.importorskip("torchvision.ops", exc_type=ImportError, reason="run by `make interop`")

from retinue.layers import ROIAlign, batched_nms, deform_conv, nms, paste_masks_in_image  # noqa: E402
from retinue.layers.roi_pool import roi_pool  # noqa: E402
from retinue.structures import Boxes, pairwise_iou  # noqa: E402
from retinue.torchvision import MultiScaleRoIAlign  # noqa: E402


def random_boxes(number, side=100.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(number, 2, generator=generator) * side
    return torch.cat((first, first + 1 + torch.rand(number, 2, generator=generator) * side / 2), 1)


@pytest.mark.parametrize("number", [0, 1, 400])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_nms(number, threshold):
    boxes, scores = random_boxes(number), torch.rand(number)
    groups = torch.randint(0, 3, (number,))

    assert nms(boxes, scores, threshold).equal(ops.nms(boxes, scores, threshold))
    expected = ops.batched_nms(boxes, scores, groups, threshold)
    assert batched_nms(boxes, scores, groups, threshold).equal(expected)


def test_iou():
    a, b = random_boxes(30), random_boxes(20, seed=1)

    torch.testing.assert_close(pairwise_iou(Boxes(a), Boxes(b)), ops.box_iou(a, b))


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align(aligned, sampling_ratio):
    features = torch.rand(2, 3, 20, 30, dtype=torch.float64, requires_grad=True)
    rois = torch.cat((torch.randint(0, 2, (25, 1)), random_boxes(25)), dim=1).double()

    found = ROIAlign((5, 4), 0.25, sampling_ratio, aligned)(features, rois)
    expected = ops.roi_align(features, rois, (5, 4), 0.25, sampling_ratio, aligned)

    torch.testing.assert_close(found, expected)
    weight = torch.rand_like(expected)
    grads = [torch.autograd.grad((x * weight).sum(), features)[0] for x in (found, expected)]
    torch.testing.assert_close(*grads)


def test_roi_pool():
    features = torch.rand(2, 3, 20, 30)
    rois = torch.cat((torch.randint(0, 2, (25, 1)), random_boxes(25)), dim=1)

    expected = ops.roi_pool(features, rois, (4, 4), 0.25)
    torch.testing.assert_close(roi_pool(features, rois, (4, 4), 0.25), expected)


@pytest.mark.parametrize("modulated", [False, True])
def test_deform_conv(modulated):
    x, weight = torch.rand(2, 4, 9, 8), torch.rand(6, 4, 3, 3)
    offset = torch.randn(2, 18, 9, 8)
    mask = torch.rand(2, 9, 9, 8) if modulated else None

    expected = ops.deform_conv2d(x, offset, weight, padding=1, mask=mask)
    if modulated:
        found = deform_conv.modulated_deform_conv(x, offset, mask, weight, None, 1, 1, 1, 1, 1)
    else:
        found = deform_conv.deform_conv(x, offset, weight, 1, 1, 1, 1, 1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_multi_scale_roi_align():
    maps = {"0": torch.rand(2, 4, 32, 40), "1": torch.rand(2, 4, 16, 20)}
    boxes = [random_boxes(10), random_boxes(7, seed=2)]
    arguments = {"featmap_names": ["0", "1"], "output_size": 7, "sampling_ratio": 2}
    sizes = [(128, 160), (120, 150)]

    expected = ops.MultiScaleRoIAlign(**arguments)(maps, boxes, sizes)
    torch.testing.assert_close(MultiScaleRoIAlign(**arguments)(maps, boxes, sizes), expected)


def test_pasted_masks():
    """Both put a mask into its box; their interpolation differs, by less than a pixel."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image as theirs

    masks = torch.nn.functional.interpolate(torch.rand(6, 1, 4, 4), (28, 28), mode="bicubic")
    boxes = random_boxes(6, side=60) + torch.tensor([0.0, 0, 20, 20])

    found = paste_masks_in_image(masks[:, 0], boxes, (100, 110), threshold=0.5)
    differ = found != (theirs(masks, boxes, (100, 110))[:, 0] > 0.5)
    assert differ.float().mean() < 0.02
