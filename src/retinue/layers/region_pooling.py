"""Pooling of regions from a feature pyramid, for operators that are sparse linear maps.

Shapes
    N images; R regions, all images together; C channels; H, W rows and columns of a level; P, Q
    rows and columns of the output, in bins.

RoIAlign and its rotated form differ in how a bin weighs the cells of a feature map. This module
has what they share: levels, work in pieces of bounded memory, gradients, and their registration.

Cells are numbered level by level, image by image and row by row. One matrix (bins, cells) is made
for regions of all levels, ordered by level, and applied level by level, where the features are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.modules.utils import _pair

from retinue.layers.operators import laid_out_as, register_operator
from retinue.layers.sparse_rows import Bags, split_bags, sum_rows, transpose_bags
from retinue.utils.errors import InputError, expect_shape

__all__ = ["Grid", "RegionPooling", "Regions", "samples_per_bin"]

# Sparse entries made at a time, which bounds the memory for them to about 100 MB.
_MAX_ENTRIES = 4_000_000
# Samples of a bin along an axis; only regions thousands of times their feature map have more.
_MAX_SAMPLES = 4096


class Grid(NamedTuple):
    """How a region is cut into bins and samples."""

    output_size: tuple[int, int]  # (P, Q)
    sampling_ratio: int  # samples of a bin along each axis; 0 or less: as many as it has cells
    aligned: bool  # cell centres are at half-integer coordinates


class Regions(NamedTuple):
    """Regions with what is to know of their levels, ``(R,)`` unless it says otherwise."""

    rois: torch.Tensor  # (R, 1 + D): index of the image, then D numbers in pixels
    scale: torch.Tensor  # cells per pixel, of the dtype of rois
    height: torch.Tensor  # int64: H
    width: torch.Tensor  # int64: W
    first_cell: torch.Tensor  # int64: the number of the first cell of the level
    cell_dtype: torch.dtype  # of numbers of cells: int32, unless there are too many

    def take(self, index: torch.Tensor) -> Regions:
        rois, scale, height, width, first_cell = (part[index] for part in self[:5])
        return Regions(rois, scale, height, width, first_cell, self.cell_dtype)


def samples_per_bin(bin_size: torch.Tensor, sampling_ratio: int) -> torch.Tensor:
    """Return how many samples bins take along an axis, of the shape and dtype of their size."""
    if sampling_ratio > 0:
        return torch.full_like(bin_size, sampling_ratio)
    return bin_size.nan_to_num(0.0).ceil().clamp(0, _MAX_SAMPLES)


class RegionPooling:
    """A pooling operator over the levels of a feature pyramid.

    Args:
        name: of the operator in PyTorch's namespace ``retinue``.
        matrix: ``(regions, grid) -> Bags``: the sparse matrix, R * P * Q bags of cells.
        num_entries: ``(regions, grid) -> (R,)``: what making the entries of each region takes.
    """

    def __init__(
        self,
        name: str,
        matrix: Callable[[Regions, Grid], Bags],
        num_entries: Callable[[Regions, Grid], torch.Tensor],
    ) -> None:
        self.name = name
        self.matrix = matrix
        self.num_entries = num_entries
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
        pooled = self._forward_op(
            list(features),
            rois.detach(),
            levels,
            list(_pair(output_size)),
            [float(scale) for scale in spatial_scales],
            sampling_ratio,
            aligned,
        )
        return laid_out_as(pooled, features[0])

    def _pieces(
        self,
        rois: torch.Tensor,
        levels: torch.Tensor,
        sizes: Sequence[tuple[int, int, int]],
        output_size: Sequence[int],
        spatial_scales: Sequence[float],
        sampling_ratio: int,
        aligned: bool,
    ) -> Iterator[tuple[torch.Tensor, list[int], Bags]]:
        """Cut the work into pieces.

        Args:
            sizes: (N, H, W) of each level.

        Yields:
            Indices ``(r,)`` of regions, ordered by level; how many of them each level has; their
            matrix.
        """
        levels = torch.where((levels >= 0) & (levels < len(sizes)), levels, len(sizes))
        counts = levels.bincount(minlength=len(sizes))[: len(sizes)].tolist()
        order = levels.argsort(stable=True)[: sum(counts)]
        if len(order) == 0:
            return
        level = levels[order]
        size = torch.tensor(sizes, device=rois.device)
        cells = size.prod(dim=1)
        grid = Grid((output_size[0], output_size[1]), sampling_ratio, aligned)
        regions = Regions(
            rois[order],
            rois.new_tensor(spatial_scales)[level],
            size[level, 1],
            size[level, 2],
            (cells.cumsum(0) - cells)[level],
            torch.int32 if sum(map(math.prod, sizes)) < 2**31 else torch.int64,
        )
        piece = (self.num_entries(regions, grid).cumsum(0) - 1) // _MAX_ENTRIES
        part_sizes = piece.unique_consecutive(return_counts=True)[1].tolist()
        if len(part_sizes) == 1:
            yield order, counts, self.matrix(regions, grid)
            return
        positions = torch.arange(len(order), device=order.device)
        for part in positions.split(part_sizes):
            counts = level[part].bincount(minlength=len(sizes)).tolist()
            yield order[part], counts, self.matrix(regions.take(part), grid)

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
        out, tables = None, dict[int, torch.Tensor]()
        for order, counts, matrix in self._pieces(rois, levels, sizes, output_size, *options):
            first_cell = 0
            num_bins = [count * output_size[0] * output_size[1] for count in counts]
            parts = zip(order.split(counts), split_bags(matrix, num_bins), strict=True)
            for level, (regions, bags) in enumerate(parts):
                if len(regions) > 0:
                    if level not in tables:
                        tables = {level: _table(features[level])}  # forgets the level before
                    bags = bags._replace(rows=bags.rows - first_cell)
                    pooled = sum_rows(tables[level], bags).view(len(regions), *shape[1:])
                    if len(regions) == len(rois):  # all of one level, thus in order
                        return pooled.permute(0, 3, 1, 2)
                    if out is None:
                        out = features[0].new_empty(shape)
                        out[(levels < 0) | (levels >= len(features))] = 0
                    out.index_copy_(0, regions, pooled)
                first_cell += math.prod(sizes[level])
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
        sizes_nhw = _triples(sizes)
        num_cells = [math.prod(size) for size in sizes_nhw]
        grad_bins = _table(grad)  # (R * P * Q, C)
        per_region = torch.arange(grad.shape[2] * grad.shape[3], device=grad.device)
        totals: list[torch.Tensor] = []
        for order, _, matrix in self._pieces(rois, levels, sizes_nhw, grad.shape[2:], *options):
            bin_ = (order[:, None] * len(per_region) + per_region).flatten()
            transposed = transpose_bags(matrix, sum(num_cells), bin_)
            shares = [sum_rows(grad_bins, bags) for bags in split_bags(transposed, num_cells)]
            totals = [a.add_(b) for a, b in zip(totals, shares, strict=True)] if totals else shares
        totals = totals or [grad_bins.new_zeros(num, grad.shape[1]) for num in num_cells]
        return [
            total.view(*size, grad.shape[1]).permute(0, 3, 1, 2)
            for total, size in zip(totals, sizes_nhw, strict=True)
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
