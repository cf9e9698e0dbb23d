"""Registration of tensor operators with PyTorch, so that compilers and exporters keep them whole.

An operator is a kernel that autograd and tracers don't look into, a *fake* that knows the output's
shape, and perhaps a gradient. This does what ``torch.library.custom_op`` does, by the functions
below it: an operator of ``custom_op`` imports the compiler, a second's work, when first called.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["laid_out_as", "register_operator"]


def register_operator(
    schema: str,
    kernel: Callable[..., Any],
    *,
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Callable[..., Any]:
    """Define an operator in PyTorch's namespace ``retinue``.

    Args:
        schema: ``"name(Tensor x, int k) -> Tensor"``.
        kernel: computes the outputs, which must not alias inputs, on any device.
        fake: takes the same arguments and returns empty outputs of the right shape and strides.
        backward: ``(ctx, *grads) -> grads of the inputs``; ``None`` for one without gradient.
        setup_context: ``(ctx, inputs, output) -> None``, keeps what ``backward`` needs.

    Returns:
        The operator, to be called like ``kernel``.
    """
    name, parenthesis, signature = schema.partition("(")
    qualified = f"retinue::{name}"
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
    torch.library.define(qualified, parenthesis + signature, tags=tags)
    torch.library.impl(qualified, "default", _outside_autocast(kernel))
    torch.library.register_fake(qualified, fake)
    if backward is not None:
        torch.library.register_autograd(qualified, backward, setup_context=setup_context)
    return getattr(torch.ops.retinue, name).default


def _outside_autocast(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Keep autocast out of a kernel: it computes in the dtype of what it is given."""

    @functools.wraps(kernel)
    def run(*args: Any) -> Any:
        device = next(a.device.type for a in args if isinstance(a, torch.Tensor))
        if not torch.is_autocast_enabled(device):
            return kernel(*args)
        with torch.autocast(device, enabled=False):
            return kernel(*args)

    return run


def laid_out_as(out: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Copy ``(..., C, H, W)`` to contiguous order if what it was made from is so.

    Operators that work in channels-last order use it, as convolutions do: who hands in contiguous
    maps may ``view`` the result.
    """
    return out.contiguous() if source.is_contiguous() else out
