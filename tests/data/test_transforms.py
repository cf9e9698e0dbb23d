import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retinue.data import transforms as T
from retinue.utils.errors import InputError

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6)  # 4 rows, 6 columns
POINTS = np.array([[0.0, 0.0], [6.0, 4.0], [1.5, 2.0]])


def test_horizontal_flip():
    flip = T.HFlipTransform(6)

    assert flip.apply_image(RAMP)[0].tolist() == [5, 4, 3, 2, 1, 0]
    assert flip.apply_image(RAMP[None, ..., None])[0, 0, :, 0].tolist() == [5, 4, 3, 2, 1, 0]
    assert flip.apply_coords(POINTS.copy()).tolist() == [[6, 0], [0, 4], [4.5, 2]]
    assert flip.apply_box(np.array([1.0, 1.0, 2.0, 3.0])).tolist() == [[4, 1, 5, 3]]
    assert flip.apply_rotated_box(np.array([[1.0, 1, 2, 3, 30]])).tolist() == [[5, 1, 2, 3, -30]]


def test_vertical_flip():
    flip = T.VFlipTransform(4)

    assert flip.apply_image(RAMP)[:, 0].tolist() == [18, 12, 6, 0]
    assert flip.apply_image(RAMP[None, ..., None])[0, :, 0, 0].tolist() == [18, 12, 6, 0]
    assert flip.apply_coords(POINTS.copy()).tolist() == [[0, 4], [6, 0], [1.5, 2]]
    assert flip.apply_rotated_box(np.array([[1.0, 1, 2, 3, 30]])).tolist() == [[1, 3, 2, 3, -30]]


def test_crop_and_its_inverse():
    crop = T.CropTransform(1, 2, 3, 2, orig_w=6, orig_h=4)

    assert crop.apply_image(RAMP).tolist() == [[13, 14, 15], [19, 20, 21]]
    assert crop.apply_image(RAMP[None, ..., None]).shape == (1, 2, 3, 1)
    assert crop.apply_coords(POINTS.copy()).tolist() == [[-1, -2], [5, 2], [0.5, 0]]
    back = crop.inverse().apply_image(crop.apply_image(RAMP))
    assert back.shape == (4, 6)
    assert (back[2:, 1:4] == RAMP[2:, 1:4]).all()
    with pytest.raises(AssertionError, match=r"CropTransform.inverse: needs the size before"):
        T.CropTransform(1, 2, 3, 2).inverse()


def test_crop_cuts_polygons():
    """A square of side 10 cropped to x 2..5, y 3..; one that lies outside is left out."""
    square = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    (cut,) = T.CropTransform(2, 3, 3, 20).apply_polygons([square, square + 50])

    assert sorted(map(tuple, cut.tolist())) == [(0, 0), (0, 7), (3, 0), (3, 7)]


def test_pad_and_its_inverse():
    pad = T.PadTransform(1, 2, 3, 4, orig_w=6, orig_h=4, pad_value=9, seg_pad_value=255)

    padded = pad.apply_image(RAMP)
    assert padded.shape == (10, 10)
    assert padded[0, 0] == 9
    assert pad.apply_segmentation(RAMP)[0, 0] == 255
    assert pad.apply_image(RAMP[..., None]).shape == (10, 10, 1)
    assert pad.apply_coords(POINTS.copy())[0].tolist() == [1, 2]
    assert (pad.inverse().apply_image(padded) == RAMP).all()


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    new_h=st.integers(1, 30),
    new_w=st.integers(1, 30),
    channels=st.sampled_from([None, 1, 3]),
    interp=st.sampled_from([0, 2, 3]),
)
def test_resizing_bytes_is_pillows(height, width, new_h, new_w, channels, interp):
    rng = np.random.default_rng(height * 1000 + width)
    shape = (height, width) if channels is None else (height, width, channels)
    image = rng.integers(0, 256, shape, dtype=np.uint8)

    got = T.ResizeTransform(height, width, new_h, new_w, interp).apply_image(image)

    plain = image[..., 0] if channels == 1 else image
    want = np.asarray(Image.fromarray(plain).resize((new_w, new_h), interp))
    assert (got.reshape(want.shape) == want).all()
    assert got.shape == (new_h, new_w, *shape[2:])


def test_resizing_a_reversed_view_is_the_same():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    resize = T.ResizeTransform(9, 7, 20, 13)
    assert (resize.apply_image(image[..., ::-1]) == resize.apply_image(image)[..., ::-1]).all()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, bool])
def test_resizing_labels_picks_what_pillow_picks(dtype):
    labels = np.random.default_rng(0).integers(0, 2, (9, 7)).astype(dtype)
    resize = T.ResizeTransform(9, 7, 20, 13)

    got = resize.apply_segmentation(labels)

    assert got.dtype == dtype
    assert (got == resize.apply_segmentation(labels.astype(np.uint8)).astype(dtype)).all()


def test_resizing_floats_and_points():
    ramp = np.array([[0.0, 1.0]], dtype=np.float32)
    resized = T.ResizeTransform(1, 2, 1, 4).apply_image(ramp)
    assert resized.tolist() == [[0, 0.25, 0.75, 1]]  # centres at -1/4, 1/4, 3/4, 5/4 of a pixel
    assert T.ResizeTransform(4, 6, 8, 3).apply_coords(POINTS.copy()).tolist() == [
        [0, 0],
        [3, 8],
        [0.75, 4],
    ]


def test_resizing_refuses_other_images():
    with pytest.raises(AssertionError, match=r"height 4 and width 5; got an array of shape \(4, 6"):
        T.ResizeTransform(4, 5, 8, 8).apply_image(RAMP)
    with pytest.raises(InputError, match="uint8 or floating point; got int64"):
        T.ResizeTransform(4, 6, 8, 8).apply_image(RAMP.astype(np.int64))


def test_resizing_rotated_boxes():
    """Under equal scales all lengths double; under (2, 1) a box at 90 degrees grows in height."""
    box = np.array([[10.0, 10.0, 4.0, 2.0, 30.0]])
    same = T.ResizeTransform(20, 20, 40, 40).apply_rotated_box(box.copy())
    np.testing.assert_allclose(same, [[20, 20, 8, 4, 30]])
    box[0, 4] = 90.0
    wide = T.ResizeTransform(20, 20, 20, 40).apply_rotated_box(box.copy())
    np.testing.assert_allclose(wide, [[20, 10, 4, 4, 90]], atol=1e-12)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_quarter_turns_are_exact(angle):
    turn = T.RotationTransform(4, 6, angle)
    assert (turn.apply_image(RAMP) == np.rot90(RAMP, angle // 90)).all()
    assert (turn.apply_segmentation(RAMP) == np.rot90(RAMP, angle // 90)).all()


def test_turning_points():
    """A quarter turn to the left puts the right edge on top: (x, y) -> (y, 6 - x)."""
    turn = T.RotationTransform(4, 6, 90)
    np.testing.assert_allclose(turn.apply_coords(POINTS), [[0, 6], [4, 0], [2, 4.5]], atol=1e-12)
    assert turn.apply_coords(np.zeros((0, 2))).shape == (0, 2)


def test_turning_without_growing_keeps_the_centre():
    turn = T.RotationTransform(4, 6, 30, expand=False, center=(2, 1))
    assert turn.apply_image(RAMP).shape == (4, 6)
    np.testing.assert_allclose(turn.apply_coords(np.array([[2.0, 1.0]])), [[2, 1]], atol=1e-12)
    with pytest.raises(NotImplementedError, match="corners are lost"):
        turn.inverse()


@given(st.floats(-180, 180), st.integers(4, 12), st.integers(4, 12))
def test_turning_back_brings_points_back(angle, height, width):
    turn = T.RotationTransform(height, width, angle)
    points = np.array([[0.0, 0.0], [width, height], [1.0, 3.0]])
    back = turn.inverse().apply_coords(turn.apply_coords(points.copy()))
    assert np.abs(back - points).max() <= 1.0 + 1e-9  # sizes are rounded to pixels twice


def test_a_turned_label_stays_exact():
    labels = np.full((5, 5), 2**40, dtype=np.int64)
    assert set(np.unique(T.RotationTransform(5, 5, 45).apply_segmentation(labels))) == {0, 2**40}


def test_extent_takes_a_rectangle():
    extent = T.ExtentTransform((1, 1, 4, 3), (2, 3))
    assert (extent.apply_image(RAMP) == RAMP[1:3, 1:4]).all()
    assert extent.apply_image(RAMP[..., None]).shape == (2, 3, 1)
    assert extent.apply_coords(np.array([[1.0, 1.0], [4.0, 3.0]])).tolist() == [[0, 0], [3, 2]]
    labels = T.ExtentTransform((0, 0, 6, 4), (8, 12)).apply_segmentation(RAMP)
    assert (labels == RAMP.repeat(2, 0).repeat(2, 1)).all()


def test_blending():
    blend = T.BlendTransform(src_image=100, src_weight=0.5, dst_weight=0.5)
    assert blend.apply_image(np.array([[0, 200, 255]], dtype=np.uint8)).tolist() == [[50, 150, 177]]
    assert blend.apply_image(np.array([[0.0, 1.0]])).tolist() == [[50, 50.5]]
    assert T.BlendTransform(0, 0, 3).apply_image(RAMP)[3, 5] == 69
    assert blend.apply_segmentation(RAMP) is RAMP
    assert isinstance(blend.inverse(), T.NoOpTransform)


def test_colour_functions():
    assert T.ColorTransform(lambda x: x + 1).apply_image(RAMP)[0, 0] == 1
    invert = T.PILColorTransform(lambda image: image.point(lambda v: 255 - v))
    assert invert.apply_image(RAMP)[0, 0] == 255
    with pytest.raises(ValueError, match="PILColorTransform: op must be a function"):
        T.PILColorTransform(3)


def test_scaling_and_grids():
    scale = T.ScaleTransform(4, 6, 8, 12, "bilinear")
    assert scale.apply_image(RAMP[..., None]).shape == (8, 12, 1)
    assert (scale.apply_segmentation(RAMP) == RAMP.repeat(2, 0).repeat(2, 1)).all()
    assert scale.inverse().apply_coords(POINTS.copy())[1].tolist() == [3, 2]

    y, x = np.meshgrid(np.arange(4), np.arange(6)[::-1], indexing="ij")  # columns reversed
    grid = np.stack([(2 * x + 1) / 6 - 1, (2 * y + 1) / 4 - 1], axis=-1)[None].astype(np.float32)
    sample = T.GridSampleTransform(grid, "nearest")
    assert (sample.apply_image(RAMP) == RAMP[:, ::-1]).all()
    with pytest.raises(NotImplementedError, match="says nothing of where points go"):
        sample.apply_coords(POINTS)


def test_lists():
    both = T.TransformList([T.HFlipTransform(6)]) + T.CropTransform(0, 0, 3, 4, 6, 4)
    assert len(both) == 2
    assert both.apply_image(RAMP)[0].tolist() == [5, 4, 3]
    assert both.inverse().apply_image(both.apply_image(RAMP))[0].tolist() == [0, 0, 0, 3, 4, 5]
    both += T.NoOpTransform()
    assert len(T.NoOpTransform() + both) == 4
    assert str(T.TransformList([T.HFlipTransform(6)])) == "TransformList[HFlipTransform(width=6)]"
    with pytest.raises(AssertionError, match="every member must be a Transform; got 3"):
        T.TransformList([3])


def test_new_kinds_of_data():
    class Flip(T.HFlipTransform):
        pass

    @Flip.register_type("label")
    def flip_label(transform, label):
        return label[::-1]

    both = T.TransformList([Flip(6), T.NoOpTransform()])
    assert both.apply_label("left") == "tfel"
    with pytest.raises(AssertionError, match=r"two arguments, .*got \['x'\]"):
        Flip.register_type("other", lambda x: x)
    with pytest.raises(AttributeError, match="no attribute 'foo'"):
        T.NoOpTransform().foo  # noqa: B018


INVERTIBLE = [
    T.HFlipTransform(30),
    T.VFlipTransform(20),
    T.ResizeTransform(20, 30, 40, 15),
    T.ScaleTransform(20, 30, 40, 15, "bilinear"),
    T.CropTransform(3, 4, 20, 10, 30, 20),
    T.PadTransform(1, 2, 3, 4, 30, 20),
    T.NoOpTransform(),
    T.TransformList([T.HFlipTransform(30), T.ResizeTransform(20, 30, 7, 11)]),
]


@pytest.mark.parametrize("transform", INVERTIBLE, ids=lambda t: type(t).__name__)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=5))
def test_inverses_bring_points_back(transform, points):
    points = np.array(points)
    there = transform.apply_coords(points.copy())
    np.testing.assert_allclose(transform.inverse().apply_coords(there), points, atol=1e-9)


@pytest.mark.parametrize("transform", INVERTIBLE, ids=lambda t: type(t).__name__)
def test_boxes_follow_the_pixels(transform):
    """A filled rectangle, moved as an image, lies in the moved box."""
    image = np.zeros((20, 30), dtype=np.uint8)
    image[6:13, 8:17] = 200
    moved = transform.apply_segmentation(image)
    x0, y0, x1, y1 = transform.apply_box(np.array([8.0, 6.0, 17.0, 13.0]))[0]

    rows, columns = np.nonzero(moved)
    height, width = moved.shape
    assert abs(columns.min() - max(x0, 0)) <= 1
    assert abs(columns.max() + 1 - min(x1, width)) <= 1
    assert abs(rows.min() - max(y0, 0)) <= 1
    assert abs(rows.max() + 1 - min(y1, height)) <= 1


def test_a_resize_prints_pillows_code_as_a_number():
    assert repr(T.ResizeTransform(4, 5, 8, 10)).endswith("interp=2)")
