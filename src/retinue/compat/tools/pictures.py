"""Drawn pictures, written to a folder or shown in a window."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from retinue.utils.file_io import atomic_write

__all__ = ["save_picture", "show_picture"]

_FORMATS = {".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}


def save_picture(path: str, rgb: np.ndarray) -> None:
    """Write ``(H, W, 3)`` uint8 in the format of the name; JPEG where it has no other."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    kind = _FORMATS.get(os.path.splitext(path)[1].lower(), "JPEG")
    with atomic_write(path, "wb") as file:
        Image.fromarray(np.ascontiguousarray(rgb)).save(file, kind)


def show_picture(name: str, rgb: np.ndarray) -> None:
    """Open a picture in the system's viewer."""
    print(name)
    Image.fromarray(np.ascontiguousarray(rgb)).show(title=name)
