"""Small additions to ``torch`` and ``torch.nn``: a convolution with its norm and activation, and
functions that treat empty input as an ordinary case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from retinue.utils.errors import InputError

__all__ = [
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "Linear",
    "cat",
    "check_if_dynamo_compiling",
    "cross_entropy",
    "disable_torch_compiler",
    "empty_input_loss_func_wrapper",
    "interpolate",
    "move_device_like",
    "nonzero_tuple",
    "shapes_to_tensor",
]

_F = TypeVar("_F", bound=Callable[..., Any])

# torch handles empty input in these itself; the names are kept for code that imports them.
ConvTranspose2d = nn.ConvTranspose2d
BatchNorm2d = nn.BatchNorm2d
Linear = nn.Linear
interpolate = F.interpolate


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` followed by an optional norm and an optional activation, in this order.

    Args:
        *args: of ``torch.nn.Conv2d``.
        norm: module applied to the convolution's output.
        activation: callable applied last.
        **kwargs: of ``torch.nn.Conv2d``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        norm, activation = kwargs.pop("norm", None), kwargs.pop("activation", None)
        super().__init__(*args, **kwargs)
        self.norm: nn.Module | None = norm
        self.activation: Callable[[torch.Tensor], torch.Tensor] | None = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)``, N may be 0, to ``(N, D, H', W')``.

        Raises:
            InputError: If ``x`` is empty and the norm synchronises batch statistics.
        """
        if self.training and isinstance(self.norm, nn.SyncBatchNorm) and x.numel() == 0:
            raise InputError(
                "Conv2d: SyncBatchNorm has no statistics of an empty input in training;"
                f" got shape {tuple(x.shape)}; use the norm 'naiveSyncBN_N', 'GN' or 'FrozenBN'"
            )
        x = self._conv_forward(x, self.weight, self.bias)
        if self.norm is not None:
            x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x


def cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """Concatenate a list or tuple of tensors; a single tensor is returned itself, not copied.

    Raises:
        InputError: If ``tensors`` is neither a list nor a tuple.
    """
    if not isinstance(tensors, (list, tuple)):
        raise InputError(f"cat: tensors must be a list or tuple; got {type(tensors).__name__}")
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def empty_input_loss_func_wrapper(
    loss_func: Callable[..., torch.Tensor],
) -> Callable[..., torch.Tensor]:
    """Make a loss whose mean over no targets is 0, with zero gradients, where it would be nan."""

    def wrapped_loss_func(
        input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean", **kwargs: Any
    ) -> torch.Tensor:
        if reduction == "mean" and target.numel() == 0:
            return input.sum() * 0.0
        return loss_func(input, target, reduction=reduction, **kwargs)

    return wrapped_loss_func


cross_entropy = empty_input_loss_func_wrapper(F.cross_entropy)


def nonzero_tuple(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the indices of non-zero elements, one int64 tensor a dimension."""
    return x.nonzero(as_tuple=True)


def move_device_like(src: torch.Tensor, dst: torch.Tensor) -> torch.Tensor:
    """Return ``src`` on the device of ``dst``."""
    return src.to(dst.device)


def shapes_to_tensor(
    x: Sequence[int | torch.Tensor], device: torch.device | str | None = None
) -> torch.Tensor:
    """Make one vector of integers, or of integer tensors without dimensions.

    >>> shapes_to_tensor([3, torch.tensor(4)])
    tensor([3, 4])
    """
    if any(isinstance(size, torch.Tensor) for size in x):
        return torch.stack([torch.as_tensor(size, device=device) for size in x])
    return torch.as_tensor(x, device=device)


def check_if_dynamo_compiling() -> bool:
    """Tell whether ``torch.compile`` or ``torch.export`` is tracing the caller."""
    return torch.compiler.is_compiling()


def disable_torch_compiler(func: _F) -> _F:
    """Keep ``torch.compile`` out of ``func``; a decorator."""
    return torch.compiler.disable(func)


class _NewEmptyTensorOp(torch.autograd.Function):
    """An empty tensor of another shape that stays in the graph; some projects import it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, new_shape: Sequence[int]) -> torch.Tensor:
        ctx.shape = x.shape
        return x.new_empty(new_shape)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad.new_zeros(ctx.shape), None
