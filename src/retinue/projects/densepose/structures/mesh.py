"""Triangle meshes whose files are read when first asked for.

Shapes
    V vertices; F faces.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from retinue.projects.densepose.data.meshes.catalog import MeshCatalog, MeshInfo
from retinue.projects.densepose.utils.files import read_pickle
from retinue.utils.errors import InputError

__all__ = [
    "Mesh",
    "create_mesh",
    "load_mesh_auxiliary_data",
    "load_mesh_data",
    "load_mesh_symmetry",
]


class Mesh:
    """A mesh, given by tensors or by the files of a ``MeshInfo``.

    Args:
        vertices: ``(V, 3)``.
        faces: ``(F, 3)`` int64, vertices of each.
        geodists: ``(V, V)``, geodesic distances between vertices.
        symmetry: ``{"vertex_transforms": (V,) int64}``, where each vertex goes when mirrored.
        texcoords: ``(V, 2)``, position of each vertex in a texture, 0 to 1.
        mesh_info: files to read what is not given from.
        device: of the tensors, all on one; by default that of the first one given.

    Raises:
        InputError: If neither vertices nor files are given, or tensors don't fit together.
    """

    def __init__(
        self,
        vertices: torch.Tensor | None = None,
        faces: torch.Tensor | None = None,
        geodists: torch.Tensor | None = None,
        symmetry: Mapping[str, torch.Tensor] | None = None,
        texcoords: torch.Tensor | None = None,
        mesh_info: MeshInfo | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._vertices, self._faces, self._geodists = vertices, faces, geodists
        self._symmetry, self._texcoords = symmetry, texcoords
        self.mesh_info = mesh_info
        if vertices is None and mesh_info is None:
            raise InputError("Mesh: needs vertices, or a mesh_info that says where they are")
        given = [t for t in (vertices, faces, geodists, texcoords) if t is not None]
        given += list((symmetry or {}).values())
        self.device = device or (given[0].device if given else torch.device("cpu"))
        if any(t.device != torch.device(self.device) for t in given):
            devices = sorted({str(t.device) for t in given})
            raise InputError(f"Mesh: expected all tensors on {self.device}; got {devices}")
        if vertices is not None and texcoords is not None and len(vertices) != len(texcoords):
            raise InputError(
                f"Mesh: expected texcoords for {len(vertices)} vertices; got {len(texcoords)}"
            )

    def to(self, device: torch.device) -> "Mesh":
        """Return the mesh on another device; what was not read yet is read there."""
        symmetry = self._symmetry and {k: v.to(device) for k, v in self._symmetry.items()}
        tensors = (self._vertices, self._faces, self._geodists, self._texcoords)
        vertices, faces, geodists, texcoords = (
            None if t is None else t.to(device) for t in tensors
        )
        return Mesh(vertices, faces, geodists, symmetry, texcoords, self.mesh_info, device)

    @property
    def vertices(self) -> Any:
        """``(V, 3)`` float32; None without a file."""
        if self._vertices is None and self.mesh_info is not None:
            self._vertices = load_mesh_data(self.mesh_info.data, "vertices", self.device)
        return self._vertices

    @property
    def faces(self) -> Any:
        """``(F, 3)``, vertices of each face; None without a file."""
        if self._faces is None and self.mesh_info is not None:
            faces = load_mesh_data(self.mesh_info.data, "faces", self.device)
            self._faces = faces.long()
        return self._faces

    @property
    def geodists(self) -> Any:
        """``(V, V)`` float32; None without a file."""
        if self._geodists is None and self.mesh_info is not None and self.mesh_info.geodists:
            self._geodists = load_mesh_auxiliary_data(self.mesh_info.geodists, self.device)
        return self._geodists

    @property
    def symmetry(self) -> Any:
        """``{"vertex_transforms": (V,) int64}``; None without a file."""
        if self._symmetry is None and self.mesh_info is not None and self.mesh_info.symmetry:
            self._symmetry = load_mesh_symmetry(self.mesh_info.symmetry, self.device)
        return self._symmetry

    @property
    def texcoords(self) -> Any:
        """``(V, 2)`` float32; None without a file."""
        if self._texcoords is None and self.mesh_info is not None and self.mesh_info.texcoords:
            self._texcoords = load_mesh_auxiliary_data(self.mesh_info.texcoords, self.device)
        return self._texcoords

    def get_geodists(self) -> Any:
        """Return :attr:`geodists`."""
        return self.geodists


def load_mesh_data(mesh_fpath: str, field: str, device: torch.device | None = None) -> torch.Tensor:
    """Read ``"vertices"`` or ``"faces"``, as float32, from a mesh's file."""
    content = read_pickle(mesh_fpath)
    return torch.as_tensor(content[field], dtype=torch.float32, device=device)


def load_mesh_auxiliary_data(fpath: str, device: torch.device | None = None) -> torch.Tensor:
    """Read an array, as float32: geodesic distances or texture coordinates."""
    return torch.as_tensor(read_pickle(fpath), dtype=torch.float32, device=device)


@lru_cache
def load_mesh_symmetry(
    symmetry_fpath: str, device: torch.device | None = None
) -> dict[str, torch.Tensor]:
    """Read where the vertices go when the mesh is mirrored; kept for the next call."""
    moves = read_pickle(symmetry_fpath)["vertex_transforms"]
    return {"vertex_transforms": torch.as_tensor(moves, dtype=torch.long, device=device)}


@lru_cache
def create_mesh(mesh_name: str, device: torch.device | None = None) -> Mesh:
    """Return the mesh of that name in ``MeshCatalog``; one for each device.

    Raises:
        UnknownNameError: (a ``KeyError``) If there is no such mesh.
    """
    return Mesh(mesh_info=MeshCatalog[mesh_name], device=device)
