"""``MultiScaleDeformableAttention``, the extension of Deformable DETR, in plain PyTorch.

Many projects for detectron2 compile it: Mask2Former, MaskDINO, Deformable DETR and what is built on
them. Where none is installed the import hook serves these functions in its place.

Shapes
    N images; S positions, all levels one after another; M heads; D channels of a head; Q queries;
    L levels; P points that a query looks at in a level.

Method: Zhu et al., "Deformable DETR" (2021), equation 3, https://arxiv.org/abs/2010.04159.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["ms_deform_attn_backward", "ms_deform_attn_forward"]


def ms_deform_attn_forward(
    value: torch.Tensor,
    spatial_shapes: torch.Tensor,
    level_start_index: torch.Tensor,
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
    im2col_step: int = 64,
) -> torch.Tensor:
    """Sample the levels at the queries' points and add up what is found there.

    Args:
        value: ``(N, S, M, D)``.
        spatial_shapes: ``(L, 2)`` int64, height and width of each level.
        level_start_index: ``(L,)`` int64, where each level begins among the positions.
        sampling_locations: ``(N, Q, M, L, P, 2)``, x and y as parts of the level's size; zeros are
            found outside.
        attention_weights: ``(N, Q, M, L, P)``.
        im2col_step: images at a time in the compiled function; without effect.

    Returns:
        ``(N, Q, M * D)``.
    """
    num_images, _, num_heads, num_channels = value.shape
    num_queries, num_points = sampling_locations.shape[1], sampling_locations.shape[4]
    grids = (2 * sampling_locations - 1).transpose(1, 2)  # (N, M, Q, L, P, 2) in [-1, 1]
    weights = attention_weights.transpose(1, 2).flatten(0, 1)  # (N * M, Q, L, P)
    total = value.new_zeros(num_images * num_heads, num_channels, num_queries)
    starts = level_start_index.tolist()
    for level, (height, width) in enumerate(spatial_shapes.tolist()):
        positions = value[:, starts[level] : starts[level] + height * width]
        maps = positions.permute(0, 2, 3, 1).reshape(-1, num_channels, height, width)
        grid = grids[:, :, :, level].reshape(-1, num_queries, num_points, 2)
        found = F.grid_sample(maps, grid.to(maps.dtype), align_corners=False)  # (N * M, D, Q, P)
        total = total + torch.einsum("hdqp,hqp->hdq", found, weights[:, :, level].to(found.dtype))
    return total.reshape(num_images, num_heads * num_channels, num_queries).transpose(1, 2)


def ms_deform_attn_backward(
    value: torch.Tensor,
    spatial_shapes: torch.Tensor,
    level_start_index: torch.Tensor,
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
    grad_output: torch.Tensor,
    im2col_step: int = 64,
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of ``value``, ``sampling_locations`` and ``attention_weights``.

    Args:
        value: as for ``ms_deform_attn_forward``, like the others.
        spatial_shapes: heights and widths.
        level_start_index: beginnings.
        sampling_locations: points.
        attention_weights: weights.
        grad_output: ``(N, Q, M * D)``.
        im2col_step: without effect.
    """
    with torch.enable_grad():
        inputs = [
            t.detach().requires_grad_() for t in (value, sampling_locations, attention_weights)
        ]
        output = ms_deform_attn_forward(
            inputs[0], spatial_shapes, level_start_index, inputs[1], inputs[2], im2col_step
        )
        return torch.autograd.grad(output, inputs, grad_output)
