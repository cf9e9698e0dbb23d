"""Adds the confidence of segmentation to a predictor of surface embeddings."""

from typing import Any

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.predictors.chart_confidence import (
    DensePoseChartConfidencePredictorMixin,
)
from retinue.projects.densepose.structures.cse_confidence import (
    decorate_cse_predictor_output_class_with_confidences,
)

__all__ = ["DensePoseEmbeddingConfidencePredictorMixin"]


class DensePoseEmbeddingConfidencePredictorMixin(DensePoseChartConfidencePredictorMixin):
    """The mixin for charts without what only charts have: coordinates and fine segmentation.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_channels: channels that the head gives.
    """

    _segmentations = ("coarse_segm",)

    def _initialize_confidence_estimation_layers(self, cfg: CfgNode, dim_in: int) -> None:
        self.confidence_model_cfg.uv_confidence.enabled = False
        super()._initialize_confidence_estimation_layers(cfg, dim_in)

    def _create_output_instance(self, base_predictor_outputs: Any) -> Any:
        plain: Any = type(base_predictor_outputs)
        extended = decorate_cse_predictor_output_class_with_confidences(plain)
        return extended(**vars(base_predictor_outputs))
