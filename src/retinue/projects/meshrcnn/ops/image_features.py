"""Reading image features at vertices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from retinue.projects.meshrcnn.ops.meshes import Meshes
from retinue.utils.errors import InputError, expect_shape

__all__ = ["vert_align"]


def vert_align(
    feats: torch.Tensor | Sequence[torch.Tensor],
    verts: torch.Tensor | Meshes,
    return_packed: bool = False,
    interp_mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = True,
) -> torch.Tensor:
    """Read feature maps where vertices are projected to: along z, onto the map.

    Wang et al., "Pixel2Mesh" (2018), "perceptual feature pooling", and section 3.3 of Mesh R-CNN.

    Args:
        feats: ``(N, C, H, W)``, or several, of any sizes, whose channels are joined.
        verts: N meshes, or ``(N, V, 3)``; x, y of -1, -1 is the map's top left, 1, 1 bottom right.
        return_packed: return a row for each vertex, instead of one block for each mesh.
        interp_mode: ``"bilinear"`` or ``"nearest"``.
        padding_mode: what lies beyond the map: ``"zeros"``, ``"border"`` or ``"reflection"``.
        align_corners: whether -1 and 1 are centres of the outermost cells, or their outer edges.

    Returns:
        ``(N, max, C)``, or ``(V, C)`` packed.

    Raises:
        InputError: If there are not as many meshes as feature maps.
    """
    grid = verts.verts_padded() if isinstance(verts, Meshes) else verts
    expect_shape("vert_align: verts", grid, ("N", "V", 3))
    maps = [feats] if torch.is_tensor(feats) else list(feats)
    sampled = []
    for one in maps:
        expect_shape("vert_align: feats", one, ("N", "C", "H", "W"))
        if len(one) != len(grid):
            raise InputError(
                f"vert_align: expected a feature map for each of {len(grid)} meshes; got {len(one)}"
            )
        if grid.numel():
            read = F.grid_sample(
                one,
                grid[:, None, :, :2].to(one.dtype),
                mode=interp_mode,
                padding_mode=padding_mode,
                align_corners=align_corners,
            )  # (N, C, 1, V)
            sampled.append(read[:, :, 0].transpose(1, 2))
        else:
            sampled.append(one.new_zeros(*grid.shape[:2], one.shape[1]) + 0 * one.sum())
    joined = torch.cat(sampled, dim=2)
    if not return_packed:
        return joined
    joined = joined.flatten(0, 1)
    return joined[verts.verts_padded_to_packed_idx()] if isinstance(verts, Meshes) else joined
