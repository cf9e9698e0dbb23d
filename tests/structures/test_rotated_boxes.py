"""Expected numbers: by hand, or recorded from detectron2 02b5c4e (golden/structures.npz)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from retinue.structures import RotatedBoxes, pairwise_iou_rotated

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "structures.npz")


def test_methods_one_after_the_other_are_detectron2s():
    params = json.loads(str(GOLDEN["rotated_boxes/params"]))
    boxes = RotatedBoxes(torch.from_numpy(GOLDEN["rotated_boxes/in/b"]).clone())
    got = {
        "area": boxes.area(),
        "centers": boxes.get_centers(),
        "inside": boxes.inside_box(params["inside_box"], params["boundary_threshold"]),
        "nonempty": boxes.nonempty(params["nonempty_threshold"]),
    }
    boxes.normalize_angles()
    got["normalized"] = boxes.tensor.clone()
    boxes.clip(params["clip"], params["clip_angle_threshold"])
    got["clipped"] = boxes.tensor.clone()
    boxes.scale(*params["scale_after_clip"])
    got["scaled"] = boxes.tensor

    for name, value in got.items():
        expected = GOLDEN[f"rotated_boxes/out32/{name}"]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_scaling_a_box_that_lies_across():
    """By hand: turned by 90 degrees, the box's width runs along y."""
    boxes = RotatedBoxes([[10.0, 10.0, 8.0, 2.0, 90.0]])
    boxes.scale(2.0, 3.0)

    torch.testing.assert_close(boxes.tensor, torch.tensor([[20.0, 30.0, 24.0, 4.0, 90.0]]))


def test_clip_leaves_turned_boxes():
    boxes = RotatedBoxes([[0.0, 0.0, 8.0, 4.0, 0.5], [0.0, 0.0, 8.0, 4.0, 45.0]])
    boxes.clip((10, 10))

    torch.testing.assert_close(boxes.tensor[0], torch.tensor([2.0, 1.0, 4.0, 2.0, 0.5]))
    torch.testing.assert_close(boxes.tensor[1], torch.tensor([0.0, 0.0, 8.0, 4.0, 45.0]))


def test_indexing_keeps_the_class():
    boxes = RotatedBoxes(torch.arange(15.0).reshape(3, 5))

    assert type(boxes[1]) is type(boxes[:2]) is type(boxes.clone()) is RotatedBoxes
    assert boxes[1].tensor.tolist() == [[5, 6, 7, 8, 9]]
    assert RotatedBoxes.cat([boxes, boxes[0]]).tensor.shape == (4, 5)
    assert RotatedBoxes.cat([]).tensor.shape == RotatedBoxes([]).tensor.shape == (0, 5)
    assert boxes.to("cpu", non_blocking=True).tensor.shape == (3, 5)


def test_iou_of_a_box_turned_by_a_right_angle():
    """By hand: 4 x 2 across 2 x 4 shares 2 x 2 of 12."""
    boxes = RotatedBoxes([[5.0, 5.0, 4.0, 2.0, 0.0]])
    turned = RotatedBoxes([[5.0, 5.0, 4.0, 2.0, 90.0], [5.0, 5.0, 4.0, 2.0, 180.0]])

    torch.testing.assert_close(pairwise_iou_rotated(boxes, turned), torch.tensor([[1 / 3, 1.0]]))


def test_a_wrong_shape_is_named():
    with pytest.raises(AssertionError, match=r"RotatedBoxes: tensor must have shape \(N, 5\)"):
        RotatedBoxes(torch.zeros(3, 4))
