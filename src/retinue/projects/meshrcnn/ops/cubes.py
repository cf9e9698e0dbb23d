"""From voxels to the mesh of their surface.

Shapes
    N grids; D, H, W cells along z, y and x; Q quads, the outer sides of filled cells.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from retinue.projects.meshrcnn.ops.meshes import Meshes
from retinue.utils.errors import expect_shape, unknown_name

__all__ = ["cubify"]

# Corners (z, y, x) of a cell's six sides, counter-clockwise seen from outside, by the direction
# (z, y, x) each side faces.
SIDES = {
    (0, 0, -1): ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)),
    (0, 0, 1): ((0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 0, 1)),
    (0, -1, 0): ((0, 0, 0), (0, 0, 1), (1, 0, 1), (1, 0, 0)),
    (0, 1, 0): ((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)),
    (-1, 0, 0): ((0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)),
    (1, 0, 0): ((1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0)),
}
ALIGNMENTS = ("topleft", "corner", "center")


@torch.no_grad()
def cubify(voxels: torch.Tensor, thresh: float, *, align: str = "topleft") -> Meshes:
    """Replace each filled cell by a cube; cubes share vertices, and sides between them vanish.

    Section 3.2 of Mesh R-CNN. The first grid point is at -1 and, with ``"topleft"`` and
    ``"center"``, the last one at 1; a cube begins at its grid point with ``"topleft"`` and lies
    around it with ``"center"``. With ``"corner"``, the whole grid fills [-1, 1].

    Args:
        voxels: ``(N, D, H, W)`` probabilities.
        thresh: cells of at least this are filled.
        align: where the cubes are, see above.

    Returns:
        N meshes with vertices x, y, z; one without filled cells is empty. No gradients flow.

    Raises:
        UnknownNameError: If ``align`` is none of these.

    Example:
        >>> cubify(torch.ones(1, 1, 1, 2), 0.5, align="corner")
        Meshes(num_verts=[12], num_faces=[20])
    """
    expect_shape("cubify: voxels", voxels, ("N", "D", "H", "W"))
    if align not in ALIGNMENTS:
        raise unknown_name("align of cubify", align, ALIGNMENTS)
    num, *size_dhw = voxels.shape
    dtype = voxels.dtype if voxels.is_floating_point() else torch.float32
    device = voxels.device
    if 0 in voxels.shape:
        empty = torch.zeros(0, 3, dtype=dtype, device=device)
        return Meshes.from_packed(empty, empty.long(), [0] * num, [0] * num)

    filled = voxels >= thresh
    around = F.pad(filled, (1,) * 6)  # nothing lies beyond the grid
    bare = [filled & ~_neighbour(around, direction, size_dhw) for direction in SIDES]
    where = torch.stack(bare, dim=-1).nonzero()  # (Q, 5): grid, z, y, x, side
    corners = torch.tensor(list(SIDES.values()), device=device)  # (6, 4, 3)
    cell_zyx = where[:, None, 1:4] + corners[where[:, 4]]  # (Q, 4, 3) of the grid of corners

    # Number the corners of all grids, and keep those that are used.
    depth, height, width = (n + 1 for n in size_dhw)
    z, y, x = cell_zyx.unbind(dim=2)
    number = ((where[:, None, 0] * depth + z) * height + y) * width + x  # (Q, 4)
    used, quads = torch.unique(number, return_inverse=True)
    faces = quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)

    zyx = torch.stack((used // (width * height) % depth, used // width % height, used % width), 1)
    size = torch.tensor(size_dhw, device=device, dtype=dtype)
    steps = size if align == "corner" else (size - 1).clamp(min=1)  # a lone cell has side 2
    shift = 0.5 if align == "center" else 0.0
    verts = (zyx.to(dtype) - shift) * 2 / steps - 1

    num_verts = (used // (width * height * depth)).bincount(minlength=num).tolist()
    num_faces = (2 * where[:, 0].bincount(minlength=num)).tolist()
    return Meshes.from_packed(verts.flip(1), faces, num_verts, num_faces)


def _neighbour(
    around: torch.Tensor, direction: tuple[int, int, int], size_dhw: list[int]
) -> torch.Tensor:
    """Say for each cell whether the one next to it is filled; ``around`` has a margin of 1."""
    for dim, (step, size) in enumerate(zip(direction, size_dhw, strict=True), start=1):
        around = around.narrow(dim, 1 + step, size)
    return around
