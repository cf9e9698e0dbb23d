"""The meshes that surfaces are embedded by: a table from names to files.

Meshes have numbers, too, in the order of the table: annotations of a batch say by them which mesh
a point lies on.
"""

from collections import UserDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from retinue.projects.densepose.data.utils import maybe_prepend_base_path
from retinue.utils.errors import unknown_name

__all__ = [
    "DENSEPOSE_MESHES_DIR",
    "MESHES",
    "MeshCatalog",
    "MeshInfo",
    "register_mesh",
    "register_meshes",
]

DENSEPOSE_MESHES_DIR = "https://dl.fbaipublicfiles.com/densepose/meshes/"


@dataclass
class MeshInfo:
    """Where the data of a mesh is.

    Attributes:
        name: of the mesh.
        data: path or address of its vertices and faces.
        geodists: of its geodesic distances.
        symmetry: of where its vertices go when it is mirrored.
        texcoords: of its texture coordinates.
    """

    name: str
    data: str
    geodists: str | None = None
    symmetry: str | None = None
    texcoords: str | None = None


def _builtin(name: str, *, texture_of: str = "") -> MeshInfo:
    return MeshInfo(
        name=name,
        data=f"{name}.pkl",
        geodists=f"geodists/geodists_{name}.pkl",
        symmetry=f"symmetry/symmetry_{name}.pkl",
        texcoords=f"texcoords/texcoords_{texture_of or name}.pkl",
    )


MESHES = [
    _builtin("smpl_27554"),
    _builtin("chimp_5029"),
    _builtin("cat_5001"),
    _builtin("cat_7466"),
    _builtin("sheep_5004"),
    _builtin("zebra_5002"),
    _builtin("horse_5004", texture_of="zebra_5002"),
    _builtin("giraffe_5002"),
    _builtin("elephant_5002"),
    _builtin("dog_5002"),
    _builtin("dog_7466"),
    _builtin("cow_5002"),
    _builtin("bear_4936"),
]


class _MeshCatalog(UserDict[str, MeshInfo]):
    """Meshes by name; a new name gets the next number, a known one keeps its own."""

    def __init__(self, *args: Any, **kwargs: MeshInfo) -> None:
        self.mesh_ids: dict[str, int] = {}
        self.mesh_names: dict[int, str] = {}
        self.max_mesh_id = -1
        super().__init__(*args, **kwargs)

    def __setitem__(self, key: str, value: MeshInfo) -> None:
        if key not in self.mesh_ids:
            self.max_mesh_id += 1
            self.mesh_ids[key] = self.max_mesh_id
            self.mesh_names[self.max_mesh_id] = key
        super().__setitem__(key, value)

    def __missing__(self, key: str) -> MeshInfo:
        raise unknown_name("mesh", key, self, "register yours by register_mesh")

    def get_mesh_id(self, shape_name: str) -> int:
        """Return the number of a mesh.

        Raises:
            UnknownNameError: (a ``KeyError``) If there is no such mesh.
        """
        if shape_name not in self:
            self.__missing__(shape_name)
        return self.mesh_ids[shape_name]

    def get_mesh_name(self, mesh_id: int) -> str:
        """Return the mesh of a number; a ``KeyError`` if there is none."""
        return self.mesh_names[mesh_id]


def _located(mesh_info: MeshInfo, base_path: str | None) -> MeshInfo:
    """Put relative paths below ``base_path``."""
    files = {key: getattr(mesh_info, key) for key in ("data", "geodists", "symmetry", "texcoords")}
    return replace(
        mesh_info,
        **{key: maybe_prepend_base_path(base_path, path) for key, path in files.items() if path},
    )


MeshCatalog = _MeshCatalog({mesh.name: _located(mesh, DENSEPOSE_MESHES_DIR) for mesh in MESHES})


def register_mesh(mesh_info: MeshInfo, base_path: str | None) -> None:
    """Add a mesh, or replace the one of that name.

    Args:
        mesh_info: its files.
        base_path: folder or address that relative paths start at.
    """
    MeshCatalog[mesh_info.name] = _located(mesh_info, base_path)


def register_meshes(mesh_infos: Iterable[MeshInfo], base_path: str | None) -> None:
    """Add several meshes; see :func:`register_mesh`."""
    for mesh_info in mesh_infos:
        register_mesh(mesh_info, base_path)
