"""Exact statistics for batch norms, instead of running averages over changing weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn

from retinue.utils.errors import InputError

__all__ = ["BN_MODULE_TYPES", "get_bn_modules", "update_bn_stats"]

BN_MODULE_TYPES: tuple[type[nn.Module], ...] = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
)

logger = logging.getLogger(__name__)


def get_bn_modules(model: nn.Module) -> list[nn.Module]:
    """Return the batch norms of ``model`` that are in training mode."""
    return [m for m in model.modules() if m.training and isinstance(m, BN_MODULE_TYPES)]


class _Population:
    """Mean and mean square of everything that one norm has seen."""

    def __init__(self, norm: Any) -> None:
        self.norm = norm
        self.mean = torch.zeros_like(self.norm.running_mean)
        self.square_mean = torch.zeros_like(self.norm.running_var)
        self.num_samples = 0
        self.is_used = False  # in the present forward

    def add_batch(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """A forward hook: with momentum 1 the running statistics are the batch's own."""
        if self.is_used:
            raise InputError(
                f"update_bn_stats: {module} runs twice in one forward; its two inputs"
                " would be mixed into one statistic"
            )
        self.is_used = True
        num = inputs[0].numel() // inputs[0].shape[1]
        self.num_samples += num
        share = num / self.num_samples
        biased_var = self.norm.running_var * ((num - 1) / num)
        self.mean.lerp_(self.norm.running_mean, share)
        self.square_mean.lerp_(self.norm.running_mean.square() + biased_var, share)


@contextmanager
def _observe(norms: list[nn.Module]) -> Iterator[list[_Population]]:
    populations = [_Population(norm) for norm in norms]
    momenta = [p.norm.momentum for p in populations]
    hooks = [p.norm.register_forward_hook(p.add_batch) for p in populations]
    try:
        for p in populations:
            p.norm.momentum = 1.0
        yield populations
    finally:
        for p, momentum, hook in zip(populations, momenta, hooks, strict=True):
            p.norm.momentum = momentum
            hook.remove()


@torch.no_grad()
def update_bn_stats(
    model: nn.Module,
    data_loader: Iterable[Any],
    num_iters: int = 200,
    progress: str | None = None,
) -> None:
    """Set the statistics of batch norms to those of ``num_iters`` batches under fixed weights.

    Batches are joined as one population: Wu & Johnson, "Rethinking 'Batch' in BatchNorm" (2021),
    section 3. Only norms in training mode take part; the mode of the model stays as it is, and
    other state that a forward changes is changed.

    Args:
        model: is called with each batch.
        data_loader: gives at least ``num_iters`` batches.
        num_iters: number of batches.
        progress: ``"tqdm"`` shows a progress bar.

    Raises:
        InputError: If the loader ends early, or a norm runs twice in one forward.
    """
    norms = get_bn_modules(model)
    if not norms:
        return
    logger.info(
        "Computing exact statistics of %d batch norms from %d batches", len(norms), num_iters
    )
    num_done = 0
    with _observe(norms) as populations:
        for batch in _with_progress(islice(data_loader, num_iters), num_iters, progress):
            for population in populations:
                population.is_used = False
            model(batch)
            num_done += 1
    if num_done < num_iters:
        raise InputError(
            f"update_bn_stats: needs {num_iters} batches; the loader ended after {num_done};"
            " pass a smaller num_iters or an endless loader"
        )
    for population in populations:
        if population.num_samples:
            population.norm.running_mean.copy_(population.mean)
            population.norm.running_var.copy_(population.square_mean - population.mean.square())


def _with_progress(batches: Iterable[Any], total: int, progress: str | None) -> Iterable[Any]:
    if progress != "tqdm":
        return batches
    from rich.progress import track

    return track(batches, description="batch norm statistics", total=total)
