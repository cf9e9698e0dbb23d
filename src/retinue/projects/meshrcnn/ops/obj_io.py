"""Reading and writing Wavefront ``.obj`` files: vertices and faces, nothing else."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable

import torch

from retinue.utils.errors import InputError, expect_shape
from retinue.utils.file_io import PathManager, atomic_write

__all__ = ["load_obj", "save_obj"]


def load_obj(path: str | os.PathLike[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read vertices ``(V, 3)`` float32 and faces ``(F, 3)`` int64 of a file.

    A polygon becomes a fan of triangles. Normals, textures, materials, groups are left out.

    Raises:
        InputError: With file and line, if a line is no vertex or face, or a face names a vertex
            that is not there.
    """
    with PathManager.open(path, "r") as lines:
        return parse_obj(lines, os.fspath(path))


def parse_obj(lines: Iterable[str], where: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what ``load_obj`` does with the lines of a file; ``where`` names it in errors."""
    verts: list[list[float]] = []
    faces: list[list[int]] = []
    for number, line in enumerate(lines, start=1):
        kind, *words = line.split() or [""]
        try:
            if kind == "v":
                verts.append([float(w) for w in words[:3]])
                if len(words) < 3:
                    raise ValueError("a vertex has three coordinates")
            elif kind == "f":
                faces += _fan(words, len(verts))
        except ValueError as error:
            raise InputError(
                f"{where}, line {number}: expected a vertex or a face; got {line.strip()!r}"
                f" ({error})"
            ) from error
    loaded = torch.tensor(faces, dtype=torch.int64).reshape(-1, 3)
    if len(loaded) and int(loaded.max()) >= len(verts):
        raise InputError(
            f"{where}: a face names vertex {int(loaded.max()) + 1}; there are {len(verts)}"
        )
    return torch.tensor(verts, dtype=torch.float32).reshape(-1, 3), loaded


def _fan(words: list[str], num_verts: int) -> list[list[int]]:
    """Return the triangles of a face line; ``7/2/3`` is vertex 7, and -1 is the last so far."""
    numbers = [int(word.partition("/")[0]) for word in words]
    if len(numbers) < 3:
        raise ValueError("a face has at least three vertices")
    indices = [n - 1 if n > 0 else num_verts + n for n in numbers]
    if 0 in numbers or min(indices) < 0:
        raise ValueError("vertices count from 1, or from -1 backwards")
    return [[indices[0], b, c] for b, c in itertools.pairwise(indices[1:])]


def save_obj(
    path: str | os.PathLike[str],
    verts: torch.Tensor,
    faces: torch.Tensor,
    decimal_places: int | None = None,
) -> None:
    """Write vertices ``(V, 3)`` and faces ``(F, 3)`` to a file, whole or not at all.

    Args:
        path: ends in ``.obj``, as a rule.
        verts: any floating dtype and device.
        faces: indices from 0.
        decimal_places: of coordinates; by default as many as tell float32 numbers apart.
    """
    if len(verts):
        expect_shape("save_obj: verts", verts, ("V", 3))
    if len(faces):
        expect_shape("save_obj: faces", faces, ("F", 3))
    form = ".9g" if decimal_places is None else f".{decimal_places}f"
    with atomic_write(os.fspath(path), "w") as file:
        file.writelines(_lines("v", ((format(v, form) for v in row) for row in verts.tolist())))
        file.writelines(_lines("f", ((str(i + 1) for i in row) for row in faces.tolist())))


def _lines(kind: str, rows: Iterable[Iterable[str]]) -> Iterable[str]:
    return (" ".join((kind, *row)) + "\n" for row in rows)
