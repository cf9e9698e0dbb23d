"""Draws points uniformly."""

import torch

from retinue.projects.densepose.data.samplers.densepose_base import DensePoseBaseSampler

__all__ = ["DensePoseUniformSampler"]


class DensePoseUniformSampler(DensePoseBaseSampler):
    """Draws uniformly among the pixels of each chart.

    Args:
        count_per_class: at most so many of each chart.
    """

    def __init__(self, count_per_class: int = 8) -> None:
        super().__init__(count_per_class)

    def _produce_index_sample(self, values: torch.Tensor, count: int) -> torch.Tensor:
        return torch.randperm(values.shape[1])[:count]
