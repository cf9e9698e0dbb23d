"""``detectron2._C``: results go to given tensors; COCO's evaluation gives pycocotools' numbers.

And ``tensormask._C``.
"""

import importlib
import sys
import types

import hotcoco
import numpy as np
import pytest
import torch

from retinue.compat import native
from retinue.layers import roi_align_rotated
from retinue.layers.deform_conv import deform_conv, modulated_deform_conv
from retinue.projects.tensormask.layers import swap_align2nat

X = torch.linspace(-1, 1, 2 * 4 * 5 * 6, dtype=torch.float64).view(2, 4, 5, 6).sin()
WEIGHT = torch.linspace(-1, 1, 3 * 4 * 9, dtype=torch.float64).view(3, 4, 3, 3).cos()
OFFSET = torch.linspace(-1, 1, 2 * 18 * 5 * 6, dtype=torch.float64).view(2, 18, 5, 6).cos()
MASK = torch.linspace(0, 1, 2 * 9 * 5 * 6, dtype=torch.float64).view(2, 9, 5, 6)
GEOMETRY = (3, 3, 1, 1, 1, 1, 1, 1, 1, 1)  # kernel, stride, padding, dilation, groups


def test_served_as_a_module(hook):
    from detectron2 import _C

    assert _C is native
    assert not _C.get_cuda_version() or _C.has_cuda()
    assert "Python" in _C.get_compiler_version()


def test_deformable_convolution():
    inputs = [t.clone().requires_grad_() for t in (X, OFFSET, WEIGHT)]
    expected = deform_conv(*inputs, padding=1)
    grad = torch.ones_like(expected)
    grads = torch.autograd.grad(expected, inputs, grad)

    out, empty = torch.empty(0, dtype=torch.float64), torch.empty(0)
    assert native.deform_conv_forward(X, WEIGHT, OFFSET, out, empty, empty, *GEOMETRY, 64) == 1
    assert torch.equal(out, expected.detach())
    gx, go = torch.empty_like(X), torch.empty_like(OFFSET)
    native.deform_conv_backward_input(X, OFFSET, grad, gx, go, WEIGHT, empty, *GEOMETRY, 64)
    gw = torch.zeros_like(WEIGHT)
    native.deform_conv_backward_filter(X, OFFSET, grad, gw, empty, empty, *GEOMETRY, 2.0, 64)
    for found, wanted in zip((gx, go, gw / 2), grads, strict=True):
        assert torch.allclose(found, wanted)


def test_modulated_deformable_convolution():
    bias = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in (X, OFFSET, MASK, WEIGHT, bias)]
    expected = modulated_deform_conv(*inputs, padding=1)
    grad = torch.ones_like(expected)
    grads = torch.autograd.grad(expected, inputs, grad)

    empty, out = torch.empty(0), torch.empty(0, dtype=torch.float64)
    native.modulated_deform_conv_forward(
        X, WEIGHT, bias, empty, OFFSET, MASK, out, empty, *GEOMETRY, True
    )
    assert torch.equal(out, expected.detach())
    gx, gw, gb, go, gm = (torch.empty_like(t) for t in (X, WEIGHT, bias, OFFSET, MASK))
    native.modulated_deform_conv_backward(
        X, WEIGHT, bias, empty, OFFSET, MASK, empty, gx, gw, gb, go, gm, grad, *GEOMETRY, True
    )
    for found, wanted in zip((gx, go, gm, gw, gb), grads, strict=True):
        assert torch.allclose(found, wanted)


def test_rotated_operators(hook):
    import detectron2.layers  # noqa: F401 - defines torch.ops.detectron2

    boxes = torch.tensor([[5.0, 5.0, 4.0, 4.0, 0.0], [5.0, 5.0, 4.0, 4.0, 90.0], [50, 5, 4, 4, 9]])
    ops = torch.ops.detectron2
    assert ops.box_iou_rotated(boxes[:1], boxes).round(decimals=4).tolist() == [[1.0, 1.0, 0.0]]
    assert ops.nms_rotated(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]

    x = X.float().requires_grad_()
    rois = torch.tensor([[0, 2.0, 2.0, 3.0, 3.0, 30.0], [1, 3.0, 2.0, 4.0, 2.0, 0.0]])
    expected = roi_align_rotated(x, rois, (2, 2), 0.5, 1)
    out = ops.roi_align_rotated_forward(x.detach(), rois, 0.5, 2, 2, 1)
    assert torch.equal(out, expected.detach())
    grad = torch.ones_like(out)
    found = ops.roi_align_rotated_backward(grad, rois, 0.5, 2, 2, *x.shape, 1)
    assert torch.allclose(found, torch.autograd.grad(expected, x, grad)[0])


def _dataset():
    rng = np.random.default_rng(3)
    corner, size = rng.integers(0, 60, (30, 2)), rng.integers(4, 40, (30, 2))
    boxes = np.concatenate([corner, size], axis=1).astype(float)
    objects = [
        {
            "id": i + 1,
            "image_id": i % 3,
            "category_id": i % 2 + 1,
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "iscrowd": int(i == 4),
        }
        for i, box in enumerate(boxes)
    ]
    found = [
        {
            "image_id": o["image_id"],
            "category_id": o["category_id"],
            "bbox": [v + d for v, d in zip(o["bbox"], rng.integers(0, 4, 4).tolist(), strict=True)],
            "score": float(rng.random()),
        }
        for o in objects
        for _ in range(2)
    ]
    images = [{"id": i, "width": 100, "height": 100} for i in range(3)]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    return {"images": images, "annotations": objects, "categories": categories}, found


def _overlaps(found, objects):
    iou = hotcoco.mask.iou(
        [d["bbox"] for d in found],
        [o["bbox"] for o in objects],
        [o["iscrowd"] for o in objects],
    )
    return np.asarray(iou).reshape(len(found), len(objects))


def test_coco_evaluation_gives_hotcocos_numbers():
    """hotcoco's own numbers are pycocotools'."""
    truth, found = _dataset()
    coco = hotcoco.COCO(truth)
    reference = hotcoco.COCOeval(coco, coco.loadRes(found), "bbox")
    reference.evaluate()
    reference.accumulate()
    p = reference.params

    cells = [
        [([o for o in truth["annotations"] if (o["image_id"], o["category_id"]) == (i, c)],
          sorted((d for d in found if (d["image_id"], d["category_id"]) == (i, c)),
                 key=lambda d: -d["score"])) for c in p.catIds]
        for i in p.imgIds
    ]  # fmt: skip
    ious = [[_overlaps(dets, objects) for objects, dets in row] for row in cells]
    objects = [
        [
            [native.InstanceAnnotation(o["id"], 0.0, o["area"], bool(o["iscrowd"]), bool(o["iscrowd"])) for o in some]  # noqa: E501
            for some, _ in row
        ]
        for row in cells
    ]  # fmt: skip
    dets = [
        [
            [native.InstanceAnnotation(0, d["score"], d["bbox"][2] * d["bbox"][3], False, False) for d in some]  # noqa: E501
            for _, some in row
        ]
        for row in cells
    ]  # fmt: skip
    images = native.COCOevalEvaluateImages(p.areaRng, p.maxDets[-1], p.iouThrs, ious, objects, dets)
    result = native.COCOevalAccumulate(p, images)

    for name in ("precision", "recall", "scores"):
        assert result[name] == pytest.approx(np.asarray(reference.eval[name]), abs=1e-9), name
    assert result["counts"] == [10, 101, 2, 4, 3]


def test_no_thresholds_and_no_objects():
    params = types.SimpleNamespace(
        iouThrs=[],
        recThrs=[0.0],
        catIds=[1],
        useCats=1,
        areaRng=[[0, 1e5]],
        imgIds=[1],
        maxDets=[1],
    )
    some = native.InstanceAnnotation(1, 0.5, 9.0, False, False)
    images = native.COCOevalEvaluateImages([[0, 1e5]], 1, [], [[[[1.0]]]], [[[some]]], [[[some]]])
    assert native.COCOevalAccumulate(params, images)["precision"].shape == (0, 1, 1, 1, 1)

    params.iouThrs = [0.5]
    images = native.COCOevalEvaluateImages([[0, 1e5]], 1, [0.5], [[[]]], [[[]]], [[[]]])
    assert native.COCOevalAccumulate(params, images)["precision"].item() == -1


@pytest.fixture
def tensormask_extension(hook, monkeypatch, tmp_path):
    """``tensormask._C`` as a clone of detectron2's TensorMask imports it, never compiled."""
    (tmp_path / "tensormask").mkdir()
    (tmp_path / "tensormask" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    try:
        yield importlib.import_module("tensormask._C")
    finally:
        for name in ("tensormask", "tensormask._C"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize("factor", [1, 2])
def test_tensormask_swaps_without_its_extension(tensormask_extension, factor):
    x = X[:, :, :4].clone().requires_grad_()  # masks of 2 x 2 on a grid of 4 x 6
    expected = swap_align2nat(x, factor, -6.0)
    assert expected.shape == (2, 4 * factor**2, 4 // factor, 6 // factor)
    grad = torch.linspace(0, 1, expected.numel(), dtype=torch.float64).view_as(expected)

    found = tensormask_extension.swap_align2nat_forward(x, factor, -6.0)
    assert not found.requires_grad
    assert torch.equal(found, expected)
    with torch.no_grad():  # as in the backward of an autograd function
        backward = tensormask_extension.swap_align2nat_backward(grad, factor, *x.shape)
    assert torch.allclose(backward, torch.autograd.grad(expected, x, grad)[0])


def test_tensormask_is_fine_without_cells(tensormask_extension):
    empty = torch.empty(0, 4, 2, 2)
    assert tensormask_extension.swap_align2nat_forward(empty, 1, -6.0).shape == (0, 4, 2, 2)
    assert tensormask_extension.swap_align2nat_backward(empty, 1, 0, 4, 2, 2).shape == (0, 4, 2, 2)
