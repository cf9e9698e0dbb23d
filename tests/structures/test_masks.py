"""Expected masks: by hand, or recorded from detectron2 02b5c4e with pycocotools 2.0.10."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.structures import BitMasks, Boxes, PolygonMasks, ROIMasks, polygons_to_bitmask
from retinue.structures.masks import polygon_area, rasterize_polygons_within_box

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "structures.npz")
SQUARE = [1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]


def recorded(name):
    value = GOLDEN[name]
    shape = name.replace("bitmask", "shape") if name.startswith("small") else name + "/shape"
    if value.dtype != np.uint8:
        return value
    shape = GOLDEN[shape]
    return np.unpackbits(value, count=int(np.prod(shape))).reshape(shape).astype(bool)


def params(case):
    return json.loads(str(GOLDEN[f"{case}/params"]))


@pytest.mark.parametrize("case", ["polygons", "small_polygons"])
def test_filled_polygons_have_pycocotools_pixels(case):
    given_ = params(case)
    masks = BitMasks.from_polygon_masks(given_["polygons"], given_["height"], given_["width"])
    expected = recorded(f"{case}/out64/bitmask")

    assert np.array_equal(masks.tensor, expected)
    for polygons, mask in zip(given_["polygons"], expected, strict=True):
        one = polygons_to_bitmask(polygons, given_["height"], given_["width"])
        assert one.dtype == np.bool_
        assert np.array_equal(one, mask)


@pytest.mark.parametrize("size", [14, 28])
def test_polygons_within_boxes_have_pycocotools_pixels(size):
    case = f"polygon_crop_and_resize_{size}"
    masks = PolygonMasks(params(case)["polygons"])
    boxes = torch.from_numpy(GOLDEN[f"{case}/in/boxes"])
    expected = recorded(f"{case}/out64")

    assert np.array_equal(masks.crop_and_resize(boxes, size), expected)
    one = rasterize_polygons_within_box(masks.polygons[0], boxes[0].numpy(), size)
    assert np.array_equal(one, expected[0])


@pytest.mark.parametrize("size", [14, 28])
def test_bitmaps_within_boxes_are_detectron2s(size):
    case = f"bitmask_crop_and_resize_{size}"
    masks = BitMasks(recorded("polygons/out64/bitmask"))
    boxes = torch.from_numpy(GOLDEN[f"{case}/in/boxes"])

    assert np.array_equal(masks.crop_and_resize(boxes, size), recorded(f"{case}/out64"))


def test_areas_and_boxes_are_detectron2s():
    polygons = PolygonMasks(params("polygons")["polygons"])
    bitmaps = BitMasks(recorded("polygons/out64/bitmask"))

    np.testing.assert_allclose(polygons.area(), GOLDEN["polygons/out64/area"], rtol=1e-12)
    assert np.array_equal(polygons.get_bounding_boxes().tensor, GOLDEN["polygons/out64/boxes"])
    assert np.array_equal(bitmaps.get_bounding_boxes().tensor, GOLDEN["bitmask_boxes/out64"])


def test_a_square_by_hand():
    mask = polygons_to_bitmask([np.array(SQUARE)], 4, 4)

    assert mask.sum() == 4
    assert mask[1:3, 1:3].all()
    assert polygon_area(np.array(SQUARE[0::2]), np.array(SQUARE[1::2])) == 4.0
    assert PolygonMasks([[SQUARE]]).get_bounding_boxes().tensor.tolist() == [[1, 1, 3, 3]]
    assert BitMasks(mask[None]).get_bounding_boxes().tensor.tolist() == [[1, 1, 3, 3]]


def test_filling_leaves_the_polygon_as_it_is():
    polygon = np.array(SQUARE)
    rasterize_polygons_within_box([polygon], np.array([0.0, 0.0, 2.0, 2.0]), 8)

    assert polygon.tolist() == SQUARE


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_a_union_of_polygons_is_the_or_of_their_masks(seed, num):
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(-5, 25, size=2 * rng.integers(3, 8)) for _ in range(num)]
    each = [polygons_to_bitmask([p], 20, 22) for p in polygons]

    assert np.array_equal(polygons_to_bitmask(polygons, 20, 22), np.logical_or.reduce(each))


def test_nothing_is_an_ordinary_case():
    none = PolygonMasks([])
    blank = PolygonMasks([[], [SQUARE]])

    assert not polygons_to_bitmask([], 4, 5).any()
    assert BitMasks.from_polygon_masks([], 4, 5).tensor.shape == (0, 4, 5)
    assert none.crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)
    assert none.get_bounding_boxes().tensor.shape == (0, 4)
    assert none.area().shape == none.nonempty().shape == (0,)
    assert blank.nonempty().tolist() == [False, True]
    assert blank.get_bounding_boxes().tensor[0].tolist() == [0, 0, 0, 0]
    assert BitMasks.from_polygon_masks(blank, 4, 4).nonempty().tolist() == [False, True]
    empty = BitMasks(torch.zeros(0, 4, 5))
    assert empty.get_bounding_boxes().tensor.shape == (0, 4)
    assert empty.crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)
    assert BitMasks(torch.zeros(2, 4, 5)).get_bounding_boxes().tensor.tolist() == [[0] * 4] * 2


def test_a_box_without_area_gives_a_mask():
    masks = PolygonMasks([[SQUARE]]).crop_and_resize(torch.tensor([[1.0, 1.0, 1.0, 3.0]]), 4)

    assert masks.shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (1, [1]),
        (np.int64(2), [2]),
        (slice(1, None), [1, 2]),
        ([2, 0], [2, 0]),
        ([], []),
        (torch.tensor([2, 0]), [2, 0]),
        (torch.tensor([], dtype=torch.int64), []),
        (torch.tensor([True, False, True]), [0, 2]),
        (torch.zeros(3, dtype=torch.bool), []),
    ],
)
def test_indexing(index, kept):
    shifts = torch.arange(3.0)
    polygons = PolygonMasks([[np.array(SQUARE) + float(s)] for s in shifts])
    bitmaps = BitMasks(torch.eye(3)[:, None].expand(3, 2, 3))

    assert [p[0][0] - 1 for p in polygons[index]] == kept
    if not isinstance(index, list):
        assert torch.equal(bitmaps[index].tensor, bitmaps.tensor[kept])
    roi = ROIMasks(shifts[:, None, None].expand(3, 2, 2))
    if isinstance(index, torch.Tensor | slice):
        assert roi[index].tensor[:, 0, 0].tolist() == kept


def test_cat_to_and_pickle():
    polygons, bitmaps = PolygonMasks([[SQUARE]]), BitMasks(torch.ones(1, 4, 4))

    assert len(PolygonMasks.cat([polygons, polygons])) == 2
    assert len(BitMasks.cat([bitmaps, bitmaps])) == 2
    assert polygons.to("cpu") is polygons
    assert polygons.device == bitmaps.to("cpu").device == torch.device("cpu")
    assert repr(polygons) == "PolygonMasks(num_instances=1)"
    assert repr(bitmaps) == "BitMasks(num_instances=1)"
    assert pickle.loads(pickle.dumps(polygons)).polygons[0][0].tolist() == SQUARE
    assert bitmaps.image_size == (4, 4)
    assert len(list(bitmaps)) == len(list(polygons)) == 1


def test_roi_masks_are_pasted_into_their_boxes():
    masks = ROIMasks(torch.ones(1, 4, 4))
    boxes = Boxes([[1.0, 2.0, 5.0, 6.0]])

    pasted = masks.to_bitmasks(boxes, 8, 7)

    assert pasted.get_bounding_boxes().tensor.tolist() == [[1, 2, 5, 6]]
    assert torch.equal(BitMasks.from_roi_masks(masks, 8, 7, boxes=boxes).tensor, pasted.tensor)
    assert repr(masks.to("cpu")) == "ROIMasks(num_instances=1)"


class TestWrongInput:
    def test_polygons(self):
        with pytest.raises(ValueError, match="one list of polygons an instance; got ndarray"):
            PolygonMasks(np.zeros((1, 6)))
        with pytest.raises(ValueError, match="instance 1 must be a list of polygons; got ndarray"):
            PolygonMasks([[SQUARE], np.zeros(6)])
        with pytest.raises(ValueError, match=r"polygon 0 of instance 0 .* got shape \(4,\)"):
            PolygonMasks([[[0, 0, 1, 1]]])
        with pytest.raises(ValueError, match=r"got shape \(7,\)"):
            PolygonMasks([[[0, 0, 1, 1, 2, 2, 3]]])

    def test_index_of_another_kind(self):
        masks = PolygonMasks([[SQUARE]])
        with pytest.raises(ValueError, match=r"int64, int32 or bool; got torch\.float32"):
            masks[torch.ones(1)]
        with pytest.raises(AssertionError, match=r"bool index must have shape \(1,\); got \(2,\)"):
            masks[torch.ones(2, dtype=torch.bool)]

    def test_number_of_boxes(self):
        with pytest.raises(AssertionError, match=r"boxes must have shape \(1, 4\); got \(2, 4\)"):
            PolygonMasks([[SQUARE]]).crop_and_resize(torch.zeros(2, 4), 7)
        with pytest.raises(AssertionError, match=r"boxes must have shape \(1, 4\); got \(2, 4\)"):
            BitMasks(torch.ones(1, 4, 4)).crop_and_resize(torch.zeros(2, 4), 7)

    def test_dimensions(self):
        with pytest.raises(AssertionError, match=r"BitMasks: tensor must have shape \(N, H, W\)"):
            BitMasks(torch.zeros(4, 4))
        with pytest.raises(ValueError, match=r"ROIMasks: tensor must have shape"):
            ROIMasks(torch.zeros(2, 1, 4, 4))

    def test_cat_of_nothing(self):
        with pytest.raises(AssertionError, match=r"PolygonMasks.cat: expected at least 1"):
            PolygonMasks.cat([])
        with pytest.raises(AssertionError, match=r"BitMasks.cat: expected at least 1"):
            BitMasks.cat([])
