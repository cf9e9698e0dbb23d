"""Average precision, as Pascal VOC has it since 2010."""

import torch

__all__ = ["compute_ap"]


def compute_ap(scores: torch.Tensor, labels: torch.Tensor, npos: float) -> float:
    """Return the area below the curve of precision over recall, made non-increasing.

    Args:
        scores: ``(M,)`` of detections.
        labels: ``(M,)`` 1 for one that is right, 0 for one that isn't.
        npos: how many objects there are to find.

    Returns:
        In [0, 1]; 0 without detections.
    """
    if not len(scores):
        return 0.0
    right = labels[scores.argsort(descending=True, stable=True)].double()
    found = right.cumsum(0)
    precision = found / torch.arange(1, len(found) + 1, device=found.device)
    best_from_here = precision.flip(0).cummax(0).values.flip(0)
    return float((best_from_here * right).sum() / npos)
