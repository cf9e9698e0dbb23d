"""Draws embedded points uniformly."""

from retinue.projects.densepose.data.samplers.densepose_cse_base import DensePoseCSEBaseSampler
from retinue.projects.densepose.data.samplers.densepose_uniform import DensePoseUniformSampler

__all__ = ["DensePoseCSEUniformSampler"]


class DensePoseCSEUniformSampler(DensePoseCSEBaseSampler, DensePoseUniformSampler):
    """Draws uniformly among the pixels of an instance."""
