import numpy as np
from hotcoco import mask as runs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retinue.data.transforms.clip import clip_polygon, mask_to_polygons


def area(points):
    x, y = np.asarray(points).reshape(-1, 2).T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def fill(polygons, shape):
    filled = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        filled |= runs.decode(runs.frPoly(polygon.tolist(), *shape)).astype(bool)
    return filled


def test_a_square_is_cut():
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]])
    assert area(clip_polygon(square, (2, 3, 5, 20))) == 3 * 7
    assert area(clip_polygon(square, (-5, -5, 50, 50))) == 100


def test_nothing_is_left():
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]])
    assert len(clip_polygon(square, (20, 20, 30, 30))) == 0
    assert len(clip_polygon(square, (10, 0, 20, 10))) == 0  # touching encloses nothing
    assert len(clip_polygon(np.zeros((0, 2)), (0, 0, 1, 1))) == 0


def test_a_concave_polygon_may_fall_apart():
    """A U of bars 2 wide, cut above its base: two bars of 2 x 5 stay."""
    u = np.array([[0, 0], [2, 0], [2, 8], [6, 8], [6, 0], [8, 0], [8, 10], [0, 10]])
    assert area(clip_polygon(u, (0, 0, 10, 5))) == 20


@given(st.floats(0, 6.28), st.integers(3, 12), st.floats(-3, 13), st.floats(0.1, 9))
def test_parts_on_both_sides_add_up(turn, corners, bound, radius):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    polygon = 5 + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    left = clip_polygon(polygon, (-99, -99, bound, 99))
    right = clip_polygon(polygon, (bound, -99, 99, 99))
    total = sum(area(part) for part in (left, right) if len(part))
    np.testing.assert_allclose(total, area(polygon), rtol=1e-9, atol=1e-9)


def test_one_pixel():
    mask = np.zeros((3, 4))
    mask[1, 2] = 1
    (polygon,) = mask_to_polygons(mask)
    assert sorted(map(tuple, polygon.reshape(-1, 2))) == [(2, 1), (2, 2), (3, 1), (3, 2)]


def test_an_empty_mask():
    assert mask_to_polygons(np.zeros((3, 4))) == []


def test_a_ring_has_one_polygon_with_its_area():
    mask = np.ones((5, 5))
    mask[2, 2] = 0
    (polygon,) = mask_to_polygons(mask)
    assert area(polygon) == 24


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)))
def test_traced_masks_fill_to_themselves(mask):
    polygons = mask_to_polygons(mask)
    assert (fill(polygons, mask.shape) == mask).all()
    assert sum(map(area, polygons)) == mask.sum()
