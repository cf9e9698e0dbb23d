"""Judging models for single objects, class by class."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch

from retinue.evaluation import inference_context
from retinue.projects.meshrcnn.shapenet.data import Batch
from retinue.projects.meshrcnn.utils.metrics import compare_meshes
from retinue.utils.errors import InputError
from retinue.utils.tables import format_table

__all__ = ["CLASS_NAMES", "evaluate_test", "evaluate_test_p2m"]

logger = logging.getLogger(__name__)

CLASS_NAMES = {
    "02828884": "bench",
    "03001627": "chair",
    "03636649": "lamp",
    "03691459": "speaker",
    "04090263": "firearm",
    "04379243": "table",
    "04530566": "watercraft",
    "02691156": "plane",
    "02933112": "cabinet",
    "02958343": "car",
    "03211117": "monitor",
    "04256520": "couch",
    "04401088": "cellphone",
}
Results = dict[str, dict[str, float]]


def evaluate_test(
    model: torch.nn.Module, data_loader: Iterable[Batch], num_samples: int = 10_000
) -> Results:
    """Judge meshes scaled so that the true one is 10 long: table 2 of Mesh R-CNN.

    Args:
        model: maps pictures to voxels and meshes after each stage.
        data_loader: batches with meshes.
        num_samples: points on a mesh that is compared.

    Returns:
        For each class, for ``"total"`` (the mean of classes) and for ``"per-instance"``:
        ``chamfer``, ``normal`` (absolute consistency), ``f1_0.1``, ``f1_0.3``, ``f1_0.5`` in %.

    Raises:
        InputError: If a batch has no meshes.
    """
    names = {"Chamfer-L2": "chamfer", "AbsNormalConsistency": "normal"}
    names |= {f"F1@{limit:f}": f"f1_{limit}" for limit in (0.1, 0.3, 0.5)}

    def compare(pred: Any, gt: Any) -> Any:
        return compare_meshes(pred, gt, num_samples, reduce=False)

    return _evaluate(model, data_loader, compare, names)


def evaluate_test_p2m(
    model: torch.nn.Module, data_loader: Iterable[Batch], num_samples: int = 10_000
) -> Results:
    """Judge meshes as Pixel2Mesh does, scaled by 0.57: table 1 of Mesh R-CNN.

    F1 there is at squared distances of 0.0001 and 0.0002; otherwise as :func:`evaluate_test`.
    """
    limits = {0.01: "f1_1e-4", 0.014142: "f1_2e-4"}
    names = {"Chamfer-L2": "chamfer", "AbsNormalConsistency": "normal"}
    names |= {f"F1@{limit:f}": name for limit, name in limits.items()}

    def compare(pred: Any, gt: Any) -> Any:
        return compare_meshes(pred, gt, num_samples, 0.57, list(limits), reduce=False)

    return _evaluate(model, data_loader, compare, names)


@torch.no_grad()
def _evaluate(
    model: torch.nn.Module,
    data_loader: Iterable[Batch],
    compare: Callable[[Any, Any], Any],
    names: dict[str, str],
) -> Results:
    device = next(model.parameters()).device
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)  # of each class
    with inference_context(model):
        for batch in data_loader:
            if batch.meshes is None:
                raise InputError(
                    "evaluate_test: batches need true meshes; make the dataset with"
                    " return_mesh=True"
                )
            _, stages = model(batch.images.to(device))
            metrics = compare(stages[-1], batch.meshes.to(device))
            for number, sample in enumerate(batch.ids):
                synset = sample.partition("-")[0]
                name = CLASS_NAMES.get(synset, synset)
                rows[name].append({n: float(metrics[k][number]) for k, n in names.items()})
    results = {name: _mean(found) for name, found in rows.items()}
    if results:
        results["total"] = _mean(list(results.values()))
        results["per-instance"] = _mean([one for found in rows.values() for one in found])
    counts = {name: len(found) for name, found in rows.items()}
    total = sum(counts.values())
    table = [[name, counts.get(name, total), *values.values()] for name, values in results.items()]
    logger.info("Meshes:\n%s", format_table(table, ["category", "#instances", *names.values()]))
    return results


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
