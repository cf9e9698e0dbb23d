"""Draws points that the model is sure of."""

import torch

from retinue.projects.densepose.converters.to_chart_result import (
    ToChartResultConverterWithConfidences,
)
from retinue.projects.densepose.data.samplers.densepose_base import DensePoseBaseSampler, take_best
from retinue.structures import Instances
from retinue.utils.errors import InputError

__all__ = ["DensePoseConfidenceBasedSampler", "check_search"]


class DensePoseConfidenceBasedSampler(DensePoseBaseSampler):
    """Draws among the pixels of each chart with the smallest value of a confidence channel.

    Args:
        confidence_channel: ``"sigma_2"``, ``"fine_segm_confidence"`` or
            ``"coarse_segm_confidence"``.
        count_per_class: at most so many of each chart.
        search_count_multiplier: draw among so many times as many.
        search_proportion: draw among this part of all; not with ``search_count_multiplier``.

    Raises:
        InputError: If both are given.
    """

    def __init__(
        self,
        confidence_channel: str,
        count_per_class: int = 8,
        search_count_multiplier: float | None = None,
        search_proportion: float | None = None,
    ) -> None:
        super().__init__(count_per_class)
        check_search(search_count_multiplier, search_proportion)
        self.confidence_channel = confidence_channel
        self.search_count_multiplier = search_count_multiplier
        self.search_proportion = search_proportion

    def _produce_index_sample(self, values: torch.Tensor, count: int) -> torch.Tensor:
        return take_best(values[2], count, self.search_count_multiplier, self.search_proportion)

    def _produce_labels_and_results(self, instance: Instances) -> tuple[torch.Tensor, torch.Tensor]:
        result = ToChartResultConverterWithConfidences.convert(
            instance.pred_densepose, instance.pred_boxes
        )
        confidence = getattr(result, self.confidence_channel)
        return result.labels.cpu(), torch.cat([result.uv, confidence[None]]).cpu()


def check_search(multiplier: float | None, proportion: float | None) -> None:
    """Refuse two ways of saying how many points to draw among."""
    if multiplier is not None and proportion is not None:
        raise InputError(
            "expected search_count_multiplier or search_proportion; got both, "
            f"{multiplier} and {proportion}"
        )
