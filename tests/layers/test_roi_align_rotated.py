import pytest
import torch

from reference import pooling as slow
from retinue.layers import ROIAlignRotated, roi_align, roi_align_rotated
from retinue.layers.roi_align_rotated import roi_align_rotated_levels


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_are_the_recorded_ones(golden_group, dtype, tolerance):
    case = golden_group("roi_align_rotated")["sr0_3x5"]
    inputs = case.inputs(dtype)
    params = dict(case.params, output_size=tuple(case.params["output_size"]))

    out = ROIAlignRotated(**params)(inputs["x"], inputs["rois"])

    case.check(out, inputs, tolerance)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_equals_the_sum_over_samples(make_rotated_boxes, sampling_ratio):
    x = torch.randn(2, 2, 7, 9, dtype=torch.float64)
    boxes = make_rotated_boxes(6, size=32, largest=24)
    rois = torch.cat([torch.arange(6.0)[:, None] % 2, boxes], dim=1)

    out = roi_align_rotated(x, rois, (2, 3), 0.25, sampling_ratio)

    expected = slow.roi_align_rotated(x, rois, (2, 3), 0.25, sampling_ratio)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_without_rotation_it_is_roi_align(make_boxes):
    x = torch.randn(1, 3, 12, 12, dtype=torch.float64)
    boxes = make_boxes(10, size=48, largest=30)
    size = boxes[:, 2:] - boxes[:, :2]
    rotated = torch.cat([boxes[:, :2] + size / 2, size, torch.zeros(10, 1)], dim=1)

    out = roi_align_rotated(x, torch.nn.functional.pad(rotated, (1, 0)), 3, 0.25, 0)

    upright = roi_align(x, torch.nn.functional.pad(boxes, (1, 0)), 3, 0.25, 0, True)
    torch.testing.assert_close(out, upright, rtol=0, atol=1e-12)


def test_gradients_are_exact(make_rotated_boxes):
    x = torch.randn(1, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.nn.functional.pad(make_rotated_boxes(3, size=20, largest=16), (1, 0))

    assert torch.autograd.gradcheck(lambda x: roi_align_rotated(x, rois, 2, 0.25, 0), x)


def test_levels_are_pooled_as_each_would_be_alone(make_rotated_boxes):
    features = [torch.randn(1, 2, 16, 16, dtype=torch.float64), torch.randn(1, 2, 8, 8).double()]
    rois = torch.nn.functional.pad(make_rotated_boxes(6, size=64), (1, 0))
    levels = torch.tensor([1, 0, 0, 1, 1, 0])

    out = roi_align_rotated_levels(features, rois, levels, 2, [0.25, 0.125])

    for level, scale in enumerate([0.25, 0.125]):
        mine = levels == level
        alone = roi_align_rotated(features[level], rois[mine], 2, scale, 0)
        torch.testing.assert_close(out[mine], alone, rtol=0, atol=0)


def test_no_regions_and_empty_regions():
    x = torch.ones(1, 3, 4, 4)

    assert roi_align_rotated(x, torch.zeros(0, 6), 2, 1.0, 0).shape == (0, 3, 2, 2)
    assert not roi_align_rotated(x, torch.tensor([[0.0, 2, 2, 0, 0, 30]]), 2, 1.0, 0).any()


def test_half_precision_is_close_and_meta_has_a_shape(make_rotated_boxes):
    x = torch.rand(1, 4, 20, 20)
    rois = torch.nn.functional.pad(make_rotated_boxes(5, size=20), (1, 0)).float()

    out = roi_align_rotated(x.bfloat16(), rois, 3, 1.0, 0)

    exact = roi_align_rotated(x.bfloat16().float(), rois, 3, 1.0, 0)
    torch.testing.assert_close(out.float(), exact, rtol=0, atol=2e-2)
    assert roi_align_rotated(x.to("meta"), rois.to("meta"), 3, 1.0, 0).shape == (5, 4, 3, 3)


def test_wrong_shapes_are_named():
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(AssertionError, match=r"rois must have shape \(R, 6\); got \(3, 5\)"):
        ROIAlignRotated((2, 2), 1.0, 0)(x, torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"roi must have shape \(R, 6\)"):
        roi_align_rotated(x, torch.zeros(3, 5), 2, 1.0, 0)
    with pytest.raises(ValueError, match=r"rois must have shape \(R, 6\)"):
        roi_align_rotated_levels([x], torch.zeros(3, 5), torch.zeros(3), 2, [1.0])
    assert "sampling_ratio=2" in repr(ROIAlignRotated((7, 7), 0.25, 2))
