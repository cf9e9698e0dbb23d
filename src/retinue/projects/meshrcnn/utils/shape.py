"""From a camera's space to the space of a box in its picture, and back.

What a box of the picture and a range of depths enclose is a frustum. A projective map turns it into
a cube, in which voxels and meshes are predicted: x and y of a point become its place in the box, z
its place in the range (Mesh R-CNN, appendix A). Parallel lines of sight, equal sizes near and far:
in that cube the picture's features lie straight above what they belong to.

Shapes
    N boxes; P points.

Units
    Camera space: x to the left, y up, z away from the camera, in any unit. K is focal length and
    principal point x, y in pixels. Box space: x to the right, y down, z away, each in [-1, 1].
"""

from __future__ import annotations

import os

import numpy as np
import torch

from retinue.projects.meshrcnn.utils.projtransform import ProjectiveTransform
from retinue.utils.errors import InputError, expect_shape
from retinue.utils.file_io import PathManager

__all__ = [
    "box2D_to_cuboid3D",
    "box_to_camera",
    "camera_to_box",
    "cuboid3D_to_unitbox3D",
    "depth_ranges",
    "read_voxel",
    "transform_verts",
]

MIN_DEPTH_RANGE = 1e-6  # of what is flat and faces the camera


def box2D_to_cuboid3D(
    zranges: torch.Tensor, Ks: torch.Tensor, boxes: torch.Tensor, im_sizes: torch.Tensor
) -> torch.Tensor:
    """Return the frustums that boxes and ranges of depth enclose.

    Args:
        zranges: ``(N, 2)`` nearest and farthest z.
        Ks: ``(N, 3)``.
        boxes: ``(N, 4)`` x0, y0, x1, y1 in pixels.
        im_sizes: ``(N, 2)`` or ``(1, 2)`` width and height in pixels.

    Returns:
        ``(N, 5, 2)`` least and greatest: x near, y near, x far, y far, z.

    Raises:
        InputError: If the numbers of rows differ.
    """
    for what, rows, columns in (("zranges", zranges, 2), ("Ks", Ks, 3)):
        expect_shape(f"box2D_to_cuboid3D: {what}", rows, (len(boxes), columns))
    center = im_sizes - 1 - Ks[:, 1:]  # the axes point against those of the picture
    slopes = torch.stack((center - boxes[:, 2:], center - boxes[:, :2]), dim=2) / Ks[:, :1, None]
    near, far = (slopes * zranges[:, k, None, None] for k in range(2))  # (N, 2, 2) each
    return torch.cat((near, far, zranges[:, None]), dim=1)


def cuboid3D_to_unitbox3D(cub3D: torch.Tensor) -> tuple[ProjectiveTransform, ProjectiveTransform]:
    """Return the maps of (x, z) and of (y, z) from frustums ``(N, 5, 2)`` to [-1, 1].

    The same as :func:`camera_to_box`, as matrices, and without turning x and y around.
    """
    scale, shift = _scale_and_shift(cub3D)
    maps = []
    for axis in range(2):
        matrix = cub3D.new_zeros(len(cub3D), 3, 3)
        matrix[:, 0, 0], matrix[:, 0, 1] = -scale[:, axis], -shift[:, axis]
        matrix[:, 1, 1], matrix[:, 1, 2] = shift[:, 2], scale[:, 2]
        matrix[:, 2, 1] = 1
        maps.append(ProjectiveTransform(matrix))
    return maps[0], maps[1]


def _scale_and_shift(cub3D: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(N, 3)`` twice, such that ``(x / z, y / z, 1 / z) * scale + shift`` is box space.

    Lines of sight have slopes x / z and y / z, stretched to the box and turned around; the nearest
    1 / z goes to -1 and the farthest to 1.
    """
    near, far = cub3D[:, 4].unbind(dim=1)  # (N,)
    depth = (far - near).clamp(min=MIN_DEPTH_RANGE)
    low, high = (cub3D[:, :2] / near[:, None, None]).unbind(dim=2)  # (N, 2) slopes
    scale = torch.cat((-2 / (high - low), (-2 * far * near / depth)[:, None]), dim=1)
    shift = torch.cat(((high + low) / (high - low), ((far + near) / depth)[:, None]), dim=1)
    return scale, shift


def camera_to_box(points: torch.Tensor, owner: torch.Tensor, cub3D: torch.Tensor) -> torch.Tensor:
    """Map points ``(P, 3)`` of camera space to box space, each by the frustum it belongs to.

    Args:
        points: of all frustums together.
        owner: ``(P,)`` index of each point's frustum.
        cub3D: ``(N, 5, 2)`` as :func:`box2D_to_cuboid3D` gives them.
    """
    scale, shift = _scale_and_shift(cub3D)
    x, y, z = points.unbind(dim=1)
    return torch.stack((x, y, torch.ones_like(z)), dim=1) / z[:, None] * scale[owner] + shift[owner]


def box_to_camera(points: torch.Tensor, owner: torch.Tensor, cub3D: torch.Tensor) -> torch.Tensor:
    """Undo :func:`camera_to_box`."""
    scale, shift = _scale_and_shift(cub3D)
    slope_x, slope_y, inverse_z = ((points - shift[owner]) / scale[owner]).unbind(dim=1)
    return torch.stack((slope_x, slope_y, torch.ones_like(slope_x)), dim=1) / inverse_z[:, None]


def depth_ranges(points: torch.Tensor, owner: torch.Tensor, num: int) -> torch.Tensor:
    """Return ``(N, 2)`` least and greatest z of each owner's points ``(P, 3)``."""
    start = points.new_zeros(num)
    ends = [
        start.scatter_reduce(0, owner, points[:, 2], how, include_self=False)
        for how in ("amin", "amax")
    ]
    return torch.stack(ends, dim=1)


def transform_verts(
    verts: torch.Tensor, R: torch.Tensor | None, t: torch.Tensor | None
) -> torch.Tensor:
    """Rotate points ``(P, 3)`` by ``(3, 3)``, then move them by ``(3,)``; None leaves it out."""
    if R is not None:
        expect_shape("transform_verts: R", R, (3, 3))
        verts = verts @ R.T
    if t is not None:
        expect_shape("transform_verts: t", t, (3,))
        verts = verts + t
    return verts


def read_voxel(voxelfile: str | os.PathLike[str]) -> torch.Tensor:
    """Read filled voxels as points, centred, the farthest at distance 1/2.

    Args:
        voxelfile: Pix3D's ``.mat`` with a grid ``voxel``, or a grid saved by ``numpy.save``; axes
            are those of Pix3D.

    Returns:
        ``(P, 3)`` float32 x, y, z.

    Raises:
        InputError: If no voxel is filled.
        ModuleNotFoundError: For a ``.mat`` file without SciPy; see the extra ``meshrcnn``.
    """
    with PathManager.open(voxelfile, "rb") as file:
        if os.fspath(voxelfile).endswith(".npy"):
            voxel = np.load(file, allow_pickle=False)
        else:
            voxel = _scipy_io().loadmat(file)["voxel"]
    verts = np.argwhere(np.rot90(voxel, k=3, axes=(1, 2)) > 0).astype(np.float32)
    if not len(verts):
        raise InputError(f"{os.fspath(voxelfile)}: expected filled voxels; got none")
    verts -= (verts.max(axis=0) + verts.min(axis=0)) / 2
    radius = float(np.sqrt((verts**2).sum(axis=1).max()))
    return torch.from_numpy(verts / max(2 * radius, 1e-12))


def _scipy_io():  # type: ignore[no-untyped-def]  # a module that need not be there
    try:
        from scipy import io
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "read_voxel: Pix3D's voxels are .mat files, which SciPy reads; run"
            " `pip install 'retinue[meshrcnn]'`"
        ) from error
    return io
