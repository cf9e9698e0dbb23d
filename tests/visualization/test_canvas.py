import numpy as np
import pytest
from PIL import Image

from retinue.visualization.canvas import Canvas, dashes
from retinue.visualization.colors import contrasting, palette_color, shade, to_rgb
from retinue.visualization.labels import Label, arrange, places_around_box


def black(width=20, height=20):
    return Canvas(Image.new("RGB", (width, height)))


def red(canvas):
    return np.asarray(canvas.image)[..., 0].astype(int)


def test_a_polygon_along_pixel_borders_is_sharp():
    canvas = black()
    canvas.polygon(np.array([[5, 5], [15, 5], [15, 10], [5, 10]]), "red")

    assert (red(canvas)[5:10, 5:15] == 255).all()
    assert red(canvas).sum() == 255 * 50


def test_a_polygon_between_pixels_covers_in_part():
    canvas = black()
    canvas.polygon(np.array([[5.5, 5], [15, 5], [15, 10], [5.5, 10]]), "red")

    # Half of pixel 5, and the eighth of a pixel by which Pillow widens what it fills.
    assert red(canvas)[7, 5] == pytest.approx(128 + 32, abs=33)


def test_a_mask_along_pixel_borders_is_sharp_and_blends():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 8:18] = True
    canvas = black()
    canvas.mask(mask, "red", alpha=0.5)

    inner = red(canvas)[6:14, 9:17]
    assert (np.abs(inner - 128) <= 1).all()
    assert red(canvas)[10, 7] == 0
    assert red(canvas)[10, 8] == inner[0, 0]


def test_a_mask_is_outlined_inside_itself():
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:30, 10:30] = True
    canvas = black(40, 40)
    canvas.mask(mask, "black", alpha=1, edge_color="red", edge_width=2)

    row = red(canvas)[20]
    assert (row[[10, 11, 28, 29]] > 200).all()
    assert (row[[8, 9, 13, 20, 26, 30, 31]] < 60).all()


@pytest.mark.parametrize("mask", [np.zeros((20, 20), dtype=bool), np.ones((20, 20), dtype=bool)])
def test_empty_and_full_masks(mask):
    canvas = black()
    canvas.mask(mask, "red", alpha=1)

    assert (red(canvas) == 255 * mask).all()


def test_a_box_outline_covers_its_width():
    canvas = black(40, 40)
    canvas.box((10, 10, 30, 20), "red", width=2)

    assert red(canvas).sum() == 255 * (2 * (22 + 12) * 2 - 4 * 4)
    assert red(canvas)[15, 20] == 0


def test_what_lies_outside_is_left_out():
    canvas = black()
    canvas.polygon(np.array([[50, 50], [60, 50], [60, 60]]), "red")
    canvas.box((-50, -50, 90, 90), "red", width=2)
    canvas.disk((-9, -9), 3, "red")
    canvas.line(np.array([[30, 0], [30, 20]]), "red")
    canvas.tag("text", (-30, 50), size=9, color="w", background="r")

    assert red(canvas).sum() == 0


def test_dashes_are_multiples_of_the_width():
    pieces = dashes(np.array([[0.0, 0.0], [20.0, 0.0]]), ":", 2.0)

    assert [p[:, 0].tolist() for p in pieces[:2]] == [[0.0, 2.0], [5.3, 7.3]]
    assert len(dashes(np.array([[0.0, 0.0], [20.0, 0.0]]), "-", 2.0)) == 1


@pytest.mark.parametrize(
    ("color", "rgb"),
    [
        ("r", (1, 0, 0)),
        ("g", (0, 0.5, 0)),
        ("red", (1, 0, 0)),
        ("#0000ff", (0, 0, 1)),
        ("0.25", (0.25, 0.25, 0.25)),
        ((0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3)),
        (np.array([0, 1, 0]), (0, 1, 0)),
        ("C1", palette_color(1)),
    ],
)
def test_colors_are_read_as_matplotlib_spells_them(color, rgb):
    assert to_rgb(color) == pytest.approx(rgb)


def test_wrong_colors_are_named():
    with pytest.raises(ValueError, match="unknown colour 'blu'; did you mean 'blue'"):
        to_rgb("blu")
    with pytest.raises(ValueError, match=r"3 or 4 numbers from 0 to 1; got \[255"):
        to_rgb((255, 0, 0))
    with pytest.raises(ValueError, match=r"brightness factor must be in \[-1, 1\]; got 2"):
        shade("red", 2)


def test_text_is_black_on_light_and_white_on_dark():
    assert contrasting((1, 1, 0)) == (0, 0, 0)
    assert contrasting((0, 0, 0.5)) == (1, 1, 1)


def test_the_palette_has_no_end_and_no_repeats():
    assert len({palette_color(i) for i in range(60)}) == 60


def test_labels_stay_inside_and_off_one_another():
    boxes = [(0, 0, 60, 60), (2, 2, 62, 62), (4, 4, 58, 58), (60, 60, 99, 99)]
    labels = [
        Label("person 99%", 10, places_around_box(b, "person 99%", 10), "w", "k") for b in boxes
    ]

    places = arrange(labels, (100, 100))

    from retinue.visualization.canvas import tag_size

    width, height = tag_size("person 99%", 10)
    for i, (x, y) in enumerate(places):
        assert 0 <= x <= 100 - width
        assert 0 <= y <= 100 - height
        for u, v in places[:i]:
            assert abs(x - u) >= width or abs(y - v) >= height
