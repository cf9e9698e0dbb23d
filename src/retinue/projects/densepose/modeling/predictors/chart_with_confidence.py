"""Predicts charts and how sure they are."""

from retinue.projects.densepose.modeling.predictors.chart import DensePoseChartPredictor
from retinue.projects.densepose.modeling.predictors.chart_confidence import (
    DensePoseChartConfidencePredictorMixin,
)
from retinue.projects.densepose.modeling.predictors.registry import DENSEPOSE_PREDICTOR_REGISTRY

__all__ = ["DENSEPOSE_PREDICTOR_REGISTRY", "DensePoseChartWithConfidencePredictor"]


class DensePoseChartWithConfidencePredictor(
    DensePoseChartConfidencePredictorMixin, DensePoseChartPredictor
):
    """:class:`.DensePoseChartPredictor` with the confidences that the config enables."""
