"""Renderings of ShapeNet with voxels and sampled points, as the public project prepares them.

The folder has ``summary.json`` (class -> model -> number of pictures) and, for each model,
``<class>/<model>/`` with ``metadata.pt`` (``intrinsic``, ``extrinsics``, ``image_list``),
``images/``, ``mesh.pt`` (``verts``, ``faces``), ``samples.pt`` (``points_sampled``,
``normals_sampled``), ``voxels.pt`` (``voxel_coords``) and, as a cache, ``vox<size>/<picture>.pt``.

Shapes
    H, W of a picture; V vertices and F faces of its mesh; S points on it; G side of a grid.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from retinue.projects.meshrcnn.ops import Meshes, sample_points_from_meshes
from retinue.projects.meshrcnn.shapenet.coords import project_verts, world_to_voxel
from retinue.utils.file_io import PathManager

__all__ = ["Batch", "MeshVoxDataset", "imagenet_preprocess", "voxelize"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Batch(NamedTuple):
    """What a model is trained and judged on.

    Attributes:
        images: ``(N, 3, H, W)`` normalised.
        meshes: N true meshes in world space, if they were read.
        points, normals: ``(N, S, 3)`` on them.
        voxels: ``(N, G, G, G)`` bool.
        ids: ``"class-model-picture"`` of each.
    """

    images: torch.Tensor
    meshes: Meshes | None
    points: torch.Tensor
    normals: torch.Tensor
    voxels: torch.Tensor | None
    ids: list[str]


class MeshVoxDataset(Dataset[dict[str, Any]]):
    """One picture a sample, with the mesh, points and voxels of the model it shows.

    Args:
        data_dir: the folder.
        split: which samples to take, class -> models or class -> model -> pictures; default: all.
        return_mesh: read the meshes.
        voxel_size: G; 0 for no voxels.
        num_samples: S.
        sample_online: sample points from the meshes, instead of reading those on disk.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        split: dict[str, Any] | None = None,
        *,
        return_mesh: bool = False,
        voxel_size: int = 32,
        num_samples: int = 5000,
        sample_online: bool = False,
    ) -> None:
        self.data_dir = os.fspath(data_dir)
        self.return_mesh = return_mesh or sample_online
        self.voxel_size = voxel_size
        self.num_samples = num_samples
        self.sample_online = sample_online
        with PathManager.open(os.path.join(self.data_dir, "summary.json")) as file:
            summary = json.load(file)
        self.samples = [
            (synset, model, picture)
            for synset, models in summary.items()
            for model, count in models.items()
            for picture in range(count)
            if _is_in(split, synset, model, picture)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        synset, model, picture = self.samples[index]
        metadata = self._load(synset, model, "metadata.pt")
        RT = metadata["extrinsics"][picture]
        path = os.path.join(self.data_dir, synset, model, "images", metadata["image_list"][picture])
        sample = {"id": f"{synset}-{model}-{picture:02d}", "image": imagenet_preprocess(path)}
        if self.return_mesh:
            mesh = self._load(synset, model, "mesh.pt")
            sample["verts"] = project_verts(mesh["verts"], RT)
            sample["faces"] = mesh["faces"]
        if not self.sample_online:
            stored = self._load(synset, model, "samples.pt")
            chosen = torch.randperm(len(stored["points_sampled"]))[: self.num_samples]
            sample["points"] = project_verts(stored["points_sampled"][chosen], RT)
            sample["normals"] = stored["normals_sampled"][chosen] @ RT[:3, :3].T
        if self.voxel_size:
            cached = f"vox{self.voxel_size}/{picture:03d}.pt"
            if PathManager.isfile(os.path.join(self.data_dir, synset, model, cached)):
                sample["voxels"] = self._load(synset, model, cached).bool()
            else:
                coords = self._load(synset, model, "voxels.pt")["voxel_coords"]
                projection = metadata["intrinsic"] @ RT
                sample["voxels"] = voxelize(coords, projection, self.voxel_size)
        return sample

    def _load(self, synset: str, model: str, name: str) -> Any:
        with PathManager.open(os.path.join(self.data_dir, synset, model, name), "rb") as file:
            return torch.load(file, weights_only=True)

    def collate_fn(self, samples: Sequence[dict[str, Any]]) -> Batch:
        """Join samples."""
        meshes = None
        if self.return_mesh:
            meshes = Meshes([s["verts"] for s in samples], [s["faces"] for s in samples])
        if self.sample_online and meshes is not None:
            points, normals = sample_points_from_meshes(meshes, self.num_samples, True)
        else:
            points, normals = (torch.stack([s[k] for s in samples]) for k in ("points", "normals"))
        return Batch(
            images=torch.stack([s["image"] for s in samples]),
            meshes=meshes,
            points=points,
            normals=normals,
            voxels=torch.stack([s["voxels"] for s in samples]) if self.voxel_size else None,
            ids=[s["id"] for s in samples],
        )


def _is_in(split: dict[str, Any] | None, synset: str, model: str, picture: int) -> bool:
    if split is None:
        return True
    models = split.get(synset, ())
    if model not in models:
        return False
    return not isinstance(models, dict) or picture in models[model]


def imagenet_preprocess(path: str) -> torch.Tensor:
    """Read a picture as ``(3, H, W)``, normalised as for networks trained on ImageNet."""
    with PathManager.open(path, "rb") as file:
        pixels = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels / 255 - mean) / std


def voxelize(voxel_coords: torch.Tensor, P: torch.Tensor, size: int) -> torch.Tensor:
    """Return the grid ``(G, G, G)`` bool, axes z away, y down, x right, that points fill.

    Args:
        voxel_coords: ``(P, 3)`` points in a model's space.
        P: ``(4, 4)`` projection.
        size: G.
    """
    cell = (0.5 * (size - 1) * (world_to_voxel(voxel_coords, P) + 1)).round().long()
    x, y, z = cell[((cell >= 0) & (cell < size)).all(dim=1)].unbind(dim=1)
    voxels = torch.zeros(size, size, size, dtype=torch.bool, device=cell.device)
    voxels[z, y, x] = True
    return voxels
