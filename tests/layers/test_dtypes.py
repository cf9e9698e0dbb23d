"""Every public op and block, and every structure, in each dtype and on each device: one table.

A row is a function and its inputs in float64. In another dtype it must give what it gives in
float64 for the same, rounded, inputs; on the meta device, the same shapes.
"""

import pytest
import torch
import torch.nn.functional as F

from retinue import layers, structures
from retinue.layers import losses, mask_ops
from retinue.structures import (
    BitMasks,
    Boxes,
    ImageList,
    Instances,
    Keypoints,
    PolygonMasks,
    ROIMasks,
    RotatedBoxes,
)

GENERATOR = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def numbers(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def block(make):
    """A module made anew, in the dtype and on the device of its input, with the same weights."""

    def run(x, *inputs):
        torch.manual_seed(0)
        return make().to(device=x.device, dtype=x.dtype).eval()(x, *inputs)

    return run


# Coordinates are whole numbers below 256, which all dtypes hold.
X = random(2, 4, 9, 8)
BOXES = numbers([0, 0, 4, 4], [0, 0, 4, 5], [5, 3, 8, 9], [2, 2, 7, 6])
OTHERS = numbers([1, 1, 5, 4], [0, 1, 3, 6], [4, 3, 8, 8], [3, 0, 6, 6])
ROTATED = numbers([2, 2, 4, 4, 0], [2, 2, 4, 4, 45], [9, 9, 2, 1, 10])
ROIS = torch.cat([numbers([0], [1], [1], [0]), BOXES], dim=1)
ROTATED_ROIS = torch.cat([numbers([0], [1], [1]), ROTATED], dim=1)
SCORES = numbers(0.5, 0.9, 0.75, 0.25)
GROUPS = torch.tensor([0, 0, 1, 1])
MASKS = numbers(*[[[0, 1, 1], [0.25, 0.75, 1], [0, 0, 0.75]]] * 4)
LABELS = torch.tensor([0, 3, 1, 2])
POINTS = numbers(*[[[1, 1, 2], [3, 2, 1], [2, 4, 0]]] * 4)
POLYGONS = [[[0.0, 0, 4, 0, 4, 3]], [[1.0, 1, 5, 1, 5, 5, 1, 5]]]

OPS = {
    "ASPP": (block(lambda: layers.ASPP(4, 3, [1, 2, 3], norm="", activation=F.relu)), X),
    "BatchNorm2d": (block(lambda: layers.BatchNorm2d(4)), X),
    "Conv2d": (block(lambda: layers.Conv2d(4, 3, 3, norm=layers.get_norm("BN", 3))), X),
    "ConvTranspose2d": (block(lambda: layers.ConvTranspose2d(4, 3, 2, 2)), X),
    "CycleBatchNormList": (
        block(lambda: layers.CycleBatchNormList(2, layers.BatchNorm2d, num_features=4)),
        X,
    ),
    "DeformConv": (
        block(lambda: layers.DeformConv(4, 3, 3, padding=1)),
        X,
        torch.full((2, 18, 9, 8), 0.25, dtype=torch.float64),
    ),
    "DepthwiseSeparableConv2d": (block(lambda: layers.DepthwiseSeparableConv2d(4, 3)), X),
    "FrozenBatchNorm2d": (block(lambda: layers.FrozenBatchNorm2d(4)), X),
    "LayerNorm": (block(lambda: layers.LayerNorm(4)), X),
    "Linear": (block(lambda: layers.Linear(8, 3)), X),
    "ModulatedDeformConv": (
        block(lambda: layers.ModulatedDeformConv(4, 3, 3, padding=1)),
        X,
        torch.full((2, 18, 9, 8), 0.25, dtype=torch.float64),
        torch.full((2, 9, 9, 8), 0.5, dtype=torch.float64),
    ),
    "NaiveSyncBatchNorm": (block(lambda: layers.NaiveSyncBatchNorm(4)), X),
    "ROIAlign": (layers.ROIAlign(3, 1.0, 0), X, ROIS),
    "ROIAlignRotated": (layers.ROIAlignRotated(3, 1.0, 2), X, ROTATED_ROIS),
    "ROIPool": (layers.ROIPool(3, 1.0), X, ROIS),
    "batched_nms": (lambda *x: layers.batched_nms(*x, 0.5), BOXES, SCORES, GROUPS),
    "batched_nms_rotated": (
        lambda *x: layers.batched_nms_rotated(*x, 0.25),
        ROTATED,
        SCORES[:3],
        GROUPS[:3],
    ),
    "cat": (lambda *x: layers.cat(x), X, X),
    "ciou_loss": (layers.ciou_loss, BOXES, OTHERS),
    "cross_entropy": (layers.cross_entropy, random(4, 5), LABELS),
    "diou_loss": (layers.diou_loss, BOXES, OTHERS),
    "empty_input_loss_func_wrapper": (layers.empty_input_loss_func_wrapper(F.mse_loss), X, X + 1),
    "get_norm": (block(lambda: layers.get_norm("GN", 32)), random(2, 32, 3, 3)),
    "interpolate": (lambda x: layers.interpolate(x, scale_factor=2.0, mode="bilinear"), X),
    "move_device_like": (layers.move_device_like, X, X),
    "nms": (lambda *x: layers.nms(*x, 0.5), BOXES, SCORES),
    "nms_rotated": (lambda *x: layers.nms_rotated(*x, 0.25), ROTATED, SCORES[:3]),
    "nonzero_tuple": (layers.nonzero_tuple, MASKS),
    "pairwise_iou_rotated": (layers.pairwise_iou_rotated, ROTATED, ROTATED),
    "paste_masks_in_image": (lambda *x: layers.paste_masks_in_image(*x, (9, 12)), MASKS, BOXES),
    "roi_align": (lambda *x: layers.roi_align(*x, 3, aligned=True), X, ROIS),
    "roi_align_rotated": (lambda *x: layers.roi_align_rotated(*x, 3, 1.0, 0), X, ROTATED_ROIS),
    "roi_pool": (lambda *x: layers.roi_pool(*x, 3), X, ROIS),
    # in modules of their own
    "crop_masks": (lambda *x: mask_ops.crop_masks(*x, 5), MASKS, BOXES),
    "giou_loss": (losses.giou_loss, BOXES, OTHERS),
    "sigmoid_focal_loss": (losses.sigmoid_focal_loss, SCORES, MASKS[:, 0, 1]),
    "sigmoid_focal_loss_star": (losses.sigmoid_focal_loss_star, SCORES, MASKS[:, 0, 1]),
    "smooth_l1_loss": (lambda *x: losses.smooth_l1_loss(*x, 0.5), BOXES, OTHERS),
}
OF_NO_DTYPE = {"CNNBlockBase", "ShapeSpec", "shapes_to_tensor"}


def on_boxes(function):
    return lambda *tensors: function(*map(Boxes, tensors))


def clipped(kind):
    def run(tensor):
        boxes = kind(tensor.clone())
        boxes.clip((5, 6))
        return boxes.tensor

    return run


def columns(tensor):
    table = Instances((9, 8), pred_boxes=Boxes(tensor), scores=tensor[:, 0])
    both = Instances.cat([table, table[1:]])
    return both.pred_boxes.tensor, both.scores


def batch(tensor):
    images = ImageList.from_tensors([tensor, tensor[:, :5]], 4)
    return images.tensor, images[1]


STRUCTURES = {
    "BitMasks": (lambda m, b: BitMasks(m > 0.5).crop_and_resize(b, 4), MASKS, BOXES),
    "BitMasks, boxes": (lambda m: BitMasks(m > 0.5).get_bounding_boxes().tensor, MASKS),
    "BoxMode": (lambda b: structures.BoxMode.convert(b, 1, 0), BOXES),
    "Boxes": (lambda b: (Boxes(b).area(), Boxes(b).nonempty(), Boxes(b).get_centers()), BOXES),
    "Boxes, clipped": (clipped(Boxes), BOXES),
    "ImageList": (batch, X[0]),
    "Instances": (columns, BOXES),
    "Keypoints": (lambda p, b: Keypoints(p).to_heatmap(b, 7), POINTS, BOXES),
    "PolygonMasks": (lambda b: PolygonMasks(POLYGONS).crop_and_resize(b, 4), BOXES[:2]),
    "ROIMasks": (lambda m, b: ROIMasks(m).to_bitmasks(b, 9, 12, 0.5).tensor, MASKS, BOXES),
    "RotatedBoxes": (
        lambda b: (RotatedBoxes(b).area(), RotatedBoxes(b).inside_box((9, 9))),
        ROTATED,
    ),
    "RotatedBoxes, clipped": (clipped(RotatedBoxes), ROTATED),
    "heatmaps_to_keypoints": (
        structures.heatmaps_to_keypoints,
        torch.stack([torch.eye(6)[[i]] * torch.eye(6)[:, [i]] for i in range(3)]).double()[None],
        BOXES[:1],
    ),
    "pairwise_ioa": (on_boxes(structures.pairwise_ioa), BOXES, OTHERS),
    "pairwise_iou": (on_boxes(structures.pairwise_iou), BOXES, OTHERS),
    "pairwise_iou_rotated": (
        lambda *b: structures.pairwise_iou_rotated(*map(RotatedBoxes, b)),
        ROTATED,
        ROTATED,
    ),
    "pairwise_point_box_distance": (
        lambda p, b: structures.pairwise_point_box_distance(p, Boxes(b)),
        OTHERS[:, :2],
        BOXES,
    ),
}
OF_NUMPY = {"polygons_to_bitmask"}
ROWS = OPS | STRUCTURES

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 3e-2}
# Boxes and Keypoints hold float32, whatever comes in.
SINGLE = {*STRUCTURES}
# These look at values, which meta tensors don't have: how many there are, sizes, pixels to fill.
LOOK_AT_VALUES = {"nonzero_tuple", "heatmaps_to_keypoints", "PolygonMasks"}


def call(name, dtype, device="cpu"):
    function, *inputs = ROWS[name]
    cast = [x.to(device, dtype if x.is_floating_point() else None) for x in inputs]
    out = function(*cast)
    return out if isinstance(out, tuple) else (out,)


def rounded(name, dtype):
    """What float64 gives for the inputs as ``dtype`` holds them."""
    function, *inputs = ROWS[name]
    out = function(*[x.to(dtype).double() if x.is_floating_point() else x for x in inputs])
    return out if isinstance(out, tuple) else (out,)


def test_every_public_name_has_a_row():
    assert set(layers.__all__) - set(OPS) == OF_NO_DTYPE
    names = {name.partition(",")[0] for name in STRUCTURES}
    assert set(structures.__all__) - names == OF_NUMPY


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", ROWS)
def test_each_dtype_gives_the_numbers_of_float64(name, dtype):
    tolerance = max(TOLERANCES[dtype], 1e-6 if name in SINGLE else 0)

    for out, expected in zip(call(name, dtype), rounded(name, dtype), strict=True):
        torch.testing.assert_close(out.double(), expected.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(ROWS.keys() - LOOK_AT_VALUES))
def test_meta_tensors_have_the_shapes_and_dtypes(name, dtype):
    for out, expected in zip(call(name, dtype, "meta"), call(name, dtype), strict=True):
        assert out.is_meta
        assert out.dtype == expected.dtype
        if "nms" in name:  # any number may be kept
            assert len(out) >= len(expected)
        else:
            assert out.shape == expected.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", ROWS)
def test_cuda_gives_the_numbers_of_the_cpu(name, dtype):
    tolerance = max(TOLERANCES[dtype], 1e-5 if name in SINGLE else 0)

    with torch.backends.cudnn.flags(allow_tf32=False):  # which has 10 bits, as bf16 has 7
        outs = call(name, dtype, "cuda")
    for out, expected in zip(outs, call(name, dtype), strict=True):
        assert out.is_cuda
        assert out.dtype == expected.dtype
        torch.testing.assert_close(
            out.cpu().double(), expected.double(), rtol=tolerance, atol=tolerance
        )
