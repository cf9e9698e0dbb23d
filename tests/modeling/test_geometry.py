"""Box offsets, matching, anchors, levels, resizing: numbers recorded from detectron2 02b5c4e."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from retinue.modeling.anchor_generator import DefaultAnchorGenerator, RotatedAnchorGenerator
from retinue.modeling.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    Box2BoxTransformRotated,
)
from retinue.modeling.matcher import Matcher
from retinue.modeling.poolers import assign_boxes_to_levels
from retinue.modeling.postprocessing import sem_seg_postprocess
from retinue.structures import Boxes

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "geometry.npz")
TRANSFORMS = {
    "plain": lambda p: Box2BoxTransform(p["weights"]),
    "rotated": lambda p: Box2BoxTransformRotated(p["weights"]),
    "linear": lambda p: Box2BoxTransformLinear(p["normalize_by_size"]),
}


def cases(*prefixes):
    return sorted({key.split("/")[0] for key in GOLDEN if key.startswith(prefixes)})


def params(case):
    return json.loads(str(GOLDEN[f"{case}/params"]))


@pytest.mark.parametrize("case", cases("plain_get", "plain_apply", "rotated_get", "rotated_apply",
                                       "linear_get", "linear_apply"))  # fmt: skip
def test_offsets_and_their_gradients(case):
    kind, direction, _ = case.split("_")
    transform = TRANSFORMS[kind](params(case))
    names = ("src", "dst") if direction == "get" else ("deltas", "boxes")
    given = [torch.from_numpy(GOLDEN[f"{case}/in/{n}"]).double().requires_grad_() for n in names]
    out = (transform.get_deltas if direction == "get" else transform.apply_deltas)(*given)

    np.testing.assert_allclose(out.detach(), GOLDEN[f"{case}/out64"], rtol=1e-9, atol=1e-9)
    if f"{case}/cotangent" in GOLDEN:
        (out * torch.from_numpy(GOLDEN[f"{case}/cotangent"])).sum().backward()
        for name, tensor in zip(names, given, strict=True):
            if f"{case}/grad64/{name}" in GOLDEN:
                expected = GOLDEN[f"{case}/grad64/{name}"]
                np.testing.assert_allclose(tensor.grad, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", cases("low_", "plain_0"))
def test_matches(case):
    given = params(case)
    matcher = Matcher(given["thresholds"], given["labels"], given["allow_low_quality_matches"])
    (quality,) = (GOLDEN[key] for key in GOLDEN if key.startswith(f"{case}/in/"))
    matches, labels = matcher(torch.from_numpy(quality))

    assert np.array_equal(matches, GOLDEN[f"{case}/out32/matches"])
    assert np.array_equal(labels, GOLDEN[f"{case}/out32/labels"])
    assert (matches.dtype, labels.dtype) == (torch.int64, torch.int8)


@pytest.mark.parametrize(
    "case", ["fpn_0.0", "fpn_0.5", "single", "retinanet", "rotated", "rotated_fpn"]
)
def test_anchors(case):
    given = params(case)
    grids = given.pop("grid_sizes")
    maker = RotatedAnchorGenerator if "angles" in given else DefaultAnchorGenerator
    generator = maker(**given)
    anchors = generator([torch.zeros(2, 1, *size) for size in grids])

    for level, boxes in enumerate(anchors):
        np.testing.assert_allclose(boxes.tensor, GOLDEN[f"{case}/out32/{level}"], rtol=1e-6)
        cell = list(generator.cell_anchors)[level]
        np.testing.assert_allclose(cell, GOLDEN[f"{case}/out32/cell/{level}"], rtol=1e-6)
    assert (
        generator.num_anchors
        == generator.num_cell_anchors
        == [len(c) for c in generator.cell_anchors]
    )


def test_levels():
    boxes = Boxes(GOLDEN["assign_boxes_to_levels/in/boxes"])
    given = params("assign_boxes_to_levels")
    halves = [boxes[:25], boxes[25:25], boxes[25:]]

    assert np.array_equal(
        assign_boxes_to_levels(halves, **given), GOLDEN["assign_boxes_to_levels/out64"]
    )


def test_semantic_logits_at_another_size():
    given = params("sem_seg_postprocess")
    x = torch.from_numpy(GOLDEN["sem_seg_postprocess/in/x"]).double().requires_grad_()
    out = sem_seg_postprocess(x, given["image_size"], *given["output"])
    (out * torch.from_numpy(GOLDEN["sem_seg_postprocess/cotangent"])).sum().backward()

    np.testing.assert_allclose(out.detach(), GOLDEN["sem_seg_postprocess/out64"], rtol=1e-9)
    np.testing.assert_allclose(x.grad, GOLDEN["sem_seg_postprocess/grad64/x"], rtol=1e-9, atol=1e-9)
