import pytest
import torch

from reference import pooling as slow
from retinue.layers import ROIPool, roi_pool, sparse_rows


@pytest.fixture
def rois(make_boxes):
    boxes = make_boxes(12, size=36, largest=24)
    return torch.cat([torch.arange(12.0)[:, None] % 2, boxes], dim=1)


@pytest.mark.parametrize("output_size", [(1, 1), (2, 3), (7, 7)])
@pytest.mark.parametrize("bag_devices", [("cpu",), ()])
def test_equals_the_maximum_of_each_bin(monkeypatch, rois, output_size, bag_devices):
    monkeypatch.setattr(sparse_rows, "_BAG_DEVICES", bag_devices)
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64, requires_grad=True)

    out = roi_pool(x, rois, output_size, 0.25)

    expected = slow.roi_pool(x, rois, output_size, 0.25)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    weight = torch.randn(out.shape, dtype=torch.float64)
    (grad,) = torch.autograd.grad((out * weight).sum(), x)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(grad, expected_grad)


def test_by_hand():
    """Corners 0.5 and 1.5 round to cells 1 and 2, both of which belong to the region."""
    x = torch.arange(16.0).view(1, 1, 4, 4)

    out = ROIPool((1, 2), 0.25)(x, torch.tensor([[0.0, 2, 2, 6, 6]]))

    assert out.flatten().tolist() == [9, 10]


def test_gradients_are_exact(rois):
    x = torch.randn(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    rois = rois[:4]

    assert torch.autograd.gradcheck(lambda x: roi_pool(x, rois, 2, 0.2), x)
    assert torch.autograd.gradgradcheck(lambda x: roi_pool(x, rois, 2, 0.2), x, fast_mode=True)


def test_no_regions_and_regions_outside():
    x = torch.ones(1, 3, 4, 4, requires_grad=True)
    outside = torch.tensor([[0.0, -20, -20, -10, -10]])

    out = roi_pool(x, outside, 2)
    out.sum().backward()

    assert roi_pool(x, torch.zeros(0, 5), 2).shape == (0, 3, 2, 2)
    assert not out.any()
    assert not x.grad.any()


def test_half_precision_is_exact_and_meta_has_a_shape(rois):
    x = torch.randn(2, 3, 9, 9).bfloat16()

    out = roi_pool(x, rois, 3, 0.25)

    assert out.dtype == torch.bfloat16
    assert torch.equal(out.float(), roi_pool(x.float(), rois, 3, 0.25))
    assert roi_pool(x.to("meta"), rois.to("meta"), 3).shape == (12, 3, 3, 3)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"boxes must have shape \(R, 5\)"):
        roi_pool(torch.zeros(1, 1, 4, 4), torch.zeros(3, 4), 2)
    with pytest.raises(ValueError, match=r"input must have shape \(N, C, H, W\)"):
        roi_pool(torch.zeros(1, 4, 4), torch.zeros(3, 5), 2)
    assert "spatial_scale=0.5" in repr(ROIPool(7, 0.5))
