"""A batch of triangle meshes of different sizes, as lists, packed below each other, or padded.

Shapes
    N meshes; V_n vertices, F_n faces and E_n edges of mesh n; V, F, E their sums; max the largest.

Units
    Vertices are x, y, z in any unit; faces are three indices of vertices, counter-clockwise seen
    from outside. In packed form indices count from the first vertex of the whole batch.

Reading order: _Topology is what stays when vertices move, and is shared by all meshes moved from
one; Meshes adds the positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from retinue.utils.errors import InputError, expect_shape

__all__ = ["Meshes", "face_areas_normals"]

SMALLEST_AREA = 1e-30  # keeps the normal of a face without area finite, namely 0


def face_areas_normals(
    verts: torch.Tensor, faces: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return areas ``(F,)`` and unit normals ``(F, 3)`` of faces; both 0 for a degenerate face.

    Args:
        verts: ``(V, 3)``.
        faces: ``(F, 3)`` int64.
    """
    a, b, c = verts[faces].unbind(dim=1)  # (F, 3) each
    across = torch.linalg.cross(b - a, c - a)
    double_area = across.norm(dim=1)
    return double_area / 2, across / double_area.clamp(min=SMALLEST_AREA)[:, None]


class _Topology:
    """Which vertices form the faces of each mesh.

    Args:
        faces: ``(F, 3)`` int64, packed.
        num_verts: V_n of each mesh.
        num_faces: F_n of each mesh.
    """

    def __init__(self, faces: torch.Tensor, num_verts: list[int], num_faces: list[int]) -> None:
        self.faces = faces
        self.num_verts = num_verts
        self.num_faces = num_faces

    def counts(self, of: list[int]) -> torch.Tensor:
        return torch.tensor(of, dtype=torch.int64, device=self.faces.device)

    def first(self, of: list[int]) -> torch.Tensor:
        """Return ``(N,)`` where the rows of each mesh begin."""
        counts = self.counts(of)
        return counts.cumsum(0) - counts

    def owner(self, of: list[int]) -> torch.Tensor:
        """Return for each row the mesh it belongs to."""
        return torch.repeat_interleave(self.counts(of), output_size=sum(of))

    @cached_property
    def vert_to_mesh(self) -> torch.Tensor:
        return self.owner(self.num_verts)

    @cached_property
    def padded_index(self) -> torch.Tensor:
        """``(V,)`` row of each vertex in the padded form, its first two dimensions flattened."""
        rows = torch.arange(sum(self.num_verts), device=self.faces.device)
        within = rows - self.first(self.num_verts)[self.vert_to_mesh]
        return self.vert_to_mesh * max(self.num_verts, default=0) + within

    @cached_property
    def edges_and_faces(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``(E, 2)`` vertices of edges, smaller first, and ``(F, 3)`` the edge facing each vertex.

        Ordered by their vertices, edges come mesh by mesh.
        """
        ends = self.faces[:, [[1, 2], [2, 0], [0, 1]]].sort(dim=2).values  # (F, 3, 2)
        base = max(sum(self.num_verts), 1)
        keys, inverse = torch.unique(ends[..., 0] * base + ends[..., 1], return_inverse=True)
        edges = torch.stack((keys // base, keys % base), dim=1)
        return edges, inverse.reshape(-1, 3)

    @cached_property
    def edge_to_mesh(self) -> torch.Tensor:
        return self.vert_to_mesh[self.edges_and_faces[0][:, 0]]

    def to(self, device: Any) -> _Topology:
        if torch.device(device) == self.faces.device:
            return self
        return _Topology(self.faces.to(device), self.num_verts, self.num_faces)


class Meshes:
    """A batch of triangle meshes.

    Invariant: ``verts_packed()`` is ``(V, 3)`` floating, ``faces_packed()`` is ``(F, 3)`` int64,
    both mesh by mesh on one device. Methods return new objects.

    Args:
        verts: ``(V_n, 3)`` for each mesh, or ``(N, max, 3)`` padded.
        faces: ``(F_n, 3)`` for each mesh, indices into its own vertices, or ``(N, max, 3)`` padded
            by rows of -1.

    Raises:
        InputError: If there are not as many vertex lists as face lists, or a shape is another.

    Example:
        >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> two = Meshes([corners, corners[:3]], [torch.tensor([[0, 2, 1], [0, 1, 3]])] * 1
        ...              + [torch.tensor([[0, 1, 2]])])
        >>> two.num_verts_per_mesh().tolist(), two.faces_packed().tolist()
        ([4, 3], [[0, 2, 1], [0, 1, 3], [4, 5, 6]])
    """

    def __init__(
        self,
        verts: Sequence[torch.Tensor] | torch.Tensor,
        faces: Sequence[torch.Tensor] | torch.Tensor,
    ) -> None:
        if len(verts) != len(faces):
            raise InputError(
                f"Meshes: expected vertices and faces of the same number of meshes; got"
                f" {len(verts)} and {len(faces)}"
            )
        all_verts = [_rows(v, "verts") for v in verts]
        all_faces = [_rows(f, "faces").long() for f in faces]
        if torch.is_tensor(faces):  # padded by rows of -1
            all_faces = [f[(f >= 0).all(dim=1)] for f in all_faces]
        num_verts = [len(v) for v in all_verts]
        num_faces = [len(f) for f in all_faces]
        device = all_verts[0].device if all_verts else None
        self._verts = torch.cat(all_verts) if all_verts else torch.zeros(0, 3)
        packed = torch.cat(all_faces) if all_faces else torch.zeros(0, 3, dtype=torch.int64)
        topology = _Topology(packed.to(device), num_verts, num_faces)
        shift = topology.first(num_verts)[topology.owner(num_faces)] if all_verts else 0
        topology.faces = topology.faces + (shift[:, None] if torch.is_tensor(shift) else 0)
        self._topology = topology

    @classmethod
    def from_packed(
        cls,
        verts: torch.Tensor,
        faces: torch.Tensor,
        num_verts: list[int],
        num_faces: list[int],
    ) -> Meshes:
        """Make a batch from its packed form.

        Args:
            verts: ``(V, 3)``.
            faces: ``(F, 3)`` int64, indices into ``verts``.
            num_verts: V_n of each mesh.
            num_faces: F_n of each mesh.
        """
        return cls._of(verts, _Topology(faces, num_verts, num_faces))

    @classmethod
    def _of(cls, verts: torch.Tensor, topology: _Topology) -> Meshes:
        new = cls.__new__(cls)
        new._verts, new._topology = verts, topology
        return new

    @property
    def device(self) -> torch.device:
        """Where the vertices are."""
        return self._verts.device

    @property
    def valid(self) -> torch.Tensor:
        """``(N,)`` bool, which meshes have faces."""
        return self.num_faces_per_mesh() > 0

    @property
    def equisized(self) -> bool:
        """Whether all meshes have as many vertices and faces."""
        return len(set(self._topology.num_verts)) <= 1 and len(set(self._topology.num_faces)) <= 1

    def __len__(self) -> int:
        return len(self._topology.num_verts)

    def isempty(self) -> bool:
        """Say whether no mesh has faces."""
        return not any(self._topology.num_faces)

    def __getitem__(self, index: int | slice | Sequence[int] | torch.Tensor) -> Meshes:
        """Select meshes by a number, a slice, numbers, or a bool mask."""
        numbers = torch.arange(len(self))
        if torch.is_tensor(index):
            index = index.cpu()
        chosen = numbers[index].reshape(-1).tolist()
        verts, faces = self.verts_list(), self.faces_list()
        if not chosen:
            return Meshes._of(self._verts[:0], _Topology(self._topology.faces[:0], [], []))
        return Meshes([verts[i] for i in chosen], [faces[i] for i in chosen])

    # Lists

    def verts_list(self) -> list[torch.Tensor]:
        """Return ``(V_n, 3)`` of each mesh."""
        return list(self._verts.split(self._topology.num_verts)) if len(self) else []

    def faces_list(self) -> list[torch.Tensor]:
        """Return ``(F_n, 3)`` of each mesh, indices into its own vertices."""
        if not len(self):
            return []
        first = self.mesh_to_verts_packed_first_idx()[self.faces_packed_to_mesh_idx()]
        return list((self._topology.faces - first[:, None]).split(self._topology.num_faces))

    def get_mesh_verts_faces(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vertices and faces of one mesh."""
        return self.verts_list()[index], self.faces_list()[index]

    # Packed

    def verts_packed(self) -> torch.Tensor:
        """Return ``(V, 3)``."""
        return self._verts

    def faces_packed(self) -> torch.Tensor:
        """Return ``(F, 3)`` indices into ``verts_packed()``."""
        return self._topology.faces

    def edges_packed(self) -> torch.Tensor:
        """Return ``(E, 2)`` rows of ``verts_packed()``, each edge once, the smaller index first."""
        return self._topology.edges_and_faces[0]

    def faces_packed_to_edges_packed(self) -> torch.Tensor:
        """Return ``(F, 3)`` indices of edges; edge i of a face lies opposite its vertex i."""
        return self._topology.edges_and_faces[1]

    def num_verts_per_mesh(self) -> torch.Tensor:
        """Return ``(N,)`` int64."""
        return self._topology.counts(self._topology.num_verts)

    def num_faces_per_mesh(self) -> torch.Tensor:
        """Return ``(N,)`` int64."""
        return self._topology.counts(self._topology.num_faces)

    def num_edges_per_mesh(self) -> torch.Tensor:
        """Return ``(N,)`` int64."""
        return self.edges_packed_to_mesh_idx().bincount(minlength=len(self))

    def verts_packed_to_mesh_idx(self) -> torch.Tensor:
        """Return ``(V,)``, the mesh of each vertex."""
        return self._topology.vert_to_mesh

    def faces_packed_to_mesh_idx(self) -> torch.Tensor:
        """Return ``(F,)``, the mesh of each face."""
        return self._topology.owner(self._topology.num_faces)

    def edges_packed_to_mesh_idx(self) -> torch.Tensor:
        """Return ``(E,)``, the mesh of each edge."""
        return self._topology.edge_to_mesh

    def mesh_to_verts_packed_first_idx(self) -> torch.Tensor:
        """Return ``(N,)``, where the vertices of each mesh begin."""
        return self._topology.first(self._topology.num_verts)

    def mesh_to_faces_packed_first_idx(self) -> torch.Tensor:
        """Return ``(N,)``, where the faces of each mesh begin."""
        return self._topology.first(self._topology.num_faces)

    # Padded

    def verts_padded_to_packed_idx(self) -> torch.Tensor:
        """Return ``(V,)``: ``verts_padded().flatten(0, 1)[index]`` is ``verts_packed()``."""
        return self._topology.padded_index

    def verts_padded(self) -> torch.Tensor:
        """Return ``(N, max, 3)``, filled up by 0."""
        longest = max(self._topology.num_verts, default=0)
        flat = self._verts.new_zeros(len(self) * longest, 3)
        return flat.index_copy(0, self._topology.padded_index, self._verts).reshape(
            len(self), longest, 3
        )

    def faces_padded(self) -> torch.Tensor:
        """Return ``(N, max, 3)`` indices into each mesh's own vertices, filled up by -1."""
        longest = max(self._topology.num_faces, default=0)
        padded = self._topology.faces.new_full((len(self), longest, 3), -1)
        for row, faces in zip(padded, self.faces_list(), strict=True):
            row[: len(faces)] = faces
        return padded

    # Geometry

    def faces_areas_packed(self) -> torch.Tensor:
        """Return ``(F,)``."""
        return face_areas_normals(self._verts, self._topology.faces)[0]

    def faces_normals_packed(self) -> torch.Tensor:
        """Return ``(F, 3)`` of length 1."""
        return face_areas_normals(self._verts, self._topology.faces)[1]

    def verts_normals_packed(self) -> torch.Tensor:
        """Return ``(V, 3)`` of length 1: means of the adjacent faces' normals, by their area."""
        areas, normals = face_areas_normals(self._verts, self._topology.faces)
        weighted = (areas[:, None] * normals).repeat_interleave(3, dim=0)
        summed = torch.zeros_like(self._verts).index_add(
            0, self._topology.faces.flatten(), weighted
        )
        return torch.nn.functional.normalize(summed, dim=1)

    def get_bounding_boxes(self) -> torch.Tensor:
        """Return ``(N, 3, 2)``: least and greatest x, y, z; 0 for a mesh without vertices."""
        owner = self._topology.vert_to_mesh[:, None].expand(-1, 3)
        start = self._verts.new_zeros(len(self), 3)
        low = start.scatter_reduce(0, owner, self._verts, "amin", include_self=False)
        high = start.scatter_reduce(0, owner, self._verts, "amax", include_self=False)
        return torch.stack((low, high), dim=2)

    # New meshes

    def with_verts(self, verts_packed: torch.Tensor) -> Meshes:
        """Return the same faces over other vertices ``(V, 3)``."""
        expect_shape("Meshes.with_verts: verts_packed", verts_packed, (len(self._verts), 3))
        return Meshes._of(verts_packed, self._topology)

    def offset_verts(self, vert_offsets_packed: torch.Tensor) -> Meshes:
        """Return meshes with vertices moved by ``(V, 3)``, or all by ``(3,)``."""
        return self.with_verts(self._verts + vert_offsets_packed)

    def scale_verts(self, scale: float | torch.Tensor) -> Meshes:
        """Return meshes scaled about the origin, all alike or each by its own of ``(N,)``."""
        if torch.is_tensor(scale) and scale.dim():
            expect_shape("Meshes.scale_verts: scale", scale, (len(self),))
            scale = scale.to(self._verts)[self._topology.vert_to_mesh][:, None]
        return self.with_verts(self._verts * scale)

    def extend(self, N: int) -> Meshes:
        """Return a batch with each mesh N times, one after another."""
        return self[torch.arange(len(self)).repeat_interleave(N)]

    def split(self, split_sizes: Sequence[int]) -> list[Meshes]:
        """Cut the batch into batches of so many meshes."""
        ends = torch.tensor([0, *split_sizes]).cumsum(0).tolist()
        if ends[-1] != len(self):
            raise InputError(
                f"Meshes.split: sizes must add up to {len(self)}; got {list(split_sizes)}"
            )
        return [self[low:high] for low, high in itertools.pairwise(ends)]

    def clone(self) -> Meshes:
        """Return a copy of the vertices; faces are never changed, and shared."""
        return self.with_verts(self._verts.clone())

    def detach(self) -> Meshes:
        """Return the meshes without the graph that made them."""
        return self.with_verts(self._verts.detach())

    def to(self, device: Any) -> Meshes:
        """Move the meshes."""
        return Meshes._of(self._verts.to(device), self._topology.to(device))

    def cpu(self) -> Meshes:
        """Move the meshes to the CPU."""
        return self.to("cpu")

    def __repr__(self) -> str:
        topology = self._topology
        return f"Meshes(num_verts={topology.num_verts}, num_faces={topology.num_faces})"


def _rows(rows: torch.Tensor, what: str) -> torch.Tensor:
    if rows.numel() == 0:  # an empty list has no second dimension to check
        return rows.reshape(0, 3)
    expect_shape(f"Meshes: each of {what}", rows, ("rows", 3))
    return rows
