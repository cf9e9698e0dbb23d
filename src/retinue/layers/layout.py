"""The order in which the numbers of a feature map lie in memory."""

from __future__ import annotations

import torch

__all__ = ["laid_out_as"]


def laid_out_as(out: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Copy ``(..., C, H, W)`` to contiguous order if what it was made from is so.

    Operators that work in channels-last order use it, as convolutions do: who hands in contiguous
    maps may ``view`` the result.
    """
    return out.contiguous() if source.is_contiguous() else out
