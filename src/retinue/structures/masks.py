"""Instance masks in the three forms they come in: polygons, bitmaps, and small maps in a box.

Shapes
    N instances; H, W rows and columns of the image; M side of a mask in a box, in cells.

Units
    Polygons are flat vectors ``x0, y0, x1, y1, ...`` in pixels, boxes ``x0, y0, x1, y1``. Pixel
    (row i, column j) covers [j, j + 1] x [i, i + 1].

Reading order: PolygonMasks, BitMasks, ROIMasks; the functions at the end fill polygons. Filling
is hotcoco's, which gives the pixels of pycocotools, the measure of the COCO dataset.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from hotcoco import mask as runs

from retinue.layers.mask_ops import crop_masks, paste_masks_in_image
from retinue.structures.boxes import Boxes, _check_list
from retinue.utils.errors import InputError, expect_shape

__all__ = [
    "BitMasks",
    "PolygonMasks",
    "ROIMasks",
    "polygon_area",
    "polygons_to_bitmask",
    "rasterize_polygons_within_box",
]


class PolygonMasks:
    """Masks of one image as polygons; an instance has any number of them.

    Invariant: ``polygons[i][k]`` is a float64 vector ``x0, y0, x1, y1, ...`` of at least three
    points. Polygons live on the CPU: ``to`` returns the object itself.

    Args:
        polygons: a list of lists of arrays, tensors or lists of numbers, which are copied.

    Raises:
        InputError: If a level isn't a list, or a polygon has fewer than three points or an odd
            number of coordinates.
    """

    def __init__(self, polygons: list[list[Any]]) -> None:
        if not isinstance(polygons, list):
            raise InputError(
                "PolygonMasks: expected a list with one list of polygons an instance;"
                f" got {type(polygons).__name__}"
            )
        self.polygons: list[list[np.ndarray]] = [
            _check_polygons(index, instance) for index, instance in enumerate(polygons)
        ]

    def _like(self, polygons: list[list[np.ndarray]]) -> PolygonMasks:
        """Make masks from polygons that are checked already."""
        new = type(self)([])
        new.polygons = polygons
        return new

    def to(self, *args: Any, **kwargs: Any) -> PolygonMasks:
        """Return this object: polygons stay on the CPU."""
        return self

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        """Return the boxes that enclose each instance; zeros where there is no polygon.

        The right and lower sides are never left of or above the image, as in detectron2.
        """
        boxes = np.zeros((len(self), 4), dtype=np.float32)
        for box, polygons in zip(boxes, self.polygons, strict=True):
            if polygons:
                points = np.concatenate(polygons).reshape(-1, 2)
                box[:2] = points.min(axis=0)
                box[2:] = points.max(axis=0).clip(min=0)
        return Boxes(torch.from_numpy(boxes))

    def nonempty(self) -> torch.Tensor:
        """Return ``(N,)`` bool: the instance has a polygon."""
        return torch.tensor([len(polygons) > 0 for polygons in self.polygons], dtype=torch.bool)

    def __getitem__(
        self, item: int | slice | list[int] | np.ndarray | torch.Tensor
    ) -> PolygonMasks:
        """Select instances by an integer, a slice, indices, or a bool mask of length N.

        Raises:
            InputError: If a tensor of another dtype indexes.
        """
        if isinstance(item, Integral):
            return self._like([self.polygons[int(item)]])
        if isinstance(item, slice):
            return self._like(self.polygons[item])
        index = torch.as_tensor(item)
        if index.numel() == 0:  # an empty list is read as float
            return self._like([])
        if index.dtype not in (torch.bool, torch.int32, torch.int64) or index.dim() > 1:
            raise InputError(
                "PolygonMasks: an index must be a vector of int64, int32 or bool;"
                f" got {index.dtype} of shape {tuple(index.shape)}"
            )
        if index.dtype == torch.bool:
            expect_shape("PolygonMasks: a bool index", index, (len(self),))
            index = index.nonzero()
        return self._like([self.polygons[i] for i in index.flatten().tolist()])

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """Yield the polygons of each instance."""
        return iter(self.polygons)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def __len__(self) -> int:
        return len(self.polygons)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Fill what lies of each instance in its box, on a square grid: targets of a mask head.

        Args:
            boxes: ``(N, 4)``, box i for instance i.
            mask_size: M, cells a side.

        Returns:
            ``(N, M, M)`` bool on the device of ``boxes``.

        Raises:
            InputError: If there isn't one box an instance.
        """
        expect_shape("PolygonMasks.crop_and_resize: boxes", boxes, (len(self), 4))
        # numpy has no bfloat16
        corners = boxes.detach().cpu().to(torch.promote_types(boxes.dtype, torch.float32)).numpy()
        masks = _fill_within_boxes(self.polygons, corners, mask_size)
        return masks.to(boxes.device)

    def area(self) -> torch.Tensor:
        """Return ``(N,)`` float64: the sum of the areas of an instance's polygons."""
        areas = [sum(polygon_area(p[0::2], p[1::2]) for p in polygons) for polygons in self]
        return torch.tensor(areas, dtype=torch.float64)

    @staticmethod
    def cat(polymasks_list: Sequence[PolygonMasks]) -> PolygonMasks:
        """Join masks into one object.

        Raises:
            InputError: If ``polymasks_list`` isn't a list or tuple of masks, or is empty.
        """
        _check_list("PolygonMasks.cat", polymasks_list, PolygonMasks, at_least=1)
        polygons = itertools.chain.from_iterable(masks.polygons for masks in polymasks_list)
        return polymasks_list[0]._like(list(polygons))


def _check_polygons(index: int, polygons: Any) -> list[np.ndarray]:
    """Copy the polygons of one instance into float64 vectors."""
    if not isinstance(polygons, list):
        raise InputError(
            f"PolygonMasks: instance {index} must be a list of polygons;"
            f" got {type(polygons).__name__}"
        )
    polygons = [p.cpu().numpy() if isinstance(p, torch.Tensor) else p for p in polygons]
    polygons = [np.array(p, dtype=np.float64) for p in polygons]
    for k, polygon in enumerate(polygons):
        if polygon.ndim != 1 or len(polygon) % 2 or len(polygon) < 6:
            raise InputError(
                f"PolygonMasks: polygon {k} of instance {index} must be a flat vector x0, y0, x1,"
                f" y1, ... of at least 3 points; got shape {polygon.shape}"
            )
    return polygons


class BitMasks:
    """Masks of one image as bitmaps.

    Invariant: ``tensor`` is ``(N, H, W)`` bool; ``image_size`` is (H, W).

    Args:
        tensor: ``(N, H, W)`` of any dtype; what isn't zero belongs to the object.

    Raises:
        InputError: If there aren't three dimensions.
    """

    def __init__(self, tensor: torch.Tensor | np.ndarray) -> None:
        tensor = torch.as_tensor(tensor, dtype=torch.bool)
        expect_shape("BitMasks: tensor", tensor, ("N", "H", "W"))
        self.image_size = tensor.shape[1:]
        self.tensor = tensor

    def to(self, *args: Any, **kwargs: Any) -> BitMasks:
        """Move the bitmaps; arguments as for ``torch.Tensor.to``."""
        return type(self)(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """The device of the tensor."""
        return self.tensor.device

    def __getitem__(self, item: int | slice | torch.Tensor | Any) -> BitMasks:
        """Select instances by an integer, a slice, indices or a bool mask of length N."""
        maps = self.tensor[item]
        return type(self)(maps[None] if isinstance(item, Integral) else maps)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield each ``(H, W)`` bitmap."""
        yield from self.tensor

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def nonempty(self) -> torch.Tensor:
        """Return ``(N,)`` bool: the mask has a pixel."""
        return self.tensor.flatten(1).any(dim=1)

    @staticmethod
    def from_polygon_masks(
        polygon_masks: PolygonMasks | list[list[np.ndarray]], height: int, width: int
    ) -> BitMasks:
        """Fill polygons on a grid of ``height`` x ``width`` pixels."""
        return BitMasks(_fill(list(polygon_masks), height, width))

    @staticmethod
    def from_roi_masks(
        roi_masks: ROIMasks, height: int, width: int, *, boxes: Boxes, threshold: float = 0.5
    ) -> BitMasks:
        """Paste small maps into their ``boxes`` in an image; see ``ROIMasks.to_bitmasks``."""
        return roi_masks.to_bitmasks(boxes, height, width, threshold)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Resample each bitmap in its box on a square grid: targets of a mask head.

        A cell belongs to the object where the average over it is at least half (RoIAlign with as
        many samples as there are pixels).

        Args:
            boxes: ``(N, 4)``, box i for mask i.
            mask_size: M, cells a side.

        Returns:
            ``(N, M, M)`` bool on the device of the masks.

        Raises:
            InputError: If there isn't one box a mask.
        """
        expect_shape("BitMasks.crop_and_resize: boxes", boxes, (len(self), 4))
        return crop_masks(self.tensor, boxes.to(self.device), mask_size) >= 0.5  # (N, M, M)

    def get_bounding_boxes(self) -> Boxes:
        """Return the boxes that enclose each mask; zeros for a mask without a pixel."""
        num, height, width = self.tensor.shape
        if self.tensor.numel() == 0:
            return Boxes(torch.zeros(num, 4, device=self.device))
        columns = self.tensor.any(dim=1).to(torch.uint8)  # (N, W)
        rows = self.tensor.any(dim=2).to(torch.uint8)  # (N, H)
        x0, y0 = columns.argmax(dim=1), rows.argmax(dim=1)  # the first that is set
        x1, y1 = width - columns.flip(1).argmax(dim=1), height - rows.flip(1).argmax(dim=1)
        boxes = torch.stack((x0, y0, x1, y1), dim=1)
        return Boxes(boxes * self.nonempty()[:, None])

    @staticmethod
    def cat(bitmasks_list: Sequence[BitMasks]) -> BitMasks:
        """Join masks of one image size into one object.

        Raises:
            InputError: If ``bitmasks_list`` isn't a list or tuple of masks, or is empty.
        """
        _check_list("BitMasks.cat", bitmasks_list, BitMasks, at_least=1)
        return type(bitmasks_list[0])(torch.cat([masks.tensor for masks in bitmasks_list], dim=0))


class ROIMasks:
    """Soft masks in boxes that are kept elsewhere, as a mask head predicts them.

    Args:
        tensor: ``(N, M, M)``, probabilities on a grid over each box.

    Raises:
        InputError: If there aren't three dimensions.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        expect_shape("ROIMasks: tensor", tensor, ("N", "M", "M"))
        self.tensor = tensor

    def to(self, device: torch.device | str | int) -> ROIMasks:
        """Return the masks on another device."""
        return ROIMasks(self.tensor.to(device))

    @property
    def device(self) -> torch.device:
        """The device of the tensor."""
        return self.tensor.device

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, item: slice | torch.Tensor | Any) -> ROIMasks:
        """Select instances by a slice, indices or a bool mask of length N."""
        return ROIMasks(self.tensor[item])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def to_bitmasks(
        self, boxes: Boxes, height: int, width: int, threshold: float = 0.5
    ) -> BitMasks:
        """Paste the masks into their boxes in an image of ``height`` x ``width`` pixels.

        Args:
            boxes: N boxes.
            height: rows of the image.
            width: columns of the image.
            threshold: smallest probability that belongs to the object.
        """
        return BitMasks(paste_masks_in_image(self.tensor, boxes, (height, width), threshold))


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Return the area of a polygon without crossings, by the shoelace formula.

    >>> polygon_area(np.array([0.0, 4.0, 4.0]), np.array([0.0, 0.0, 3.0]))
    6.0
    """
    return float(0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Fill the union of polygons.

    Args:
        polygons: flat vectors ``x0, y0, x1, y1, ...``; none gives an empty mask.
        height: rows.
        width: columns.

    Returns:
        ``(height, width)`` bool.
    """
    return _fill([polygons], height, width)[0].numpy()


def rasterize_polygons_within_box(
    polygons: list[np.ndarray], box: np.ndarray, mask_size: int
) -> torch.Tensor:
    """Fill what lies of the polygons in a box, on a square grid.

    Args:
        polygons: the polygons of one instance, which stay as they are.
        box: ``x0, y0, x1, y1``.
        mask_size: M, cells a side.

    Returns:
        ``(M, M)`` bool.
    """
    return _fill_within_boxes([polygons], np.asarray(box)[None], mask_size)[0]


def _fill_within_boxes(
    instances: Sequence[list[np.ndarray]], boxes: np.ndarray, mask_size: int
) -> torch.Tensor:
    """Fill instance i in ``boxes[i]``, stretched over ``mask_size`` cells both ways."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.1)  # a flat box would divide by zero
    scales = mask_size / sides  # (N, 2); in the boxes' float32, on which border pixels depend
    moved = [
        [((p.reshape(-1, 2) - box[:2]) * scale).ravel() for p in map(np.asarray, polygons)]
        for polygons, box, scale in zip(instances, boxes, scales, strict=True)
    ]
    return _fill(moved, mask_size, mask_size)


def _fill(instances: Sequence[list[np.ndarray]], height: int, width: int) -> torch.Tensor:
    """Fill the polygons of N instances: ``(N, height, width)`` bool."""
    empty = {"size": [height, width], "counts": [height * width]}
    filled = []  # run lengths, column by column
    for polygons in instances:
        parts = runs.frPyObjects([np.asarray(p).tolist() for p in polygons], height, width)
        filled.append(runs.merge(parts) if parts else runs.frPyObjects(empty, height, width))
    if not filled:
        return torch.zeros(0, height, width, dtype=torch.bool)
    bitmaps = runs.decode(filled).transpose(2, 0, 1)  # (N, H, W), columns adjacent in memory
    return torch.from_numpy(np.ascontiguousarray(bitmaps).view(np.bool_))
