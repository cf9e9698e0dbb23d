"""Pictures from whatever a user has: files, folders, patterns, arrays, Pillow pictures, tensors."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retinue.utils.errors import InputError

__all__ = ["IMAGE_SUFFIXES", "NamedPicture", "check_exists", "is_single", "read_pictures"]

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif",
)  # fmt: skip


@dataclass(frozen=True)
class NamedPicture:
    """A picture.

    Attributes:
        name: path of its file, or its number if it came from memory.
        rgb: ``(H, W, 3)`` uint8.
    """

    name: str
    rgb: np.ndarray


def is_single(images: Any) -> bool:
    """Say whether ``images`` is one picture, not several."""
    if isinstance(images, str | os.PathLike):
        path = os.fspath(images)
        return not os.path.isdir(path) and not _is_pattern(path)
    if hasattr(images, "ndim"):
        return bool(images.ndim < 4)
    return hasattr(images, "convert")  # a Pillow picture


def _is_pattern(path: str) -> bool:
    return glob.has_magic(path) and not os.path.exists(path) and "://" not in path


def read_pictures(
    images: Any,
    *,
    channels: str = "RGB",
    on_unreadable: Callable[[InputError], object] | None = None,
) -> Iterator[NamedPicture]:
    """Yield pictures one by one, reading each when it is asked for.

    Args:
        images: a path, address, folder or pattern such as ``"shots/*.jpg"``; a Pillow picture; an
            array ``(H, W, 3)`` or ``(H, W)`` of 0..255, or ``(N, H, W, 3)``; a tensor
            ``(3, H, W)`` or ``(N, 3, H, W)`` of bytes or of floats in [0, 1]; or any iterable of
            these.
        channels: order of colours in arrays and tensors, ``"RGB"`` or, as OpenCV reads them,
            ``"BGR"``.
        on_unreadable: given the error of a file that can't be read, which is then left out; by
            default the error is raised.

    Raises:
        InputError: If a file does not exist, a folder has no pictures, or an object is no picture.
    """
    if channels not in ("RGB", "BGR"):
        raise InputError(f"channels must be 'RGB' or 'BGR'; got {channels!r}")
    for number, one in enumerate(_each(images)):
        if isinstance(one, str):
            try:
                rgb = _read_file(one)
            except InputError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(error)
                continue
            yield NamedPicture(one, rgb)
        else:
            yield NamedPicture(f"{number:06d}", _to_rgb(one, channels))


def _each(images: Any) -> Iterator[Any]:
    """Flatten folders, patterns, stacks and iterables; files come out as strings."""
    if isinstance(images, str | os.PathLike):
        yield from _files(os.fspath(images))
    elif hasattr(images, "ndim"):
        if images.ndim == 4:
            yield from images
        else:
            yield images
    elif hasattr(images, "convert"):
        yield images
    elif isinstance(images, Iterable):
        for one in images:
            yield from _each(one)
    else:
        raise InputError(
            f"cannot read a picture from {type(images).__name__}; give a path, a folder, an array"
            " (H, W, 3), a tensor (3, H, W), a Pillow picture, or a list of these"
        )


def check_exists(images: str) -> None:
    """Raise an ``InputError`` if a path, folder or pattern has no picture, without reading any."""
    _files(images)


def _files(path: str) -> list[str]:
    if os.path.isdir(path):
        found = sorted(str(p) for p in Path(path).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise InputError(
                f"folder {path!r} has no pictures; looked for {', '.join(IMAGE_SUFFIXES)}"
            )
        return found
    if _is_pattern(path):
        found = sorted(glob.glob(path, recursive=True))
        if not found:
            raise InputError(f"no file matches {path!r}")
        return found
    if "://" not in path and not os.path.isfile(path):
        raise InputError(f"picture {path!r} does not exist")
    return [path]


def _read_file(path: str) -> np.ndarray:
    from retinue.data.images import UnreadableImageError, read_image

    try:
        return np.ascontiguousarray(read_image(path, format="RGB"))
    except UnreadableImageError as error:
        reason = error.__cause__ or error
        raise InputError(f"picture {path!r} can't be read: {reason}") from error
    except OSError as error:
        raise InputError(f"picture {path!r} can't be opened: {error}") from error


def _to_rgb(one: Any, channels: str) -> np.ndarray:
    """Turn an array, tensor or Pillow picture into ``(H, W, 3)`` uint8 RGB."""
    if hasattr(one, "convert"):
        from PIL import ImageOps

        return np.asarray(ImageOps.exif_transpose(one).convert("RGB"))
    is_tensor = hasattr(one, "detach")
    array = one.detach().cpu().numpy() if is_tensor else np.asarray(one)
    if is_tensor and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        expected = "(3, H, W)" if is_tensor else "(H, W, 3)"
        raise InputError(f"a picture must have shape {expected}; got {tuple(one.shape)}")
    if array.shape[2] == 1:
        array = array.repeat(3, axis=2)
    array = array[..., :3][..., :: 1 if channels == "RGB" else -1]
    if array.dtype.kind == "f" and is_tensor and array.size and array.max() <= 1.0:
        array = array * 255.0
    return np.ascontiguousarray(np.rint(array.clip(0, 255)).astype(np.uint8))
