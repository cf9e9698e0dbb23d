"""Anchors from sizes and aspect ratios; strides come from the backbone that they are used with."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from retinue.layers import ShapeSpec
from retinue.modeling.anchor_generator import DefaultAnchorGenerator
from retinue.torchvision.backbone import describe_levels
from retinue.utils.errors import InputError

__all__ = ["AnchorGenerator", "default_anchors"]

Values = Sequence[float] | Sequence[Sequence[float]]


class AnchorGenerator(DefaultAnchorGenerator):
    """Anchors of every size and aspect ratio at every position of a feature map.

    They are torchvision's, on which its weights were trained: rounded to whole pixels, ordered by
    aspect ratio and then by size, and spread over the batch where the cells of a coarse map reach
    beyond it.

    Args:
        sizes: square roots of the areas, in pixels, a tuple for each feature map. Flat numbers
            give one size to each map: ``(32, 64)`` is ``((32,), (64,))``.
        aspect_ratios: heights over widths, a tuple for each feature map. Flat numbers serve all.

    Raises:
        InputError: If there are tuples for different numbers of feature maps.
    """

    def __init__(
        self, sizes: Values = ((128, 256, 512),), aspect_ratios: Values = ((0.5, 1.0, 2.0),)
    ) -> None:
        self.sizes = tuple(_as_tuple(level) for level in sizes)
        strides = [0] * len(self.sizes)  # until a backbone is known
        super().__init__(sizes=self.sizes, aspect_ratios=aspect_ratios, strides=strides, offset=0.0)
        self.aspect_ratios = aspect_ratios

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> torch.Tensor:
        """Return ``(A, 4)`` boxes around the origin, ``x0, y0, x1, y1``."""
        heights = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()  # of area 1
        all_sizes = torch.tensor(sizes, dtype=torch.float32)
        w = ((1 / heights)[:, None] * all_sizes).flatten()
        h = (heights[:, None] * all_sizes).flatten()
        return (torch.stack((-w, -h, w, h), dim=1) / 2).round()

    def _grid_anchors(self, grid_sizes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Place anchors on grids of (H, W) positions: ``(H * W * A, 4)`` a level."""
        batch_hw = [cells * self.strides[0] for cells in grid_sizes[0]]
        grids = []
        for cells_hw, anchors in zip(grid_sizes, self.cell_anchors, strict=True):
            y, x = (
                torch.arange(cells, device=anchors.device) * (side // max(cells, 1))
                for cells, side in zip(cells_hw, batch_hw, strict=True)
            )
            y, x = torch.meshgrid(y, x, indexing="ij")
            corners = torch.stack((x, y, x, y), dim=2).to(torch.float32)  # (H, W, 4)
            grids.append((corners[:, :, None] + anchors.float()).reshape(-1, 4))
        return grids

    def num_anchors_per_location(self) -> list[int]:
        """Return the number of anchors at each position, for each feature map."""
        return self.num_anchors

    def fit(
        self, shapes: Mapping[str, ShapeSpec], what: str = "anchor_generator"
    ) -> "AnchorGenerator":
        """Return a copy with the strides of a backbone's feature maps.

        Raises:
            InputError: If there are sizes for another number of feature maps.
        """
        if len(shapes) != len(self.sizes):
            raise InputError(_misfit(self, shapes, what))
        fitted = copy.deepcopy(self)
        fitted.strides = [shape.stride or 1 for shape in shapes.values()]
        return fitted

    def forward(self, features: Sequence[torch.Tensor]) -> list[Any]:
        """Make the anchors of a batch: boxes for each feature map, the same for all images.

        Raises:
            InputError: If no model has told the strides yet.
        """
        if 0 in self.strides:
            raise InputError(
                "AnchorGenerator: its strides come from a backbone; give it to a model, or call"
                " fit()"
            )
        return super().forward(features)


def _as_tuple(level: Any) -> tuple[float, ...]:
    return tuple(level) if isinstance(level, Sequence) else (level,)


def _misfit(anchors: AnchorGenerator, shapes: Mapping[str, ShapeSpec], what: str) -> str:
    """Say how many there are of both, and what to write instead."""
    is_single = len(shapes) == 1
    flat = tuple(size for level in anchors.sizes for size in level)
    instead = (
        f"to put all sizes on the one map, nest them: sizes=({flat},)"
        if is_single
        else f"give {len(shapes)} tuples, one a map, such as"
        f" sizes={tuple((32 * 2**i,) for i in range(len(shapes)))}"
    )
    return (
        f"{what}: has sizes for {len(anchors.sizes)} feature maps, {anchors.sizes}, but the"
        f" backbone returns {len(shapes)}: {describe_levels(shapes)}; {instead}, and"
        " aspect_ratios=((0.5, 1.0, 2.0),) or one tuple a map"
    )


def default_anchors(num_levels: int) -> AnchorGenerator:
    """Make anchors of 32 to 512 pixels: all on one feature map, or doubling from map to map."""
    sizes = (
        ((32, 64, 128, 256, 512),)
        if num_levels == 1
        else tuple((32 * 2**level,) for level in range(num_levels))
    )
    return AnchorGenerator(sizes, ((0.5, 1.0, 2.0),))
