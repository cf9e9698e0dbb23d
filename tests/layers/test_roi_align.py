import pytest
import torch

from reference import pooling as slow
from retinue.layers import ROIAlign, roi_align
from retinue.layers.roi_align import roi_align_levels, with_image_index
from retinue.layers.sparse_rows import expand_runs

GOLDEN = ["aligned0_sr0_3x5", "aligned1_sr0_3x5", "aligned1_sr2_3x5"]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_the_recorded_ones(golden_group, name, dtype, tolerance, layout):
    case = golden_group("roi_align")[name]
    inputs = case.inputs(dtype)
    params = dict(case.params, output_size=tuple(case.params["output_size"]))

    out = ROIAlign(**params)(inputs["x"].contiguous(memory_format=layout), inputs["rois"])

    case.check(out, inputs, tolerance)


@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
@pytest.mark.parametrize("aligned", [True, False])
def test_equals_the_sum_over_samples(make_boxes, sampling_ratio, aligned):
    x = torch.randn(2, 2, 7, 9, dtype=torch.float64)
    boxes = make_boxes(8, size=36, largest=24)  # some reach over the border
    rois = torch.cat([torch.arange(8.0)[:, None] % 2, boxes], dim=1)

    out = roi_align(x, rois, (2, 3), 0.25, sampling_ratio, aligned)

    expected = slow.roi_align(x, rois, (2, 3), 0.25, sampling_ratio, aligned)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_a_ramp_gives_the_centres_of_bins():
    """By hand: on f(x) = x with cell centres at x + 0.5, a bin's mean is its centre less 0.5."""
    x = torch.arange(10.0).expand(1, 1, 10, 10)
    rois = torch.tensor([[0.0, 2.0, 2.0, 6.0, 6.0]])

    out = roi_align(x, rois, 2, aligned=True)

    assert out[0, 0].tolist() == [[2.5, 4.5], [2.5, 4.5]]


def test_levels_are_pooled_as_each_would_be_alone(make_boxes):
    features = [torch.randn(2, 3, 16 // s, 24 // s, dtype=torch.float64) for s in (1, 2, 4)]
    boxes = make_boxes(12, size=90, largest=60)
    rois = torch.cat([torch.arange(12.0)[:, None] % 2, boxes], dim=1)
    levels = torch.tensor([2, 0, 1] * 4)
    scales = [0.25, 0.125, 0.0625]

    out = roi_align_levels(features, rois, levels, 3, scales)

    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        mine = levels == level
        alone = roi_align(feature, rois[mine], 3, scale, 0, True)
        torch.testing.assert_close(out[mine], alone, rtol=0, atol=0)


def test_gradients_are_exact_twice():
    features = [torch.randn(2, 1, 4, 5, dtype=torch.float64), torch.randn(2, 1, 3, 2).double()]
    features = [f.requires_grad_() for f in features]
    rois = torch.tensor([[0, 1, 1, 18, 15], [1, -6, 0, 9, 30], [1, 4, 4, 5, 5]]).double()
    levels = torch.tensor([0, 1, 0])

    def pool(*xs):
        return roi_align_levels(xs, rois, levels, (1, 2), [0.25, 0.125])

    assert torch.autograd.gradcheck(pool, features)
    assert torch.autograd.gradgradcheck(pool, features, fast_mode=True)


@pytest.mark.parametrize("num_images", [0, 2])
def test_no_regions(num_images):
    x = torch.ones(num_images, 3, 4, 4, requires_grad=True)

    out = roi_align(x, torch.zeros(0, 5), (2, 5))
    out.sum().backward()

    assert out.shape == (0, 3, 2, 5)
    assert x.grad.shape == x.shape
    assert not x.grad.any()


@pytest.mark.parametrize(
    "box",
    [
        (3, 3, 3, 3),  # a point has no cells, thus no samples
        (5, 5, 2, 2),  # corners in the wrong order
        (-90, -90, -50, -50),  # outside
        (float("nan"), 0, 1, 1),
    ],
)
def test_a_region_without_cells_pools_to_zero(box):
    out = roi_align(torch.ones(1, 1, 4, 4), torch.tensor([[0.0, *box]]), 2, aligned=True)

    assert out.tolist() == [[[[0, 0], [0, 0]]]]


def test_a_region_of_an_unknown_level_is_zero():
    rois = torch.tensor([[0.0, 0, 0, 4, 4]] * 2)

    out = roi_align_levels([torch.ones(1, 1, 4, 4)], rois, torch.tensor([0, 7]), 1, [1.0])

    assert out.flatten().tolist() == [1, 0]


def test_work_is_cut_into_pieces(monkeypatch, make_boxes):
    from retinue.layers import region_pooling

    x = torch.randn(1, 2, 20, 20, dtype=torch.float64, requires_grad=True)
    rois = torch.cat([torch.zeros(9, 1), make_boxes(9, size=20, largest=15)], dim=1)
    whole = roi_align(x, rois, 3)
    (whole_grad,) = torch.autograd.grad(whole.square().sum(), x)

    monkeypatch.setattr(region_pooling, "_MAX_ENTRIES", 100)
    pieces = roi_align(x, rois, 3)
    (pieces_grad,) = torch.autograd.grad(pieces.square().sum(), x)

    torch.testing.assert_close(pieces, whole, rtol=0, atol=0)
    torch.testing.assert_close(pieces_grad, whole_grad)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_half_precision_features_keep_precise_boxes(make_boxes, dtype, tolerance):
    x = torch.rand(1, 4, 50, 50)
    boxes = make_boxes(10, size=800, largest=300)  # bf16 would move them by up to 2 pixels
    rois = torch.cat([torch.zeros(10, 1), boxes], dim=1).float()

    out = roi_align(x.to(dtype), rois, 7, 1 / 16, 0, True)

    assert out.dtype == dtype
    exact = roi_align(x.to(dtype).float(), rois, 7, 1 / 16, 0, True)
    torch.testing.assert_close(out.float(), exact, rtol=0, atol=tolerance)


def test_devices_without_weighted_bags_gather(monkeypatch, make_boxes):
    from retinue.layers import sparse_rows

    x = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    rois = torch.cat([torch.zeros(5, 1), make_boxes(5, size=9, largest=9)], dim=1)
    expected = roi_align(x, rois, 3)

    monkeypatch.setattr(sparse_rows, "_BAG_DEVICES", ())

    torch.testing.assert_close(roi_align(x, rois, 3), expected)


def test_meta_tensors_have_shapes():
    x = torch.empty(2, 8, 10, 10, device="meta", requires_grad=True)

    out = roi_align(x, torch.empty(5, 5, device="meta"), 7)
    out.sum().backward()

    assert out.shape == (5, 8, 7, 7)
    assert x.grad.shape == x.shape


def test_boxes_may_come_as_a_list_of_each_image():
    x = torch.randn(2, 3, 8, 8)
    boxes = [torch.zeros(0, 4), torch.tensor([[1.0, 1, 5, 6]])]

    assert with_image_index(boxes).tolist() == [[1, 1, 1, 5, 6]]
    joined = torch.tensor([[1.0, 1, 1, 5, 6]])
    torch.testing.assert_close(roi_align(x, boxes, 2), roi_align(x, joined, 2))


def test_wrong_shapes_are_named():
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"rois must have shape \(R, 5\); got \(3, 4\)"):
        ROIAlign((2, 2), 1.0, 0)(x, torch.zeros(3, 4))
    with pytest.raises(AssertionError, match=r"boxes must have shape \(R, 5\)"):
        roi_align(x, torch.zeros(3, 4), 2)
    with pytest.raises(ValueError, match=r"levels must have shape \(3,\); got \(2,\)"):
        roi_align_levels([x], torch.zeros(3, 5), torch.zeros(2), 2, [1.0])
    with pytest.raises(ValueError, match="one or more levels; got 1 and 2"):
        roi_align_levels([x], torch.zeros(3, 5), torch.zeros(3), 2, [1.0, 0.5])
    with pytest.raises(ValueError, match=r"feature map must have shape \(N, C, H, W\)"):
        roi_align(x[0], torch.zeros(3, 5), 2)


def test_options_are_printed():
    assert "output_size=(7, 7)" in repr(ROIAlign((7, 7), 0.25, 0))


def test_runs_are_listed_in_order():
    members, run, offsets = expand_runs(torch.tensor([5, 9, 0]), torch.tensor([2, 0, 3]))

    assert members.tolist() == [5, 6, 0, 1, 2]
    assert run.tolist() == [0, 0, 2, 2, 2]
    assert offsets.tolist() == [0, 2, 2, 5]
