"""Boxes at every position of every feature map, from which a detector regresses objects.

Shapes
    L levels of a feature pyramid; H, W rows and columns of one; A anchors at each position.

Units
    Pixels of the network input. Position (row i, column j) of a level lies at
    ``((j + offset) * stride, (i + offset) * stride)``.

Reading order: _AnchorGenerator places what DefaultAnchorGenerator or RotatedAnchorGenerator
builds for one position.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.modeling.catalog import ANCHOR_GENERATOR_REGISTRY
from retinue.structures import Boxes, RotatedBoxes
from retinue.utils.errors import InputError

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "BufferList",
    "DefaultAnchorGenerator",
    "RotatedAnchorGenerator",
    "build_anchor_generator",
]

Values = Sequence[float] | Sequence[Sequence[float]]


class BufferList(nn.Module):
    """Tensors that move with a module and aren't saved with it, named "0", "1", ..."""

    def __init__(self, buffers: Iterable[torch.Tensor]) -> None:
        super().__init__()
        for index, buffer in enumerate(buffers):
            self.register_buffer(str(index), buffer, persistent=False)

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self._buffers.values())  # type: ignore[arg-type]


def _broadcast_params(params: Values, num_features: int, name: str) -> list[Sequence[float]]:
    """Give every level its list: ``params`` is one list for all, or one a level.

    Raises:
        InputError: If there are lists for another number of levels.
    """
    is_list = isinstance(params, Sequence) and not isinstance(params, str)
    if not is_list or len(params) == 0:
        raise InputError(
            f"anchor generator: {name} must be a list of numbers, or one such list a feature level;"
            f" got {params!r}"
        )
    if not isinstance(params[0], Sequence):
        return [params] * num_features  # type: ignore[list-item]
    if len(params) not in (1, num_features):
        raise InputError(
            f"anchor generator: {name} has lists for {len(params)} feature levels, but there are"
            f" {num_features}, as many as strides; give one list a level, or one for all (in a"
            f" config: MODEL.ANCHOR_GENERATOR.{name.upper()}, and IN_FEATURES of MODEL.RPN or"
            " MODEL.RETINANET)"
        )
    return list(params) * (num_features // len(params))  # type: ignore[return-value]


class _AnchorGenerator(nn.Module):
    """Repeat the anchors of one position over feature maps."""

    box_dim: ClassVar[int]
    _boxes: ClassVar[type[Boxes]]
    _columns_of_x: ClassVar[slice]
    _columns_of_y: ClassVar[slice]

    cell_anchors: BufferList

    def __init__(self, strides: Sequence[int], offset: float) -> None:
        super().__init__()
        if not 0.0 <= offset < 1.0:
            raise InputError(f"anchor generator: offset must be in [0, 1); got {offset}")
        self.strides = strides
        self.num_features = len(strides)
        self.offset = offset

    @property
    def num_anchors(self) -> list[int]:
        """Anchors at each position, A, of every level."""
        return [len(anchors) for anchors in self.cell_anchors]

    @property
    def num_cell_anchors(self) -> list[int]:
        """The same as ``num_anchors``."""
        return self.num_anchors

    def _grid_anchors(self, grid_sizes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Place anchors on grids of (H, W) positions: ``(H * W * A, box_dim)`` a level."""
        grids = []
        for size_hw, stride, anchors in zip(
            grid_sizes, self.strides, self.cell_anchors, strict=True
        ):
            anchors = anchors.to(torch.promote_types(anchors.dtype, torch.float32))
            y, x = (
                stride
                * (torch.arange(size, dtype=torch.float32, device=anchors.device) + self.offset)
                for size in size_hw
            )
            grid = anchors.repeat(len(y), len(x), 1, 1)  # (H, W, A, box_dim)
            grid[..., self._columns_of_x] += x[None, :, None, None]
            grid[..., self._columns_of_y] += y[:, None, None, None]
            grids.append(grid.reshape(-1, self.box_dim))
        return grids

    def forward(self, features: Sequence[torch.Tensor]) -> list[Any]:
        """Make the anchors of a batch; they are the same for all its images.

        Args:
            features: of each level ``(..., H, W)``; only sizes matter.

        Returns:
            Of each level H * W * A boxes: row by row, and at each position in the order of sizes,
            then aspect ratios (then angles).

        Raises:
            InputError: If there are features of another number of levels.
        """
        if len(features) != self.num_features:
            raise InputError(
                f"anchor generator: it was made for {self.num_features} feature levels (strides"
                f" {list(self.strides)}); got {len(features)} feature maps"
            )
        grids = self._grid_anchors([feature.shape[-2:] for feature in features])
        return [self._boxes(grid) for grid in grids]


def _width_and_height(size: float, aspect_ratio: float) -> tuple[float, float]:
    """Return the sides of a box of area ``size ** 2`` whose height is ``aspect_ratio`` widths."""
    width = math.sqrt(size**2.0 / aspect_ratio)
    return width, aspect_ratio * width


class DefaultAnchorGenerator(_AnchorGenerator):
    """Anchors of every size and aspect ratio, as in Faster R-CNN.

    Ren et al. (2015), section 3.1, https://arxiv.org/abs/1506.01497.

    Args:
        sizes: square roots of the areas, in pixels: a list for all levels, or a list a level.
        aspect_ratios: heights over widths: a list for all levels, or a list a level.
        strides: pixels between positions, a level each.
        offset: where the first position lies, in strides, in [0, 1).

    Raises:
        InputError: If lists are given for another number of levels than there are strides.

    Example:
        >>> generator = DefaultAnchorGenerator(sizes=[32], aspect_ratios=[1.0], strides=[16])
        >>> generator([torch.zeros(1, 8, 1, 2)])[0].tensor.tolist()
        [[-8.0, -8.0, 24.0, 24.0], [8.0, -8.0, 40.0, 24.0]]
    """

    box_dim = 4
    _boxes = Boxes
    _columns_of_x = slice(0, 4, 2)
    _columns_of_y = slice(1, 4, 2)

    @configurable
    def __init__(
        self, *, sizes: Values, aspect_ratios: Values, strides: Sequence[int], offset: float = 0.5
    ) -> None:
        super().__init__(strides, offset)
        self.cell_anchors = self._calculate_anchors(
            _broadcast_params(sizes, len(strides), "sizes"),
            _broadcast_params(aspect_ratios, len(strides), "aspect_ratios"),
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> dict[str, Any]:
        anchors = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": anchors.SIZES,
            "aspect_ratios": anchors.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": anchors.OFFSET,
        }

    def _calculate_anchors(
        self, sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[Sequence[float]]
    ) -> BufferList:
        """Make the anchors of one position of each level, ``(A, 4)`` each."""
        cells = map(self.generate_cell_anchors, sizes, aspect_ratios)
        return BufferList(anchors.float() for anchors in cells)

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> torch.Tensor:
        """Return ``(A, 4)`` boxes around the origin, ``x0, y0, x1, y1``."""
        sides = itertools.starmap(_width_and_height, itertools.product(sizes, aspect_ratios))
        return torch.tensor([(-w / 2.0, -h / 2.0, w / 2.0, h / 2.0) for w, h in sides])


class RotatedAnchorGenerator(_AnchorGenerator):
    """Anchors of every size, aspect ratio and angle.

    Ma et al., "Arbitrary-Oriented Scene Text Detection via Rotation Proposals" (2018), section
    III-B, https://arxiv.org/abs/1703.01086.

    Args:
        sizes: square roots of the areas, in pixels: a list for all levels, or a list a level.
        aspect_ratios: heights over widths: a list for all levels, or a list a level.
        strides: pixels between positions, a level each.
        angles: degrees counter-clockwise: a list for all levels, or a list a level.
        offset: where the first position lies, in strides, in [0, 1).

    Raises:
        InputError: If lists are given for another number of levels than there are strides.
    """

    box_dim = 5
    _boxes = RotatedBoxes
    _columns_of_x = slice(0, 1)
    _columns_of_y = slice(1, 2)

    @configurable
    def __init__(
        self,
        *,
        sizes: Values,
        aspect_ratios: Values,
        strides: Sequence[int],
        angles: Values,
        offset: float = 0.5,
    ) -> None:
        super().__init__(strides, offset)
        self.cell_anchors = self._calculate_anchors(
            _broadcast_params(sizes, len(strides), "sizes"),
            _broadcast_params(aspect_ratios, len(strides), "aspect_ratios"),
            _broadcast_params(angles, len(strides), "angles"),
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> dict[str, Any]:
        anchors = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": anchors.SIZES,
            "aspect_ratios": anchors.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": anchors.OFFSET,
            "angles": anchors.ANGLES,
        }

    def _calculate_anchors(
        self,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[Sequence[float]],
        angles: Sequence[Sequence[float]],
    ) -> BufferList:
        """Make the anchors of one position of each level, ``(A, 5)`` each."""
        cells = map(self.generate_cell_anchors, sizes, aspect_ratios, angles)
        return BufferList(anchors.float() for anchors in cells)

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
        angles: Sequence[float] = (-90, -60, -30, 0, 30, 60, 90),
    ) -> torch.Tensor:
        """Return ``(A, 5)`` boxes around the origin, ``x, y, width, height, angle``."""
        sides = itertools.starmap(_width_and_height, itertools.product(sizes, aspect_ratios))
        return torch.tensor([(0.0, 0.0, w, h, float(a)) for w, h in sides for a in angles])


def build_anchor_generator(cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> nn.Module:
    """Build what ``cfg.MODEL.ANCHOR_GENERATOR.NAME`` names, for features of these strides."""
    maker = ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)
    generator: nn.Module = maker(cfg, input_shape)
    return generator
