import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.visualization.regions import label_regions, label_spot, outlines, polygon_area


def masks(max_side=9):
    """Any small mask, from rows of bits."""
    return st.integers(1, max_side).flatmap(
        lambda width: st.lists(
            st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=max_side
        ).map(np.array)
    )


def flood_fill(mask):
    """The slow twin: number 8-connected regions one pixel at a time."""
    labels, number = np.zeros(mask.shape, dtype=int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        number += 1
        stack = [start]
        while stack:
            y, x = stack.pop()
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if inside and mask[y, x] and not labels[y, x]:
                labels[y, x] = number
                stack += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return labels, number


@given(masks())
def test_regions_are_those_of_a_flood_fill(mask):
    labels, areas = label_regions(mask)
    expected, number = flood_fill(mask)

    assert len(areas) == number
    assert len(set(zip(labels[mask], expected[mask], strict=True))) == number
    np.testing.assert_array_equal(areas, np.bincount(labels.ravel(), minlength=1)[1:])


@given(masks())
def test_outlines_enclose_exactly_the_mask(mask):
    outer, holes = outlines(mask)

    assert len(outer) == flood_fill(mask)[1]
    assert sum(map(polygon_area, outer)) + sum(map(polygon_area, holes)) == mask.sum()
    assert all(polygon_area(h) < 0 for h in holes)


def test_an_outline_by_hand():
    """A frame of 3 x 3 pixels at (1, 1) with its middle left out."""
    mask = np.zeros((5, 5), dtype=bool)
    mask[1:4, 1:4] = True
    mask[2, 2] = False

    outer, holes = outlines(mask)

    assert outer[0].tolist() == [[1, 1], [4, 1], [4, 4], [1, 4]]
    assert polygon_area(holes[0]) == -1


def test_the_spot_for_a_label_is_the_thickest_part():
    mask = np.zeros((100, 100), dtype=bool)
    mask[10:14, :] = True
    mask[40:80, 50:90] = True

    x, y = label_spot(mask)

    assert x == pytest.approx(70, abs=5)
    assert y == pytest.approx(60, abs=5)


@given(masks().filter(np.any))
def test_the_spot_for_a_label_is_on_the_mask(mask):
    x, y = label_spot(mask)

    assert mask[int(y), int(x)]
