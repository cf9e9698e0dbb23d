"""Predictions of charts, with confidences."""

from dataclasses import make_dataclass
from functools import cache

import torch

__all__ = ["decorate_predictor_output_class_with_confidences"]

CONFIDENCES = (
    "sigma_1",
    "sigma_2",
    "kappa_u",
    "kappa_v",
    "fine_segm_confidence",
    "coarse_segm_confidence",
)


@cache
def decorate_predictor_output_class_with_confidences(BasePredictorOutput: type) -> type:
    """Extend a predictor's output by confidences, each None or ``(R, ..., S, S)``.

    ``sigma_1``, ``sigma_2``, ``kappa_u``, ``kappa_v`` are those of chart coordinates, see
    :class:`.DensePoseUVConfidenceType`.

    Args:
        BasePredictorOutput: a dataclass.

    Returns:
        A dataclass derived from it, named ``<its name>WithConfidences``.
    """
    return _with_optional_tensors(BasePredictorOutput, CONFIDENCES)


def _with_optional_tensors(base: type, names: tuple[str, ...]) -> type:
    fields = [(name, torch.Tensor | None, None) for name in names]
    return make_dataclass(base.__name__ + "WithConfidences", fields, bases=(base,))
