"""Generated pictures of shapes, in COCO format: the dataset of ``retinue demo``.

Disks, rectangles, triangles, stars, rings and crosses of any colour, size and angle lie over one
another on a cluttered, noisy ground. Masks are the visible parts. Pictures depend on the seed and
the size alone: random numbers, rasterising and blending use only operations that give the same
result on every platform and with every version of numpy.

Shapes
    H, W rows and columns; N objects of a picture, back to front.

Units
    Lengths are pixels, or fractions of the picture's shorter side where a name says ``relative``.

Reading order: ``draw_scene`` makes one picture, ``write_shapes`` a dataset.
"""

from __future__ import annotations

import colorsys
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retinue.utils.errors import InputError
from retinue.utils.file_io import atomic_write

__all__ = ["SHAPE_CLASSES", "Scene", "ShapesDataset", "draw_scene", "write_sample", "write_shapes"]

SHAPE_CLASSES = ("disk", "rectangle", "triangle", "star", "ring", "cross")

_SAMPLES_PER_PIXEL = 3  # along each axis
_RELATIVE_RADIUS = (0.12, 0.32)
_MIN_VISIBLE = 0.6  # of an object's own area
_MIN_CONTRAST = 60.0  # distance of two RGB colours in 0..255
_FORMAT = 1  # raised whenever the pictures change, so that an old folder is drawn anew


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: ``(H, W, 3)`` uint8, RGB.
        masks: ``(N, H, W)`` bool, the visible part of each object.
        labels: ``(N,)`` int64, indices into ``SHAPE_CLASSES``.
    """

    image: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class ShapesDataset:
    """Where ``write_shapes`` put its files: a COCO json and a folder of images for each split."""

    train_json: Path
    train_images: Path
    val_json: Path
    val_images: Path


class _Draws:
    """Random numbers that are the same everywhere: of Python's, only ``random()`` promises it."""

    def __init__(self, *key: object) -> None:
        self._random = random.Random("/".join(map(str, key)))

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._random.random()

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int((high - low + 1) * self._random.random())

    def noise(self, *shape: int) -> np.ndarray:
        """Uniform noise in [0, 1); the raw stream of PCG64 is fixed, numpy's floats are not."""
        bits = np.random.PCG64(self.integer(0, 2**31)).random_raw(math.prod(shape))
        return (bits >> np.uint64(40)).astype(np.float64).reshape(shape) / 2.0**24


def _direction(radians: float) -> tuple[float, float]:
    """Cosine and sine, rounded to where all math libraries agree."""
    return round(math.cos(radians), 9), round(math.sin(radians), 9)


def _half_planes(num: int, x: np.ndarray, y: np.ndarray, distance: float) -> np.ndarray:
    """Count, for each point, the sides of a regular polygon that it lies within."""
    normals = [_direction(math.pi / 2 + 2 * math.pi * k / num) for k in range(num)]
    return np.sum([nx * x + ny * y <= distance for nx, ny in normals], axis=0)


def _inside(label: int, x: np.ndarray, y: np.ndarray, aspect: float) -> np.ndarray:
    """Say which points belong to a shape of circumscribed radius 1 around the origin."""
    squared = x * x + y * y
    match SHAPE_CLASSES[label]:
        case "disk":
            return squared <= 0.92**2
        case "rectangle":
            return (np.abs(x) <= 0.7) & (np.abs(y) <= 0.7 * aspect)
        case "triangle":
            return _half_planes(3, x, y, 0.5) == 3
        case "star":  # a pentagram: its points lie outside one of five lines
            return _half_planes(5, x, y, 0.309017) >= 4
        case "ring":
            return (squared <= 0.95**2) & (squared >= 0.55**2)
        case _:
            return (np.minimum(np.abs(x), np.abs(y)) <= 0.27) & (
                np.maximum(np.abs(x), np.abs(y)) <= 0.92
            )


_Window = tuple[slice, slice]


def _coverage(draws: _Draws, label: int, height: int, width: int) -> tuple[np.ndarray, _Window]:
    """Place a shape at random.

    Returns:
        How much of each pixel around it it covers, in [0, 1], and the rows and columns of these.
    """
    short = min(height, width)
    low, high = _RELATIVE_RADIUS
    radius = short * low * (high / low) ** draws.uniform(0, 1)
    radius = round(radius, 6)  # a power may differ in the last bit between platforms
    margin = 0.55 * radius  # objects may stick out of the picture, but not by most of themselves
    center_x = draws.uniform(margin, width - margin)
    center_y = draws.uniform(margin, height - margin)
    cos, sin = _direction(draws.uniform(0, 2 * math.pi))
    aspect = draws.uniform(0.5, 1.0)

    x0, x1 = max(0, int(center_x - radius)), min(width, int(center_x + radius) + 1)
    y0, y1 = max(0, int(center_y - radius)), min(height, int(center_y + radius) + 1)
    k = _SAMPLES_PER_PIXEL
    xs = (np.arange(k * (x1 - x0)) + 0.5) / k + (x0 - center_x)
    ys = (np.arange(k * (y1 - y0)) + 0.5)[:, None] / k + (y0 - center_y)
    inside = _inside(label, (cos * xs + sin * ys) / radius, (cos * ys - sin * xs) / radius, aspect)
    covered = inside.reshape(y1 - y0, k, x1 - x0, k).sum(axis=(1, 3)) / (k * k)
    return covered, (slice(y0, y1), slice(x0, x1))


def _color(
    draws: _Draws, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    rgb = colorsys.hsv_to_rgb(
        draws.uniform(0, 1), draws.uniform(*saturation), draws.uniform(*value)
    )
    return np.asarray(rgb) * 255.0


def _color_against(draws: _Draws, ground: np.ndarray) -> np.ndarray:
    """Draw a vivid colour that stands out from the pixels it will cover, ``(P, 3)``."""
    for _ in range(20):
        color = _color(draws, (0.35, 1.0), (0.3, 1.0))
        away2 = ((ground - color) ** 2).sum(axis=1)
        if (away2 > _MIN_CONTRAST**2).mean() > 0.9:
            break
    return color


def _interpolate(grid: np.ndarray, num: int) -> np.ndarray:
    """Stretch the first axis to ``num`` entries, linearly."""
    at = np.arange(num) * ((len(grid) - 1) / max(num - 1, 1))
    low = np.minimum(at.astype(np.int64), len(grid) - 2)
    part = (at - low).reshape(-1, *[1] * (grid.ndim - 1))
    return grid[low] * (1 - part) + grid[low + 1] * part


def _ground(draws: _Draws, height: int, width: int) -> np.ndarray:
    """Paint a ground of two dull colours in soft blotches, with thin lines over it."""
    short = min(height, width)
    first, second = (_color(draws, (0.0, 0.45), (0.15, 0.95)) for _ in range(2))
    blotches = draws.noise(draws.integer(3, 7), draws.integer(3, 7))
    blend = _interpolate(_interpolate(blotches, height).T, width).T[..., None]  # (H, W, 1)
    ground = first * (1 - blend) + second * blend
    xs, ys = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    for _ in range(draws.integer(0, 5)):
        ax, bx = draws.uniform(0, width), draws.uniform(0, width)
        ay, by = draws.uniform(0, height), draws.uniform(0, height)
        length2 = max((bx - ax) ** 2 + (by - ay) ** 2, 1.0)
        along = (((xs - ax) * (bx - ax) + (ys - ay) * (by - ay)) / length2).clip(0, 1)
        away2 = (xs - ax - along * (bx - ax)) ** 2 + (ys - ay - along * (by - ay)) ** 2
        line = away2 <= (short * draws.uniform(0.004, 0.014)) ** 2
        ground[line] = _color(draws, (0.0, 1.0), (0.1, 1.0))
    return ground


def draw_scene(seed: int, index: int, *, height: int = 128, width: int = 160) -> Scene:
    """Draw picture number ``index`` of the endless series that belongs to ``seed``.

    Args:
        seed: names the series.
        index: names the picture in it.
        height: rows of the picture.
        width: columns of it. The picture's content follows its size: one of twice the height and
            width shows objects twice as large.

    Raises:
        InputError: If a side is below 32 pixels, where shapes can't be told apart.

    Example:
        >>> scene = draw_scene(0, 0)
        >>> scene.image.shape, scene.masks.shape[1:]
        ((128, 160, 3), (128, 160))
    """
    if min(height, width) < 32:
        raise InputError(f"draw_scene: sides must be at least 32 pixels; got {height} x {width}")
    draws = _Draws("shapes", _FORMAT, seed, index, height, width)
    image = _ground(draws, height, width)
    masks: list[np.ndarray] = []
    labels: list[int] = []
    areas: list[int] = []
    for _ in range(draws.integer(2, 7)):
        label = draws.integer(0, len(SHAPE_CLASSES) - 1)
        covered, window = _coverage(draws, label, height, width)
        mask = np.zeros((height, width), dtype=bool)
        mask[window] = covered >= 0.5
        left = [m & ~mask for m in masks]
        # An object that would hide too much of another is left out.
        if any(m.sum() < _MIN_VISIBLE * area for m, area in zip(left, areas, strict=True)):
            continue
        color = _color_against(draws, image[mask])
        shade = 1 + draws.uniform(-0.25, 0.25) * (np.arange(width) / width - 0.5)
        part = image[window]
        part += covered[..., None] * (color * shade[window[1], None] - part)
        masks = [*left, mask]
        labels.append(label)
        areas.append(int(mask.sum()))
    image += (draws.noise(height, width, 3) - 0.5) * draws.uniform(4, 40)
    return Scene(
        image=np.floor(image + 0.5).clip(0, 255).astype(np.uint8),
        masks=np.stack(masks),
        labels=np.asarray(labels, dtype=np.int64),
    )


def _annotations(scene: Scene) -> list[dict[str, Any]]:
    """Describe a scene's objects as COCO does; RLE, since rings and what is covered have holes."""
    from hotcoco import mask as coco_mask

    rows = []
    for mask, label in zip(scene.masks, scene.labels.tolist(), strict=True):
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        ys, xs = np.nonzero(mask)
        x0, y0 = int(xs.min()), int(ys.min())
        counts = rle["counts"]
        rows.append(
            {
                "category_id": label + 1,
                "bbox": [x0, y0, int(xs.max()) + 1 - x0, int(ys.max()) + 1 - y0],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": {
                    "size": list(mask.shape),
                    "counts": counts.decode() if isinstance(counts, bytes) else counts,
                },
            }
        )
    return rows


def _write_split(root: Path, split: str, num_images: int, seed: int) -> tuple[Path, Path]:
    """Write ``<root>/<split>.json`` and the pictures in ``<root>/<split>/``; return both paths."""
    json_file, folder = root / f"{split}.json", root / split
    description = f"retinue shapes {_FORMAT}, {split}: {num_images} pictures of seed {seed}"
    if _describes(json_file, description):
        return json_file, folder
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(num_images):
        height, width = ((128, 160), (160, 128))[index % 2]
        scene = draw_scene(seed, index, height=height, width=width)
        name = f"{index:06d}.png"
        Image.fromarray(scene.image).save(folder / name, compress_level=1)
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        for row in _annotations(scene):
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **row})
    data = {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(SHAPE_CLASSES)],
    }
    with atomic_write(json_file, "w") as f:  # last, so that its presence means a whole split
        json.dump(data, f)
    return json_file, folder


def _describes(json_file: Path, description: str) -> bool:
    """Whether an earlier run wrote exactly this split; the description opens the file."""
    if not json_file.is_file():
        return False
    with open(json_file, encoding="utf-8") as f:
        return json.dumps(description) in f.read(len(description) + 64)


def write_shapes(
    root: str | Path, *, num_train: int = 800, num_val: int = 120, seed: int = 0
) -> ShapesDataset:
    """Write a training and a held-out split below ``root``; keep what is there already.

    Args:
        root: folder, made if need be.
        num_train: pictures to train on, ``128 x 160`` and ``160 x 128`` in turn.
        num_val: held-out pictures, of another seed.
        seed: names the dataset.
    """
    root = Path(root)
    train = _write_split(root, "train", num_train, 2 * seed)
    val = _write_split(root, "val", num_val, 2 * seed + 1)
    return ShapesDataset(*train, *val)


def write_sample(path: str | Path, *, seed: int = 376, size_hw: Sequence[int] = (384, 480)) -> Path:
    """Write a larger picture of the same kind, to try ``retinue predict`` on."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = draw_scene(seed, 0, height=size_hw[0], width=size_hw[1])
    with atomic_write(path, "wb") as f:
        Image.fromarray(scene.image).save(f, "PNG" if path.suffix == ".png" else "JPEG", quality=92)
    return path
