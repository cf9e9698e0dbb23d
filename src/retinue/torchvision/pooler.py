"""Pooling of region features from feature maps by name."""

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from retinue.layers import ShapeSpec
from retinue.modeling.poolers import ROIPooler
from retinue.structures import Boxes
from retinue.torchvision.backbone import check_levels
from retinue.utils.errors import InputError

__all__ = ["MultiScaleRoIAlign"]


class MultiScaleRoIAlign(nn.Module):
    """Crop each box from the feature map that fits its size.

    Lin et al., "Feature Pyramid Networks" (2017), eq. 1, https://arxiv.org/abs/1612.03144. Samples
    lie half a pixel off, as in torchvision's models.

    Args:
        featmap_names: names of the feature maps, finest first; numbers are taken as names.
        output_size: rows and columns of a crop, in cells, or one number for both.
        sampling_ratio: samples a cell and axis; 0 or less takes as many as the cell has positions.
        canonical_scale: side, in pixels, of a box that belongs to ``canonical_level``.
        canonical_level: that level; level k has stride 2**k.
    """

    def __init__(
        self,
        featmap_names: Sequence[str | int],
        output_size: int | Sequence[int],
        sampling_ratio: int,
        *,
        canonical_scale: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        self.featmap_names = [str(name) for name in featmap_names]
        self.output_size = (
            (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        )
        self.sampling_ratio = sampling_ratio
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level
        self.pooler: ROIPooler | None = None

    def fit(
        self, shapes: Mapping[str, ShapeSpec], what: str = "box_roi_pool"
    ) -> "MultiScaleRoIAlign":
        """Return a copy with the strides of a backbone's feature maps.

        Raises:
            InputError: If a feature map is missing, or strides form no pyramid.
        """
        check_levels(self.featmap_names, shapes, what)
        fitted = copy.deepcopy(self)
        fitted.pooler = self._make([1.0 / (shapes[n].stride or 1) for n in self.featmap_names])
        return fitted

    def _make(self, scales: Sequence[float]) -> ROIPooler:
        return ROIPooler(
            self.output_size,
            scales,
            max(self.sampling_ratio, 0),
            "ROIAlign",
            canonical_box_size=self.canonical_scale,
            canonical_level=self.canonical_level,
        )

    def forward(
        self,
        x: Mapping[str, torch.Tensor],
        boxes: Sequence[torch.Tensor],
        image_shapes: Sequence[tuple[int, int]],
    ) -> torch.Tensor:
        """Pool all boxes of a batch.

        Args:
            x: feature maps ``(N, C, H, W)`` by name.
            boxes: per image ``(R_i, 4)``, ``x0, y0, x1, y1`` in pixels.
            image_shapes: ``(height, width)`` of each image; strides are told from the largest one
                where no model told them before.

        Returns:
            ``(R, C, rows, columns)`` in the order of the boxes.

        Raises:
            InputError: If a feature map is missing.
        """
        missing = [name for name in self.featmap_names if name not in x]
        if missing:
            raise InputError(
                f"MultiScaleRoIAlign: feature maps {self.featmap_names} expected; got {list(x)}"
            )
        maps = [x[name] for name in self.featmap_names]
        pooler = self.pooler
        if pooler is None:
            height = max(size[0] for size in image_shapes)
            pooler = self._make([2.0 ** round(math.log2(m.shape[2] / height)) for m in maps])
        return pooler(maps, [Boxes(b) for b in boxes])
