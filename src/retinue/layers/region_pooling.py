"""Pooling of regions from a feature pyramid, for operators that are sparse linear maps.

Shapes
    N images; R regions, all images together; C channels; H, W rows and columns of a feature map;
    P, Q rows and columns of the output, in bins.

RoIAlign and its rotated form differ in how a bin weighs the cells of a feature map. This module
has what they share: levels, work in pieces of bounded memory, gradients, and their registration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.modules.utils import _pair

from retinue.layers.operators import register_operator
from retinue.layers.sparse_rows import Bags, sum_rows, sum_rows_transposed
from retinue.utils.errors import InputError, expect_shape

__all__ = ["Grid", "RegionPooling", "samples_per_bin"]

# Sparse entries made at a time, which bounds the memory for them to about 100 MB.
_MAX_ENTRIES = 4_000_000
# Samples of a bin along an axis; only regions thousands of times their feature map have more.
_MAX_SAMPLES = 4096


class Grid(NamedTuple):
    """How a region is cut into bins and samples."""

    output_size: tuple[int, int]  # (P, Q)
    spatial_scale: float  # cells per pixel
    sampling_ratio: int  # samples of a bin along each axis; 0 or less: as many as it has cells
    aligned: bool  # cell centres are at half-integer coordinates


def samples_per_bin(bin_size: torch.Tensor, sampling_ratio: int) -> torch.Tensor:
    """Return how many samples bins take along an axis, of the shape and dtype of their size."""
    if sampling_ratio > 0:
        return torch.full_like(bin_size, sampling_ratio)
    return bin_size.nan_to_num(0.0).ceil().clamp(0, _MAX_SAMPLES)


class RegionPooling:
    """A pooling operator over the levels of a feature pyramid.

    Args:
        name: of the operator in PyTorch's namespace ``retinue``.
        matrix: ``(rois, (N, H, W), grid) -> Bags``: the sparse matrix, R * P * Q bags of rows in
            the table of N * H * W cells.
        max_entries: ``(rois, (N, H, W), grid) -> int``: at least the entries of each region.
    """

    def __init__(
        self,
        name: str,
        matrix: Callable[[torch.Tensor, tuple[int, int, int], Grid], Bags],
        max_entries: Callable[[torch.Tensor, tuple[int, int, int], Grid], int],
    ) -> None:
        self.name = name
        self.matrix = matrix
        self.max_entries = max_entries
        options = "float[] spatial_scales, int sampling_ratio, bool aligned"
        self._forward_op = register_operator(
            f"{name}(Tensor[] features, Tensor rois, Tensor levels, SymInt[] output_size,"
            f" {options}) -> Tensor",
            self._forward,
            fake=_fake_forward,
            backward=self._grad_of_features,
            setup_context=_save_for_features,
        )
        self._backward_op = register_operator(
            f"{name}_backward(Tensor grad, Tensor rois, Tensor levels, SymInt[] sizes,"
            f" {options}) -> Tensor[]",
            self._backward,
            fake=_fake_backward,
            backward=self._grad_of_grad,
            setup_context=_save_for_grad,
        )

    def __call__(
        self,
        features: Sequence[torch.Tensor],
        rois: torch.Tensor,
        levels: torch.Tensor,
        output_size: int | Sequence[int],
        spatial_scales: Sequence[float],
        sampling_ratio: int,
        aligned: bool,
    ) -> torch.Tensor:
        """Pool ``(R, ...)`` regions, each from its level, to ``(R, C, P, Q)``."""
        expect_shape(f"{self.name}: levels", levels, (rois.shape[0],))
        if not features or len(features) != len(spatial_scales):
            raise InputError(
                f"{self.name}: features and spatial_scales must be one or more levels;"
                f" got {len(features)} and {len(spatial_scales)}"
            )
        for feature in features:
            expect_shape(f"{self.name}: a feature map", feature, ("N", "C", "H", "W"))
        return self._forward_op(
            list(features),
            rois.detach(),
            levels,
            list(_pair(output_size)),
            [float(scale) for scale in spatial_scales],
            sampling_ratio,
            aligned,
        )

    def _pieces(
        self,
        rois: torch.Tensor,
        levels: torch.Tensor,
        sizes: Sequence[tuple[int, int, int]],
        output_size: Sequence[int],
        spatial_scales: Sequence[float],
        sampling_ratio: int,
        aligned: bool,
    ) -> Iterator[tuple[int, torch.Tensor, Bags]]:
        """Yield level, the indices ``(r,)`` of some of its regions, and their matrix."""
        num_rows, num_columns = output_size
        for level, (size, scale) in enumerate(zip(sizes, spatial_scales, strict=True)):
            grid = Grid((num_rows, num_columns), scale, sampling_ratio, aligned)
            regions = (levels == level).nonzero()[:, 0]
            if len(regions) == 0:
                continue
            entries = max(1, self.max_entries(rois[regions], size, grid))
            for piece in regions.split(max(1, _MAX_ENTRIES // entries)):
                yield level, piece, self.matrix(rois[piece], size, grid)

    def _forward(
        self,
        features: list[torch.Tensor],
        rois: torch.Tensor,
        levels: torch.Tensor,
        output_size: Sequence[int],
        *options: Any,
    ) -> torch.Tensor:
        rois = rois.to(_weight_dtype(features[0].dtype))
        shape = (len(rois), *output_size, features[0].shape[1])
        sizes = [(f.shape[0], f.shape[2], f.shape[3]) for f in features]
        out = tables = None
        for level, regions, matrix in self._pieces(rois, levels, sizes, output_size, *options):
            if tables is None or level not in tables:
                tables = {level: _table(features[level])}  # forgets the level before
            pooled = sum_rows(tables[level], matrix).view(len(regions), *shape[1:])
            if len(regions) == len(rois):  # one piece is the whole
                return pooled.permute(0, 3, 1, 2)
            if out is None:
                out = features[0].new_empty(shape)
                out[(levels < 0) | (levels >= len(features))] = 0
            out.index_copy_(0, regions, pooled)
        out = features[0].new_zeros(shape) if out is None else out
        return out.permute(0, 3, 1, 2)

    def _backward(
        self,
        grad: torch.Tensor,
        rois: torch.Tensor,
        levels: torch.Tensor,
        sizes: Sequence[int],
        *options: Any,
    ) -> list[torch.Tensor]:
        rois = rois.to(_weight_dtype(grad.dtype))
        num_channels = grad.shape[1]
        sizes_nhw = _triples(sizes)
        totals: list[torch.Tensor | None] = [None] * len(sizes_nhw)
        grad_bins = grad.permute(0, 2, 3, 1)  # (R, P, Q, C)
        for level, regions, matrix in self._pieces(
            rois, levels, sizes_nhw, grad.shape[2:], *options
        ):
            num_images, height, width = sizes_nhw[level]
            sums = grad_bins.index_select(0, regions).reshape(-1, num_channels)
            share = sum_rows_transposed(sums, matrix, num_images * height * width)
            total = totals[level]
            totals[level] = share if total is None else total.add_(share)
        return [
            (grad.new_zeros(n * h * w, num_channels) if total is None else total)
            .view(n, h, w, num_channels)
            .permute(0, 3, 1, 2)
            for total, (n, h, w) in zip(totals, sizes_nhw, strict=True)
        ]

    def _grad_of_features(self, ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        rois, levels = ctx.saved_tensors
        grads = self._backward_op(grad, rois, levels, ctx.sizes, *ctx.options)
        return grads, None, None, None, None, None, None

    def _grad_of_grad(self, ctx: Any, grads: list[torch.Tensor]) -> tuple[Any, ...]:
        rois, levels = ctx.saved_tensors
        again = self._forward_op(grads, rois, levels, ctx.output_size, *ctx.options)
        return again, None, None, None, None, None, None


def _table(feature: torch.Tensor) -> torch.Tensor:
    """View, or else copy, ``(N, C, H, W)`` as contiguous ``(N * H * W, C)``."""
    return feature.permute(0, 2, 3, 1).contiguous().view(-1, feature.shape[1])


def _weight_dtype(feature_dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if feature_dtype == torch.float64 else torch.float32


def _triples(sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    return list(zip(sizes[::3], sizes[1::3], sizes[2::3], strict=True))


def _fake_forward(
    features: list[torch.Tensor],
    rois: torch.Tensor,
    levels: torch.Tensor,
    output_size: Sequence[int],
    *options: Any,
) -> torch.Tensor:
    channels = features[0].shape[1]
    return features[0].new_empty(rois.shape[0], *output_size, channels).permute(0, 3, 1, 2)


def _fake_backward(
    grad: torch.Tensor,
    rois: torch.Tensor,
    levels: torch.Tensor,
    sizes: Sequence[int],
    *options: Any,
) -> list[torch.Tensor]:
    return [
        grad.new_empty(n, h, w, grad.shape[1]).permute(0, 3, 1, 2) for n, h, w in _triples(sizes)
    ]


def _save_for_features(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    features, rois, levels, _, *ctx.options = inputs
    ctx.save_for_backward(rois, levels)
    ctx.sizes = [size for f in features for size in (f.shape[0], f.shape[2], f.shape[3])]


def _save_for_grad(ctx: Any, inputs: tuple[Any, ...], output: list[torch.Tensor]) -> None:
    grad, rois, levels, _, *ctx.options = inputs
    ctx.save_for_backward(rois, levels)
    ctx.output_size = list(grad.shape[2:])
