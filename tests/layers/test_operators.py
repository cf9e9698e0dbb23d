"""What all registered operators promise: fakes that fit, and whole graphs when compiled."""

import subprocess
import sys

import pytest
import torch

from retinue import layers
from retinue.layers import mask_ops
from retinue.layers.deform_conv import modulated_deform_conv

FEATURES = [torch.randn(2, 3, 9, 8), torch.randn(2, 3, 5, 4)]
ROIS = torch.tensor([[0, 1.0, 1, 6, 5], [1, 0, 0, 9, 8], [1, 3, 3, 3, 3]])
ROTATED_ROIS = torch.tensor([[0, 4.0, 4, 6, 5, 30], [1, 2, 3, 4, 5, -60]])
BOXES = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]])
ROTATED = torch.tensor([[2.0, 2, 4, 4, 0], [2, 2, 4, 4, 45], [9, 9, 1, 1, 10]])
SCORES = torch.tensor([0.5, 0.9, 0.7])
GROUPS = torch.tensor([0, 0, 1])
MASKS = torch.rand(3, 7, 7)

OPERATORS = {
    "roi_align_levels": lambda g: (
        [f.clone().requires_grad_(g) for f in FEATURES],
        ROIS,
        torch.tensor([0, 1, 0]),
        [2, 3],
        [1.0, 0.5],
        0,
        True,
    ),
    "roi_align_rotated_levels": lambda g: (
        [f.clone().requires_grad_(g) for f in FEATURES],
        ROTATED_ROIS,
        torch.tensor([0, 1]),
        [2, 3],
        [1.0, 0.5],
        2,
        True,
    ),
    "roi_pool": lambda g: (FEATURES[0].clone().requires_grad_(g), ROIS, [2, 3], 1.0),
    "paste_masks": lambda g: (MASKS, BOXES, 10, 12, 0.5),
    "crop_masks": lambda g: (MASKS, BOXES, 5),
    "nms": lambda g: (BOXES, SCORES, GROUPS, 0.5),
    "touching_pairs": lambda g: (BOXES, BOXES),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_registrations_hold_what_they_say(name):
    operator = getattr(torch.ops.retinue, name).default

    torch.library.opcheck(operator, OPERATORS[name](True))


CALLS = {
    "roi_align": lambda x: layers.roi_align(x, ROIS, 3, aligned=True).sin(),
    "roi_align_rotated": lambda x: layers.roi_align_rotated(x, ROTATED_ROIS, 3, 1.0, 0).sin(),
    "roi_pool": lambda x: layers.roi_pool(x, ROIS, 3).sin(),
    "nms": lambda x: BOXES[layers.nms(BOXES, SCORES, 0.5)] + x.mean(),
    "batched_nms": lambda x: BOXES[layers.batched_nms(BOXES, SCORES, GROUPS, 0.5)] + x.mean(),
    "nms_rotated": lambda x: BOXES[layers.nms_rotated(ROTATED, SCORES, 0.3)] + x.mean(),
    "paste_masks": lambda x: layers.paste_masks_in_image(MASKS, BOXES, (9, 12)) * x.mean(),
    "crop_masks": lambda x: mask_ops.crop_masks(MASKS, BOXES, 5) * x.mean(),
    "iou_rotated": lambda x: layers.pairwise_iou_rotated(ROTATED * x.mean().abs(), ROTATED),
    "deform_conv": lambda x: modulated_deform_conv(
        x, x.new_ones(2, 18, 9, 8) * 0.3, None, x.new_ones(4, 3, 3, 3), padding=1
    ),
    "frozen_norm": layers.FrozenBatchNorm2d(3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_compiles_as_one_graph(name):
    x = FEATURES[0].clone().requires_grad_()
    expected = CALLS[name](x)
    (expected_grad,) = torch.autograd.grad(expected.sum(), x)

    torch._dynamo.reset()
    # PyTorch before 2.7 breaks the graph at outputs of unknown size unless told otherwise.
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        out = torch.compile(CALLS[name], fullgraph=True, backend="aot_eager")(x)
    (grad,) = torch.autograd.grad(out.sum(), x)

    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grad, expected_grad)


class Pool(torch.nn.Module):
    def forward(self, x, rois, boxes, scores):
        pooled = layers.roi_align(x, rois, 2, aligned=True)
        return pooled, boxes[layers.nms(boxes, scores, 0.5)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_exports_with_any_number_of_regions():
    regions, boxes = torch.export.Dim("regions", min=2), torch.export.Dim("boxes", min=2)
    inputs = (FEATURES[0], ROIS, BOXES, SCORES)

    program = torch.export.export(
        Pool(), inputs, dynamic_shapes=(None, {0: regions}, {0: boxes}, {0: boxes})
    )

    more = (FEATURES[0], ROIS.repeat(2, 1), BOXES.repeat(3, 1), torch.rand(9))
    for got, expected in zip(program.module()(*more), Pool()(*more), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.slow
def test_first_calls_do_not_import_the_compiler():
    code = (
        "import sys, torch, retinue.layers as layers;"
        "layers.roi_align(torch.rand(1, 3, 8, 8), torch.zeros(1, 5), 2);"
        "layers.nms(torch.zeros(1, 4), torch.zeros(1), 0.5);"
        "assert 'torch._dynamo' not in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CALLS)
def test_cuda_gives_the_numbers_of_the_cpu(name, dtype):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if name == "frozen_norm" or (dtype == torch.bfloat16 and name == "iou_rotated"):
        pytest.skip("covered by the module's own tests")
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2}[dtype]
    x = FEATURES[0].to(dtype)
    expected = CALLS[name](x)
    names = ("ROIS", "ROTATED_ROIS", "BOXES", "ROTATED", "SCORES", "GROUPS", "MASKS")
    saved = {n: globals()[n] for n in names}
    globals().update({n: t.cuda() for n, t in saved.items()})
    try:
        out = CALLS[name](x.cuda())
    finally:
        globals().update(saved)
    torch.testing.assert_close(
        out.cpu().double(), expected.double(), rtol=tolerance, atol=tolerance
    )
