"""Expected numbers: by hand, or recorded from detectron2 02b5c4e (golden/structures.npz)."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.structures import (
    Boxes,
    BoxMode,
    pairwise_ioa,
    pairwise_iou,
    pairwise_point_box_distance,
)
from retinue.structures.boxes import matched_pairwise_iou, pairwise_intersection

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "structures.npz")


def random_boxes(num, seed=0):
    low = torch.rand(num, 2, generator=torch.Generator().manual_seed(seed)) * 50
    size = torch.rand(num, 2, generator=torch.Generator().manual_seed(seed + 1)) * 40
    return Boxes(torch.cat((low, low + size), dim=1))


@pytest.mark.parametrize(
    "function", [pairwise_iou, pairwise_ioa, pairwise_intersection, matched_pairwise_iou]
)
def test_overlaps_are_detectron2s(function):
    name = function.__name__
    a, b = Boxes(GOLDEN[f"{name}/in/a"]), Boxes(GOLDEN[f"{name}/in/b"])

    np.testing.assert_allclose(function(a, b), GOLDEN[f"{name}/out32"], rtol=1e-6, atol=1e-6)


def test_distances_of_points_are_detectron2s():
    name = "pairwise_point_box_distance"
    points, boxes = torch.from_numpy(GOLDEN[f"{name}/in/points"]), Boxes(GOLDEN[f"{name}/in/b"])

    got = pairwise_point_box_distance(points, boxes)

    np.testing.assert_allclose(got, GOLDEN[f"{name}/out32"], rtol=1e-6)


def test_methods_one_after_the_other_are_detectron2s():
    params = json.loads(str(GOLDEN["area_clip_nonempty/params"]))
    boxes = Boxes(torch.from_numpy(GOLDEN["area_clip_nonempty/in/b"]).clone())
    got = {
        "area": boxes.area(),
        "centers": boxes.get_centers(),
        "inside": boxes.inside_box(params["inside_box"], params["boundary_threshold"]),
        "nonempty": boxes.nonempty(params["nonempty_threshold"]),
    }
    boxes.clip(params["clip"])
    got["clipped"] = boxes.tensor.clone()
    boxes.scale(*params["scale_after_clip"])
    got["scaled"] = boxes.tensor

    for name, value in got.items():
        np.testing.assert_allclose(value, GOLDEN[f"area_clip_nonempty/out32/{name}"], rtol=1e-6)


def test_overlaps_by_hand():
    whole = Boxes([[0, 0, 2, 2]])
    others = Boxes([[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [1, 1, 1, 2]])

    assert pairwise_iou(whole, others).tolist() == [[1.0, pytest.approx(1 / 7), 0.0, 0.0]]
    assert pairwise_ioa(whole, others).tolist() == [[1.0, 0.25, 0.0, 0.0]]


def test_no_boxes_overlap_with_nothing():
    none = Boxes([])

    assert pairwise_iou(none, random_boxes(3)).shape == (0, 3)
    assert pairwise_ioa(random_boxes(3), none).shape == (3, 0)
    assert pairwise_point_box_distance(torch.zeros(0, 2), none).shape == (0, 0, 4)
    assert matched_pairwise_iou(none, none).shape == (0,)


@settings(max_examples=25)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 1000))
def test_iou_is_symmetric_and_bounded(num_a, num_b, seed):
    a, b = random_boxes(num_a, seed), random_boxes(num_b, seed + 2)
    iou = pairwise_iou(a, b)

    torch.testing.assert_close(iou, pairwise_iou(b, a).T)
    assert ((iou >= 0) & (iou <= 1 + 1e-6)).all()
    torch.testing.assert_close(pairwise_iou(a, a).diagonal(), torch.ones(num_a))


def test_iou_has_a_gradient():
    a = torch.tensor([[0.0, 0.0, 4.0, 4.0]], requires_grad=True)

    pairwise_iou(Boxes(a), Boxes([[1.0, 1.0, 5.0, 4.0]])).sum().backward()

    # by hand: intersection 9, union 19; moving x1 by d adds 3d to the intersection, 4d - 3d to it
    torch.testing.assert_close(a.grad[0, 2], torch.tensor((3 * 19 - 9 * 1) / 19**2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bfloat16])
def test_boxes_are_float32_whatever_came_in(dtype):
    assert Boxes(torch.tensor([[1, 2, 3, 4]], dtype=dtype)).tensor.dtype == torch.float32
    assert Boxes([[1, 2, 3, 4]]).to("cpu").tensor.dtype == torch.float32


@pytest.mark.parametrize("shape", [(0,), (0, 4), (0, 7)])
def test_nothing_is_no_boxes(shape):
    boxes = Boxes(torch.zeros(shape))
    boxes.clip((5, 5))

    assert boxes.tensor.shape == (0, 4)
    assert boxes.area().shape == boxes.nonempty().shape == (0,)


def test_indexing():
    boxes = random_boxes(4)

    assert torch.equal(boxes[1].tensor, boxes.tensor[1:2])
    assert torch.equal(boxes[-1].tensor, boxes.tensor[3:])
    assert torch.equal(boxes[1:3].tensor, boxes.tensor[1:3])
    assert torch.equal(boxes[boxes.tensor[:, 0] > 20].tensor, boxes.tensor[boxes.tensor[:, 0] > 20])
    assert torch.equal(boxes[torch.tensor([2, 0])].tensor, boxes.tensor[[2, 0]])
    assert len(list(boxes)) == 4
    with pytest.raises(IndexError):
        boxes[4]


def test_cat_and_clone_have_their_own_memory():
    boxes = random_boxes(2)
    joined, cloned = Boxes.cat([boxes, boxes]), boxes.clone()
    boxes.scale(0.0, 0.0)

    assert len(joined) == 4
    assert joined.tensor.abs().sum() > 0
    assert cloned.tensor.abs().sum() > 0
    assert Boxes.cat([]).tensor.shape == (0, 4)


def test_boxes_survive_pickle_and_copy():
    boxes = random_boxes(2)

    assert torch.equal(pickle.loads(pickle.dumps(boxes)).tensor, boxes.tensor)
    assert torch.equal(copy.deepcopy(boxes).tensor, boxes.tensor)
    assert repr(Boxes([[0, 0, 1, 1]])) == "Boxes(tensor([[0., 0., 1., 1.]]))"


@pytest.mark.parametrize("error", [ValueError, AssertionError])
def test_wrong_input_is_named(error):
    with pytest.raises(error, match=r"Boxes: tensor must have shape \(N, 4\); got \(3, 5\)"):
        Boxes(torch.zeros(3, 5))
    with pytest.raises(error, match=r"1 of 2 boxes are not, the first is 1: \[0\.0, nan"):
        Boxes([[0, 0, 1, 1], [0, float("nan"), 1, 1]]).clip((5, 5))
    with pytest.raises(error, match="expected a list or tuple; got Boxes"):
        Boxes.cat(random_boxes(1))
    with pytest.raises(error, match="element 0 must be Boxes; got Tensor"):
        Boxes.cat([torch.zeros(1, 4)])
    with pytest.raises(error, match="same number of boxes; got 1 and 2"):
        matched_pairwise_iou(random_boxes(1), random_boxes(2))


class TestBoxMode:
    """By hand. A box 30 wide, 20 high around (50, 50), also turned by a right angle."""

    CASES = (
        (BoxMode.XYXY_ABS, [5, 5, 10, 12], BoxMode.XYWH_ABS, [5, 5, 5, 7]),
        (BoxMode.XYWH_ABS, [5, 5, 5, 7], BoxMode.XYXY_ABS, [5, 5, 10, 12]),
        (BoxMode.XYWH_ABS, [35, 40, 30, 20], BoxMode.XYWHA_ABS, [50, 50, 30, 20, 0]),
        (BoxMode.XYWHA_ABS, [50, 50, 30, 20, 0], BoxMode.XYXY_ABS, [35, 40, 65, 60]),
        (BoxMode.XYWHA_ABS, [50, 50, 30, 20, 90], BoxMode.XYXY_ABS, [40, 35, 60, 65]),
    )

    @pytest.mark.parametrize(("source", "box", "target", "expected"), CASES)
    @pytest.mark.parametrize("kind", [list, tuple])
    def test_one_box(self, kind, source, box, target, expected):
        got = BoxMode.convert(kind(map(float, box)), source, target)

        assert type(got) is kind
        assert type(got[0]) is float
        assert got == pytest.approx(kind(expected))

    @pytest.mark.parametrize(("source", "box", "target", "expected"), CASES)
    @pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
    def test_arrays_and_tensors_keep_type_and_dtype(self, dtype, source, box, target, expected):
        array = np.array([box, box], dtype=dtype)
        before = array.copy()
        got = BoxMode.convert(array, source, target)
        got_tensor = BoxMode.convert(torch.from_numpy(array), source, target)

        assert got.dtype == array.dtype
        np.testing.assert_allclose(got, np.array([expected, expected]), atol=1e-5)
        assert isinstance(got_tensor, torch.Tensor)
        assert np.array_equal(got_tensor.numpy(), got)
        assert np.array_equal(array, before)

    def test_no_boxes(self):
        got = BoxMode.convert(np.zeros((0, 4)), BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS)

        assert got.shape == (0, 5)

    def test_a_score_behind_a_box_is_handed_through(self):
        """As detectron2 does with the rows of proposals and of text detectors."""
        rows = np.array([[5.0, 5, 10, 12, 0.25]])

        got = BoxMode.convert(rows, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        assert got.tolist() == [[5, 5, 5, 7, 0.25]]
        assert BoxMode.convert([5, 5, 5, 7, 9], BoxMode.XYWH_ABS, 0) == [5, 5, 10, 12, 9]

    def test_modes_are_plain_integers(self):
        assert json.loads(json.dumps({"m": BoxMode.XYWH_ABS})) == {"m": 1}
        assert BoxMode.convert([1, 2, 4, 6], 0, 1) == [1, 2, 3, 4]
        assert BoxMode.convert(box := [1, 2], 0, 0) is box

    def test_wrong_input_is_named(self):
        with pytest.raises(AssertionError, match=r"XYXY_ABS has 4 numbers .* got shape \(3,\)"):
            BoxMode.convert([1, 2, 3], BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        with pytest.raises(AssertionError, match=r"XYWH_ABS has 4 numbers .* got shape \(5,\)"):
            BoxMode.convert([1, 2, 3, 4, 5], BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS)
        with pytest.raises(AssertionError, match="XYXY_REL to XYXY_ABS needs the image size"):
            BoxMode.convert([0.0, 0.0, 1.0, 1.0], BoxMode.XYXY_REL, BoxMode.XYXY_ABS)
        with pytest.raises(NotImplementedError, match="no conversion from XYXY_ABS to XYWHA_ABS"):
            BoxMode.convert([0.0, 0.0, 1.0, 1.0], BoxMode.XYXY_ABS, BoxMode.XYWHA_ABS)
