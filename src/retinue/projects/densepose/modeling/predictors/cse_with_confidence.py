"""Predicts surface embeddings and how sure their segmentation is."""

from retinue.projects.densepose.modeling.predictors.cse import DensePoseEmbeddingPredictor
from retinue.projects.densepose.modeling.predictors.cse_confidence import (
    DensePoseEmbeddingConfidencePredictorMixin,
)
from retinue.projects.densepose.modeling.predictors.registry import DENSEPOSE_PREDICTOR_REGISTRY

__all__ = ["DENSEPOSE_PREDICTOR_REGISTRY", "DensePoseEmbeddingWithConfidencePredictor"]


class DensePoseEmbeddingWithConfidencePredictor(
    DensePoseEmbeddingConfidencePredictorMixin, DensePoseEmbeddingPredictor
):
    """:class:`.DensePoseEmbeddingPredictor` with the confidence that the config enables."""
