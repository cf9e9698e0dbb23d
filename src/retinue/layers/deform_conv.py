"""Deformable convolution: a convolution that looks where its input tells it to.

Dai et al. (2017), https://arxiv.org/abs/1703.06211; modulated: Zhu et al. (2018),
https://arxiv.org/abs/1811.11168.

Shapes
    N images; C, D input and output channels; H, W input, P, Q output rows and columns; K taps of
    the kernel, row by row; G deformable groups of input channels, each with its own offsets.

Units
    Offsets are in input cells, y before x for every tap.

A bilinear gather makes the columns that the kernel sees, (N*P*Q, K*C); one matrix product applies
the kernel. Both are ordinary PyTorch operations, so that gradients come by themselves.

Reading order: _sampling_weights, _columns, _convolve; the functions and modules are thin.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.utils import _pair

from retinue.layers.operators import laid_out_as
from retinue.layers.sparse_rows import sum_few
from retinue.utils.errors import InputError, expect_shape

__all__ = ["DeformConv", "ModulatedDeformConv", "deform_conv", "modulated_deform_conv"]

_Size = int | tuple[int, int]


def _sampling_weights(position: torch.Tensor, num_cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two cells around positions on an axis and their weights.

    Args:
        position: any shape, in cells; outside the axis the input is 0.
        num_cells: H or W.

    Returns:
        Indices (int64, 0 where outside) and weights, of the shape of ``position`` plus 2.
    """
    low = position.detach().floor()
    share = position - low
    cell = torch.stack([low, low + 1], dim=-1)
    is_inside = (cell >= 0) & (cell < num_cells)
    weight = torch.stack([1 - share, share], dim=-1) * is_inside
    return torch.where(is_inside, cell, 0.0).long(), weight


def _tap_positions(
    offset: torch.Tensor, axis: int, kernel: int, stride: int, padding: int, dilation: int
) -> torch.Tensor:
    """Add the regular positions along an axis to offsets ``(N, P, Q, kh, kw, G)``."""
    steps = torch.arange(offset.shape[1 + axis], dtype=offset.dtype, device=offset.device)
    taps = torch.arange(kernel, dtype=offset.dtype, device=offset.device)
    shape = [1, 1, 1, 1, 1, 1]
    shape[1 + axis], shape[3 + axis] = -1, kernel
    regular = steps[:, None] * stride - padding + taps * dilation
    return offset + regular.view(shape)


def _columns(
    x: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    kernel: tuple[int, int],
    stride: _Size,
    padding: _Size,
    dilation: _Size,
    num_groups: int,
) -> torch.Tensor:
    """Gather what the kernel sees, ``(N * P * Q, K, C)``."""
    num_images, channels, height, width = x.shape
    out_h, out_w = offset.shape[2:]
    by_axis = offset.view(num_images, num_groups, *kernel, 2, out_h, out_w)
    dy, dx = by_axis.permute(4, 0, 5, 6, 2, 3, 1)  # (N, P, Q, kh, kw, G) each
    options = [_pair(stride), _pair(padding), _pair(dilation)]
    y = _tap_positions(dy, 0, kernel[0], *(option[0] for option in options))
    y_cell, y_weight = _sampling_weights(y, height)  # (N, P, Q, kh, kw, G, 2)
    x_position = _tap_positions(dx, 1, kernel[1], *(option[1] for option in options))
    x_cell, x_weight = _sampling_weights(x_position, width)
    if mask is not None:
        by_tap = mask.view(num_images, num_groups, *kernel, out_h, out_w)
        y_weight = y_weight * by_tap.permute(0, 4, 5, 2, 3, 1)[..., None]

    images = torch.arange(num_images, device=x.device).view(-1, 1, 1, 1, 1, 1, 1, 1)
    groups = torch.arange(num_groups, device=x.device)[:, None, None]
    cell = (images * height + y_cell[..., :, None]) * width + x_cell[..., None, :]
    rows = cell * num_groups + groups  # (N, P, Q, kh, kw, G, 2, 2)
    weights = y_weight[..., :, None] * x_weight[..., None, :]
    table = x.permute(0, 2, 3, 1).reshape(-1, channels // num_groups)
    gathered = sum_few(table, rows.reshape(-1, 4), weights.reshape(-1, 4))
    return gathered.view(num_images * out_h * out_w, kernel[0] * kernel[1], channels)


def _convolve(
    columns: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, num_groups: int
) -> torch.Tensor:
    """Apply a kernel ``(D, C / num_groups, kh, kw)`` to columns ``(B, K, C)``: ``(B, D)``."""
    num_bins, num_taps, channels = columns.shape
    num_in, num_out = num_taps * weight.shape[1], weight.shape[0]
    kernel = weight.permute(2, 3, 1, 0).reshape(num_in, num_out)
    if num_groups == 1:
        flat = columns.view(num_bins, num_in)
        return flat @ kernel if bias is None else torch.addmm(bias, flat, kernel)
    by_group = columns.view(num_bins, num_taps, num_groups, channels // num_groups)
    flat = by_group.permute(2, 0, 1, 3).reshape(num_groups, num_bins, num_in)
    kernels = kernel.view(num_in, num_groups, num_out // num_groups).transpose(0, 1)
    out = (flat @ kernels).transpose(0, 1).reshape(num_bins, num_out)
    return out if bias is None else out + bias


def modulated_deform_conv(
    input: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: _Size = 1,
    padding: _Size = 0,
    dilation: _Size = 1,
    groups: int = 1,
    deformable_groups: int = 1,
) -> torch.Tensor:
    """Convolve, with each tap of the kernel moved by an offset and weighed by a mask.

    Args:
        input: ``(N, C, H, W)``.
        offset: ``(N, G * K * 2, P, Q)`` input cells: for each deformable group and tap, y and x.
        mask: ``(N, G * K, P, Q)``; ``None`` for ones.
        weight: ``(D, C / groups, kh, kw)``.
        bias: ``(D,)`` or ``None``.
        stride: input cells per output cell.
        padding: cells of zeros around the input.
        dilation: input cells between taps.
        groups: as in ``conv2d``.
        deformable_groups: G.

    Returns:
        ``(N, D, P, Q)`` in the memory order of ``input``.

    Raises:
        InputError: (a ``ValueError``) If a shape doesn't fit.
    """
    expect_shape("deform_conv: input", input, ("N", "C", "H", "W"))
    kernel = (weight.shape[2], weight.shape[3])
    num_taps = kernel[0] * kernel[1]
    out_size = [
        (size + 2 * pad - step * (taps - 1) - 1) // move + 1
        for size, pad, step, taps, move in zip(
            input.shape[2:], _pair(padding), _pair(dilation), kernel, _pair(stride), strict=True
        )
    ]
    num_images, channels = input.shape[:2]
    if channels % deformable_groups or channels != weight.shape[1] * groups:
        raise InputError(
            f"deform_conv: weight {tuple(weight.shape)} in {groups} groups and"
            f" {deformable_groups} deformable groups don't divide {channels} input channels"
        )
    offset_shape = (num_images, 2 * deformable_groups * num_taps, *out_size)
    expect_shape("deform_conv: offset", offset, offset_shape)
    if mask is not None:
        mask_shape = (num_images, deformable_groups * num_taps, *out_size)
        expect_shape("deform_conv: mask", mask, mask_shape)
    position_dtype = torch.promote_types(offset.dtype, torch.float32)
    columns = _columns(
        input,
        offset.to(position_dtype),
        mask,
        kernel,
        stride,
        padding,
        dilation,
        deformable_groups,
    )
    out = _convolve(columns, weight, bias, groups)
    out = out.view(num_images, *out_size, weight.shape[0]).permute(0, 3, 1, 2)
    return laid_out_as(out, input)


def deform_conv(
    input: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    stride: _Size = 1,
    padding: _Size = 0,
    dilation: _Size = 1,
    groups: int = 1,
    deformable_groups: int = 1,
    im2col_step: int = 64,
) -> torch.Tensor:
    """Convolve, with each tap of the kernel moved by an offset.

    Args:
        input: ``(N, C, H, W)``.
        offset: as in ``modulated_deform_conv``.
        weight: likewise, as are the numbers.
        stride: see there.
        padding: see there.
        dilation: see there.
        groups: see there.
        deformable_groups: see there.
        im2col_step: number of images whose columns are in memory together.

    Returns:
        ``(N, D, P, Q)``.
    """
    options = (stride, padding, dilation, groups, deformable_groups)
    if input.shape[0] <= im2col_step:
        return modulated_deform_conv(input, offset, None, weight, None, *options)
    parts = zip(input.split(im2col_step), offset.split(im2col_step), strict=True)
    return torch.cat(
        [modulated_deform_conv(x, moves, None, weight, None, *options) for x, moves in parts]
    )


class _DeformConvBase(nn.Module):
    """Parameters and options of both modules."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = True,
        norm: nn.Module | None = None,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise InputError(
                f"{type(self).__name__}: groups must divide the numbers of channels;"
                f" got {groups} for {in_channels} and {out_channels}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride: _Size = _pair(stride)
        self.padding: _Size = _pair(padding)
        self.dilation: _Size = _pair(dilation)
        self.groups, self.deformable_groups = groups, deformable_groups
        self.norm, self.activation = norm, activation
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def _convolve(
        self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        x = modulated_deform_conv(
            x,
            offset,
            mask,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.deformable_groups,
        )
        if self.norm is not None:
            x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x

    def extra_repr(self) -> str:
        """List the options."""
        names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"]
        names += ["groups", "deformable_groups"]
        options = [f"{name}={getattr(self, name)}" for name in names]
        return ", ".join([*options, f"bias={self.bias is not None}"])


class DeformConv(_DeformConvBase):
    """Deformable convolution, then an optional norm and activation.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: (kh, kw), or one number for both; so the following.
        stride: input cells per output cell.
        padding: cells of zeros around the input.
        dilation: input cells between taps.
        groups: as in ``torch.nn.Conv2d``.
        deformable_groups: groups of channels with offsets of their own.
        bias: must be ``False``.
        norm: applied to the convolution's output.
        activation: applied last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        if bias:
            raise InputError("DeformConv: bias must be False; use ModulatedDeformConv or a norm")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            deformable_groups,
            bias,
            norm,
            activation,
        )

    def forward(self, x: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` and offsets ``(N, G * K * 2, P, Q)`` to ``(N, D, P, Q)``."""
        return self._convolve(x, offset, None)


class ModulatedDeformConv(_DeformConvBase):
    """Deformable convolution with a mask, then an optional norm and activation.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: (kh, kw), or one number for both; so the following.
        stride: input cells per output cell.
        padding: cells of zeros around the input.
        dilation: input cells between taps.
        groups: as in ``torch.nn.Conv2d``.
        deformable_groups: groups of channels with offsets and masks of their own.
        bias: whether to add one number per output channel, 0 at first.
        norm: applied to the convolution's output.
        activation: applied last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = True,
        norm: nn.Module | None = None,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            deformable_groups,
            bias,
            norm,
            activation,
        )
        self.stride, self.padding, self.dilation = stride, padding, dilation  # as they came
        self.with_bias = bias

    def forward(self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)``, offsets and masks ``(N, G * K, P, Q)`` to ``(N, D, P, Q)``."""
        return self._convolve(x, offset, mask)
