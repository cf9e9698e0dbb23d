"""The last layers, which predict charts or embeddings from a head's features."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.modeling.predictors"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DENSEPOSE_PREDICTOR_REGISTRY": f"{_HERE}.registry",
        "DensePoseChartConfidencePredictorMixin": f"{_HERE}.chart_confidence",
        "DensePoseChartPredictor": f"{_HERE}.chart",
        "DensePoseChartWithConfidencePredictor": f"{_HERE}.chart_with_confidence",
        "DensePoseEmbeddingConfidencePredictorMixin": f"{_HERE}.cse_confidence",
        "DensePoseEmbeddingPredictor": f"{_HERE}.cse",
        "DensePoseEmbeddingWithConfidencePredictor": f"{_HERE}.cse_with_confidence",
        "chart": "",
        "chart_confidence": "",
        "chart_with_confidence": "",
        "cse": "",
        "cse_confidence": "",
        "cse_with_confidence": "",
        "registry": "",
    },
)
