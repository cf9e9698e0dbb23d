"""What a chart-based predictor gives."""

from dataclasses import dataclass

import torch

from retinue.projects.densepose.structures.per_instance import PerInstance

__all__ = ["DensePoseChartPredictorOutput"]


@dataclass
class DensePoseChartPredictorOutput(PerInstance):
    """Scores and chart coordinates in the boxes of R instances, on grids of side S.

    Attributes:
        coarse_segm: ``(R, K, S, S)`` logits: background, then body (K = 2) or 14 parts (K = 15).
        fine_segm: ``(R, C, S, S)`` logits: background, then charts.
        u: ``(R, C, S, S)``, coordinate within each chart, about [0, 1].
        v: likewise.
    """

    coarse_segm: torch.Tensor
    fine_segm: torch.Tensor
    u: torch.Tensor
    v: torch.Tensor
