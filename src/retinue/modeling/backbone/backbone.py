"""What every backbone offers: features by name, and their channels and strides in advance."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any

from torch import nn

from retinue.layers import ShapeSpec

__all__ = ["Backbone"]


class Backbone(nn.Module, metaclass=ABCMeta):
    """A network from images ``(N, C, H, W)`` to feature maps by name, ``{"res4": (N, D, h, w)}``.

    A subclass writes ``forward`` and ``output_shape``. Instead of the latter it may set
    ``_out_features`` (names) with ``_out_feature_channels`` and ``_out_feature_strides`` (both by
    name).
    """

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the feature maps of a batch of images."""

    @property
    def size_divisibility(self) -> int:
        """Number of pixels that height and width of the batch must be a multiple of; 0: any."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """How batches are padded, beyond ``size_divisibility``.

        ``{"square_size": s}`` with ``s > 0`` asks for batches of ``s x s`` pixels;
        ``{"size_divisibility": d}`` takes the place of the property of that name.
        """
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride (in pixels of the input) of each feature map, by name."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }
