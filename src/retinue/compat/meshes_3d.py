"""Names of PyTorch3D that Mesh R-CNN imports, where retinue's differ in arguments or results.

PyTorch3D has to be compiled for most systems; the import hook serves what is here and in
``retinue.projects.meshrcnn.ops`` under its name where it is absent. Textures aren't carried over.
"""

from __future__ import annotations

import os
from typing import IO, Any, NamedTuple

import torch

from retinue.projects.meshrcnn import ops
from retinue.projects.meshrcnn.ops.obj_io import parse_obj

__all__ = ["Faces", "knn_gather", "load_obj"]


class Faces(NamedTuple):
    """Corners of faces.

    Attributes:
        verts_idx: ``(F, 3)`` int64 indices of vertices.
    """

    verts_idx: torch.Tensor


def load_obj(
    f: str | os.PathLike[str] | IO[Any],
    load_textures: bool = True,
    create_texture_atlas: bool = False,
    texture_atlas_size: int = 4,
    texture_wrap: str | None = "repeat",
    device: Any = "cpu",
    path_manager: Any = None,
) -> tuple[torch.Tensor, Faces, None]:
    """Return ``(V, 3)`` vertices, faces, and None where textures would be; see ``ops.load_obj``.

    ``f`` may be an open file, of text or bytes.
    """
    if isinstance(f, str | os.PathLike):
        verts, faces = ops.load_obj(f)
    else:
        lines = (line.decode() if isinstance(line, bytes) else line for line in f)
        verts, faces = parse_obj(lines, getattr(f, "name", "load_obj"))
    return verts.to(device), Faces(faces.to(device)), None


def knn_gather(
    x: torch.Tensor, idx: torch.Tensor, lengths: torch.Tensor | None = None
) -> torch.Tensor:
    """Take ``(N, P, K, C)`` rows of ``(N, Q, C)`` values by ``(N, P, K)`` indices.

    Args:
        x: the values.
        idx: of the neighbours, nearest first.
        lengths: ``(N,)`` how many rows of each ``x`` count; a neighbour beyond them is 0.
    """
    rows = ops.knn_gather(x, idx)
    if lengths is None:
        return rows
    there = torch.arange(idx.shape[2], device=x.device) < lengths[:, None]  # (N, K)
    return rows * there[:, None, :, None]
