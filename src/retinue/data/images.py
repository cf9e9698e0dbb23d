"""Reading image files, whole and upright, in the channel order that is asked for."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

__all__ = [
    "ADVICE",
    "UnreadableImageError",
    "convert_PIL_to_numpy",
    "convert_image_to_rgb",
    "read_image",
]

# ITU-R BT.601, https://en.wikipedia.org/wiki/YUV#SDTV_with_BT.601
_M_RGB2YUV = [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
_M_YUV2RGB = [[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]]

_EXIF_ORIENT = 274  # the tag's number, https://exiv2.org/tags.html
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# What an ``UnreadableImageError`` ends in; skipping such images leaves it out.
ADVICE = (
    "; replace the file or take it out of the annotations, or set RETINUE.SKIP_UNREADABLE True to"
    " go on without it"
)


class UnreadableImageError(OSError):
    """An image file is there, but it is damaged, cut off, or no image."""


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image file, upright if it says by EXIF how it was held.

    Args:
        file_name: a path or anything ``PathManager`` opens.
        format: a mode of Pillow, such as ``"RGB"`` or ``"L"``, ``"BGR"`` or ``"YUV-BT.601"``; the
            file's own if None.

    Returns:
        ``(H, W, C)`` uint8; floats, with Y in [0, 1], for YUV.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableImageError: (an ``OSError``) If it can't be decoded to its end.
        InputError: (a ``ValueError``) If there is no such format.
    """
    try:
        file = PathManager.open(file_name, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"image {file_name} does not exist; check the image folder and the annotations'"
            " file_name, which are joined"
        ) from error
    with file:
        try:
            image = Image.open(file)
            image.load()
        except Exception as error:  # each format's decoder has errors of its own
            raise UnreadableImageError(
                f"image {file_name} can't be read ({error}){ADVICE}"
            ) from error
    return convert_PIL_to_numpy(_apply_exif_orientation(image), format)


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Turn an image upright by its EXIF tag; broken EXIF data is passed over."""
    try:
        method = _UPRIGHT.get(image.getexif().get(_EXIF_ORIENT, 1))
    except Exception:  # whatever the parser stumbles over, the pixels may be fine
        return image
    return image if method is None else image.transpose(method)


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Convert a Pillow image to an array in a format of ``read_image``.

    Of 16-bit grey the upper 8 bits become colours. Pillow would turn all above 255 white.
    """
    if format is None:
        return np.asarray(image)
    mode = "RGB" if format in ("BGR", "YUV-BT.601") else format
    if mode == "RGB" and image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    try:
        array = np.asarray(image if image.mode == mode else image.convert(mode))
    except ValueError as error:
        raise InputError(
            f"image format (INPUT.FORMAT): expected 'BGR', 'RGB', 'YUV-BT.601' or a mode of"
            f" Pillow's that a picture of mode {image.mode!r} can have; got {format!r}"
        ) from error
    if format == "L":
        return array[:, :, None]
    if format == "BGR":
        return array[:, :, ::-1]
    if format == "YUV-BT.601":
        yuv: np.ndarray = np.dot(array / 255.0, np.array(_M_RGB2YUV).T)
        return yuv
    return array


def convert_image_to_rgb(image: np.ndarray | torch.Tensor, format: str) -> np.ndarray:
    """Convert an ``(H, W, C)`` image in a format of ``read_image`` to RGB in [0, 255]."""
    array = image.cpu().numpy() if isinstance(image, torch.Tensor) else image
    if format == "BGR":
        return array[:, :, [2, 1, 0]]
    if format == "YUV-BT.601":
        rgb: np.ndarray = np.dot(array, np.array(_M_YUV2RGB).T) * 255.0
        return rgb
    array = array.astype(np.uint8)
    if format == "RGB":
        return array
    if format == "L":
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    height, width = array.shape[:2]
    raw = Image.frombytes(format, (width, height), np.ascontiguousarray(array).tobytes())
    return np.asarray(raw.convert("RGB"))
