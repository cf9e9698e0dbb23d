"""One mask in whatever form it comes: polygons, a bitmap or COCO's run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from retinue.structures.masks import polygons_to_bitmask
from retinue.utils.errors import InputError
from retinue.visualization.regions import outlines

__all__ = ["GenericMask"]


class GenericMask:
    """A mask that turns into polygons, a bitmap or a box when asked to.

    Args:
        mask_or_polygons: a bitmap ``(height, width)``, a list of polygons
            ``[x0, y0, x1, y1, ...]``, or a COCO run-length dict.
        height: rows of the picture.
        width: columns of it.

    Raises:
        InputError: If sizes differ, or the mask is of none of these forms.
    """

    def __init__(self, mask_or_polygons: Any, height: int, width: int) -> None:
        self.height = height
        self.width = width
        self._mask: np.ndarray | None = None
        self._polygons: list[np.ndarray] | None = None
        self._has_holes: bool | None = None
        if isinstance(mask_or_polygons, dict):
            self._mask = self._decode(mask_or_polygons)
        elif isinstance(mask_or_polygons, list):
            self._polygons = [np.asarray(p, dtype=np.float64).reshape(-1) for p in mask_or_polygons]
        elif isinstance(mask_or_polygons, np.ndarray):
            self._mask = self._checked(mask_or_polygons)
        else:
            raise InputError(
                "GenericMask takes a bitmap, a list of polygons or a run-length dict;"
                f" got {type(mask_or_polygons).__name__}"
            )

    def _decode(self, rle: dict[str, Any]) -> np.ndarray:
        from hotcoco import mask as coco_mask

        if "counts" not in rle or "size" not in rle:
            raise InputError(f"a run-length mask needs 'counts' and 'size'; got {sorted(rle)}")
        if isinstance(rle["counts"], list):
            rle = coco_mask.frPyObjects(rle, *rle["size"])
        return self._checked(np.asarray(coco_mask.decode(rle)))

    def _checked(self, mask: np.ndarray) -> np.ndarray:
        if mask.shape != (self.height, self.width):
            raise InputError(
                f"mask must have the picture's size {(self.height, self.width)}; got {mask.shape}"
            )
        return mask.astype(np.uint8)

    @property
    def mask(self) -> np.ndarray:
        """The bitmap, ``(height, width)`` uint8 of 0 and 1."""
        if self._mask is None:
            self._mask = self.polygons_to_mask(self.polygons)
        return self._mask

    @property
    def polygons(self) -> list[np.ndarray]:
        """Outer and inner outlines, each ``[x0, y0, x1, y1, ...]`` in pixels."""
        if self._polygons is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self.mask)
        return self._polygons

    @property
    def has_holes(self) -> bool:
        """Whether something is cut out of it; polygons are taken to have no holes."""
        if self._has_holes is None:
            self._has_holes = False
            if self._mask is not None:
                self._polygons, self._has_holes = self.mask_to_polygons(self._mask)
        return self._has_holes

    def mask_to_polygons(self, mask: np.ndarray) -> tuple[list[np.ndarray], bool]:
        """Trace a bitmap along pixel borders; return its outlines and whether it has holes."""
        outer, holes = outlines(mask)
        return [ring.reshape(-1) for ring in [*outer, *holes]], bool(holes)

    def polygons_to_mask(self, polygons: list[np.ndarray]) -> np.ndarray:
        """Rasterise polygons as COCO does; return ``(height, width)`` uint8."""
        if not polygons:
            return np.zeros((self.height, self.width), dtype=np.uint8)
        return polygons_to_bitmask(polygons, self.height, self.width).astype(np.uint8)

    @property
    def is_polygonal(self) -> bool:
        """Whether it came as polygons."""
        return self._polygons is not None and self._mask is None

    def area(self) -> int:
        """Number of set pixels."""
        return int(self.mask.sum())

    def bbox(self) -> np.ndarray:
        """The box around it, ``(4,)`` float64 ``x0, y0, x1, y1``; zeros if it is empty."""
        if self._mask is None and self._polygons:
            points = np.concatenate([p.reshape(-1, 2) for p in self._polygons])
            return np.concatenate([points.min(axis=0), points.max(axis=0)])
        ys, xs = np.nonzero(self.mask)
        if len(ys) == 0:
            return np.zeros(4)
        return np.asarray([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], dtype=np.float64)
