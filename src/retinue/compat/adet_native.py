"""``adet._C``, the extension of AdelaiDet, in plain PyTorch: BezierAlign, which reads curved text.

Shapes
    N images; R regions; C channels; H, W rows and columns of a feature map; P, Q rows and columns
    of the output, in bins; S, T samples of a bin, downwards and across.

Units
    A region is an image index and the x and y of eight points in pixels of the network input: four
    of the curve above the text, from left to right, then four of that below it, from right to left.

Method: Liu et al., "ABCNet: Real-time Scene Text Spotting with Adaptive Bezier-Curve Network"
(2020), section 2.2, https://arxiv.org/abs/2002.10200; as its CUDA kernel, whose models are
published. No model of AdelaiDet calls its other functions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from retinue.compat.absent import CompiledExtensionError
from retinue.utils.errors import expect_shape

__all__ = ["bezier_align_backward", "bezier_align_forward"]

_UNBUILT = frozenset({"def_roi_align_backward", "def_roi_align_forward", "ml_nms"})


def __getattr__(name: str) -> Any:
    if name in _UNBUILT:
        raise CompiledExtensionError(
            f"adet._C.{name} is of a compiled extension of the project 'adet', which is not built;"
            " retinue stands in for its BezierAlign alone: build it as that project says"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _bin_centres(curves: torch.Tensor, num_rows: int, num_columns: int) -> torch.Tensor:
    """Return ``(R, P, Q, 2)``, x, y: on P lines between the curves ``(R, 2, 4, 2)``."""
    u = torch.arange(num_columns, device=curves.device, dtype=curves.dtype) / num_columns
    v = torch.arange(num_rows, device=curves.device, dtype=curves.dtype) / num_rows
    bernstein = torch.stack(
        [(1 - u) ** 3, 3 * u * (1 - u) ** 2, 3 * u**2 * (1 - u), u**3], dim=1
    )  # (Q, 4)
    above, below = torch.einsum("qk,rekd->erqd", bernstein, curves)[:, :, None]
    return torch.lerp(above, below, v[:, None, None])


def _samples(
    rois: torch.Tensor,
    spatial_scale: float,
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the samples ``(R, P, Q, S, T, 2)`` in cells, and the weight of each."""
    points = rois[:, 1:].view(-1, 2, 4, 2) * spatial_scale
    curves = torch.stack([points[:, 0], points[:, 1].flip(1)], dim=1)  # both from left to right
    size = (curves[:, :, 0] - curves[:, :, 3]).abs().amax(dim=1)  # (R, 2): width, height
    size = size if aligned else size.clamp(min=1)
    bins = size / size.new_tensor(output_size[::-1])
    counts = torch.full_like(bins, sampling_ratio) if sampling_ratio > 0 else bins.ceil()
    most = counts.amax(dim=0).int().tolist() if len(counts) else [0, 0]  # sizes of a tensor
    steps = [torch.arange(n, device=rois.device, dtype=rois.dtype) for n in most]
    shift = [  # (R, T) and (R, S): from the bin's centre
        ((step + 0.5) / counts[:, i, None].clamp(min=1) - 0.5) * bins[:, i, None]
        for i, step in enumerate(steps)
    ]
    used = [step < counts[:, i, None] for i, step in enumerate(steps)]
    centres = _bin_centres(curves, *output_size) - (0.5 if aligned else 0.0)
    x = centres[:, :, :, None, None, 0] + shift[0][:, None, None, None, :]
    y = centres[:, :, :, None, None, 1] + shift[1][:, None, None, :, None]
    x, y = torch.broadcast_tensors(x, y)
    weight = used[1][:, None, None, :, None] & used[0][:, None, None, None, :]
    total = counts.prod(dim=1).clamp(min=1)[:, None, None, None, None]
    return torch.stack([x, y], dim=-1), (weight / total).expand_as(x)


def bezier_align_forward(
    input: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> torch.Tensor:
    """Pool regions between two cubic Bezier curves.

    Args:
        input: ``(N, C, H, W)``.
        rois: ``(R, 17)``.
        spatial_scale: cells per pixel.
        pooled_height: P.
        pooled_width: Q.
        sampling_ratio: samples of a bin along each axis; 0 or less for as many as it has cells.
        aligned: take half a cell off the coordinates; else regions have a side of at least 1.

    Returns:
        ``(R, C, P, Q)``; a sample more than a cell outside the map counts as zero.

    Raises:
        InputError: If a region has not 17 numbers.
    """
    expect_shape("bezier_align_forward: rois", rois, ("R", 17))
    height, width = input.shape[-2:]
    output_size = (pooled_height, pooled_width)
    samples, weights = _samples(rois, spatial_scale, output_size, sampling_ratio, aligned)
    last = samples.new_tensor([width - 1, height - 1])
    is_inside = ((samples >= -1) & (samples <= last + 1)).all(dim=-1)
    weights = (weights * is_inside).to(input.dtype).flatten(3)  # (R, P, Q, S * T)
    grid = (2 * samples / last.clamp(min=1) - 1).to(input.dtype).flatten(1, 4)
    output = input.new_zeros(len(rois), input.shape[1], *output_size)
    for index, features in enumerate(input):  # grid_sample takes one map an entry
        mine = (rois[:, 0] == index).nonzero()[:, 0]
        found = F.grid_sample(
            features[None], grid[None, mine], padding_mode="border", align_corners=True
        )[0]  # (C, R, P * Q * S * T)
        found = found.view(len(features), *weights[mine].shape)
        output = output.index_copy(0, mine, torch.einsum("crpqs,rpqs->rcpq", found, weights[mine]))
    return output


def bezier_align_backward(
    grad: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> torch.Tensor:
    """Return the gradient ``(N, C, H, W)`` with respect to the features."""
    options = (spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned)
    with torch.enable_grad():
        features = grad.new_zeros(batch_size, channels, height, width, requires_grad=True)
        output = bezier_align_forward(features, rois, *options)
        return torch.autograd.grad(output, features, grad)[0]
