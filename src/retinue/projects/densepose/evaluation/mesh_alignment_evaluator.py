"""How well embeddings align meshes: each named vertex against the one it finds on other meshes."""

import json
import logging
from collections.abc import Iterable
from typing import Any

import torch

from retinue.projects.densepose.evaluation.surface import DATA
from retinue.projects.densepose.structures.mesh import create_mesh
from retinue.utils.file_io import PathManager

__all__ = ["MeshAlignmentEvaluator"]

SCALE = 0.255  # standard deviation of a distance, as in the evaluation of detections


class MeshAlignmentEvaluator:
    """Compares all pairs of meshes; reads a published table of named vertices.

    Args:
        embedder: like :class:`.Embedder`.
        mesh_names: meshes to compare; all of the embedder's by default.
    """

    def __init__(self, embedder: Any, mesh_names: Iterable[str] | None) -> None:
        self.embedder = embedder
        self.mesh_names = list(mesh_names or sorted(embedder.mesh_names))
        self.logger = logging.getLogger(__name__)
        with PathManager.open(f"{DATA}/cse/mesh_keyvertices_v0.json", "r") as file:
            self.mesh_keyvertices = json.load(file)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float, dict[str, dict[str, float]]]:
        """Return the mean geodesic error, the mean GPS, and ``GE`` and ``GPS`` of each mesh."""
        errors: dict[str, float] = {}
        similarities: dict[str, float] = {}
        for name in self.mesh_names:
            others = [other for other in self.mesh_names if other != name]
            distances = [self._distances(name, other) for other in others]
            errors[name] = _mean([d.mean() for d in distances])
            gps = [(-d.square() / (2 * SCALE**2)).exp().mean() for d in distances]
            similarities[name] = _mean(gps)
        per_mesh = {"GE": errors, "GPS": similarities}
        return _mean(errors.values()), _mean(similarities.values()), per_mesh

    def _distances(self, source: str, target: str) -> torch.Tensor:
        """Return how far, on the target, each named vertex is from where it should be."""
        names = list(self.mesh_keyvertices[source])
        vertices, wanted = (
            [self.mesh_keyvertices[mesh][name] for name in names] for mesh in (source, target)
        )
        embeddings = self.embedder(target)
        found = (self.embedder(source)[vertices] @ embeddings.T).argmax(dim=1)
        geodists = create_mesh(target, embeddings.device).geodists
        distances: torch.Tensor = geodists[found, torch.as_tensor(wanted, device=found.device)]
        return distances


def _mean(values: Iterable[Any]) -> float:
    return float(torch.tensor([float(value) for value in values]).mean())
