"""Predictors that ``MODEL.ROI_DENSEPOSE_HEAD.PREDICTOR_NAME`` can name."""

from retinue.utils.registry import Registry

__all__ = ["DENSEPOSE_PREDICTOR_REGISTRY"]

_HERE = "retinue.projects.densepose.modeling.predictors"

DENSEPOSE_PREDICTOR_REGISTRY = Registry(
    "DENSEPOSE_PREDICTOR",
    {
        "DensePoseChartPredictor": f"{_HERE}.chart:DensePoseChartPredictor",
        "DensePoseChartWithConfidencePredictor": (
            f"{_HERE}.chart_with_confidence:DensePoseChartWithConfidencePredictor"
        ),
        "DensePoseEmbeddingPredictor": f"{_HERE}.cse:DensePoseEmbeddingPredictor",
        "DensePoseEmbeddingWithConfidencePredictor": (
            f"{_HERE}.cse_with_confidence:DensePoseEmbeddingWithConfidencePredictor"
        ),
    },
    key="MODEL.ROI_DENSEPOSE_HEAD.PREDICTOR_NAME",
)
