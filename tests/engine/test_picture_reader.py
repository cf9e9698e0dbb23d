import numpy as np
import pytest
import torch
from PIL import Image

from retinue.engine.picture_reader import check_exists, is_single, read_pictures

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def only(images, **options):
    (picture,) = read_pictures(images, **options)
    return picture.rgb


@pytest.mark.parametrize(
    "images",
    [
        RGB,
        RGB.astype(np.float32),
        Image.fromarray(RGB),
        torch.from_numpy(RGB).permute(2, 0, 1),
        torch.from_numpy(RGB).permute(2, 0, 1) / 255.0,
        np.dstack([RGB, np.zeros((4, 6), np.uint8)]),
    ],
    ids=["array", "floats", "pillow", "tensor", "unit tensor", "with alpha"],
)
def test_one_picture_in_every_form(images):
    assert is_single(images)
    np.testing.assert_array_equal(only(images), RGB)


def test_opencv_order_is_turned_round():
    np.testing.assert_array_equal(only(RGB[..., ::-1], channels="BGR"), RGB)


def test_grey_pictures_get_three_channels():
    np.testing.assert_array_equal(only(RGB[..., 0]), RGB[..., :1].repeat(3, axis=2))


def test_stacks_lists_and_generators_are_several():
    stack = np.stack([RGB, RGB])
    tensors = torch.from_numpy(stack).permute(0, 3, 1, 2)
    for images in (stack, tensors, [RGB, RGB], (one for one in (RGB, Image.fromarray(RGB)))):
        assert not is_single(images)
        names = [p.name for p in read_pictures(images)]
        assert names == ["000000", "000001"]


def test_files_folders_and_patterns(tmp_path):
    for name in ("b.png", "a.png"):
        Image.fromarray(RGB).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")

    assert is_single(tmp_path / "a.png")
    assert not is_single(tmp_path)
    assert not is_single(str(tmp_path / "*.png"))
    np.testing.assert_array_equal(only(tmp_path / "a.png"), RGB)
    for images in (tmp_path, str(tmp_path / "*.png"), [tmp_path / "a.png", tmp_path / "b.png"]):
        assert [p.name[-5:] for p in read_pictures(images)] == ["a.png", "b.png"]


def test_pictures_are_read_one_at_a_time(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    pictures = read_pictures([tmp_path / "a.png", tmp_path / "missing.png"])

    assert next(pictures).rgb.shape == RGB.shape
    with pytest.raises(ValueError, match=r"missing\.png' does not exist"):
        next(pictures)


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty").mkdir()
    with pytest.raises((ValueError, OSError), match=r"text\.jpg"):
        only(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match=r"empty' has no pictures; looked for \.jpg"):
        check_exists(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"no file matches '.*\*\.gif'"):
        only(str(tmp_path / "*.gif"))
    with pytest.raises(ValueError, match="cannot read a picture from int; give a path"):
        only(3)
    with pytest.raises(ValueError, match=r"shape \(H, W, 3\); got \(4, 6, 2\)"):
        only(RGB[..., :2])
    with pytest.raises(ValueError, match=r"shape \(3, H, W\); got \(6, 4, 3\)"):
        only(torch.from_numpy(RGB).permute(1, 0, 2))
    with pytest.raises(ValueError, match="channels must be 'RGB' or 'BGR'; got 'rgb'"):
        only(RGB, channels="rgb")


def test_unreadable_files_can_be_left_out(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"picture '.*b.png' can't be read: cannot identify"):
        list(read_pictures(tmp_path))
    errors = []
    names = [p.name for p in read_pictures(tmp_path, on_unreadable=errors.append)]
    assert names == [str(tmp_path / "a.png")]
    assert "b.png" in str(errors[0])
