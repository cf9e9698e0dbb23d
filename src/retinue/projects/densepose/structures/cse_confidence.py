"""Predictions of surface embeddings, with confidences."""

from functools import cache

from retinue.projects.densepose.structures.chart_confidence import _with_optional_tensors

__all__ = ["decorate_cse_predictor_output_class_with_confidences"]


@cache
def decorate_cse_predictor_output_class_with_confidences(BasePredictorOutput: type) -> type:
    """Extend a predictor's output by ``coarse_segm_confidence``, None or ``(R, 1, S, S)``.

    Args:
        BasePredictorOutput: a dataclass.

    Returns:
        A dataclass derived from it, named ``<its name>WithConfidences``.
    """
    return _with_optional_tensors(BasePredictorOutput, ("coarse_segm_confidence",))
