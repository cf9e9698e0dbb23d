"""Draws embedded points that the model is sure of."""

from typing import Any

import torch

from retinue.config import CfgNode
from retinue.projects.densepose.converters.base import IntTupleBox
from retinue.projects.densepose.converters.segm_to_mask import stretch
from retinue.projects.densepose.data.samplers.densepose_base import take_best
from retinue.projects.densepose.data.samplers.densepose_confidence_based import check_search
from retinue.projects.densepose.data.samplers.densepose_cse_base import DensePoseCSEBaseSampler
from retinue.structures import Instances

__all__ = ["DensePoseCSEConfidenceBasedSampler"]


class DensePoseCSEConfidenceBasedSampler(DensePoseCSEBaseSampler):
    """Draws among the pixels of an instance with the largest confidence.

    Args:
        cfg: see :class:`.DensePoseCSEBaseSampler`.
        use_gt_categories: likewise.
        embedder: likewise.
        confidence_channel: ``"coarse_segm_confidence"``.
        count_per_class: at most so many of each instance.
        search_count_multiplier: draw among so many times as many.
        search_proportion: draw among this part of all; not with ``search_count_multiplier``.

    Raises:
        InputError: If both are given.
    """

    def __init__(
        self,
        cfg: CfgNode,
        use_gt_categories: bool,
        embedder: Any,
        confidence_channel: str,
        count_per_class: int = 8,
        search_count_multiplier: float | None = None,
        search_proportion: float | None = None,
    ) -> None:
        super().__init__(cfg, use_gt_categories, embedder, count_per_class)
        check_search(search_count_multiplier, search_proportion)
        self.confidence_channel = confidence_channel
        self.search_count_multiplier = search_count_multiplier
        self.search_proportion = search_proportion

    def _produce_index_sample(self, values: torch.Tensor, count: int) -> torch.Tensor:
        return take_best(-values[0], count, self.search_count_multiplier, self.search_proportion)

    def _produce_mask_and_results(
        self, instance: Instances, bbox_xywh: IntTupleBox
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mask, embeddings, _ = super()._produce_mask_and_results(instance, bbox_xywh)
        confidence = getattr(instance.pred_densepose, self.confidence_channel)
        return mask, embeddings, stretch(confidence, bbox_xywh)[0]
