"""Asking whether ``torch.fx`` is tracing; for projects, since our models never ask."""

from __future__ import annotations

import torch
from torch.fx._symbolic_trace import is_fx_tracing as _is_fx_tracing

__all__ = ["assert_fx_safe", "is_fx_tracing", "is_fx_tracing_legacy"]

tracing_current_exists = True
tracing_legacy_exists = False


def is_fx_tracing() -> bool:
    """Say whether ``torch.fx`` symbolic tracing is going on."""
    return bool(_is_fx_tracing())


is_fx_tracing_legacy = is_fx_tracing


def assert_fx_safe(condition: bool, message: str) -> torch.Tensor:
    """Raise AssertionError with ``message`` unless ``condition``; not checked while tracing.

    Args:
        condition: a bool. A string of code, as detectron2 takes it, is refused: nothing here
            evaluates text.

    Returns:
        A tensor with a one, or a zero while tracing.
    """
    if is_fx_tracing():
        return torch.zeros(1)
    if isinstance(condition, str):
        raise TypeError(f"assert_fx_safe: condition must be a bool; got the text {condition!r}")
    torch._assert(condition, message)
    return torch.ones(1)
