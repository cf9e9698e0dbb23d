"""Make a private copy of a model that runs faster and gives the same results.

Reading order: optimize_for_inference lists the steps; each is a function that changes the copy.
"""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from retinue.layers import Conv2d, FrozenBatchNorm2d
from retinue.layers.winograd import winograd_conv3x3, winograd_weight
from retinue.modeling.layout import takes_channels_last
from retinue.utils.errors import InputError

__all__ = ["optimize_for_inference"]

_Model = TypeVar("_Model", bound=nn.Module)

# Where Winograd's algorithm was measured to win. Its weights are four times as large, so layers
# with the largest weights, which work on the smallest maps, keep the direct convolution.
_MIN_CHANNELS = 64
_MAX_CHANNEL_PAIRS = 128 * 1024


def optimize_for_inference(
    model: _Model, *, dtype: torch.dtype | None = None, compile: bool = False
) -> _Model:
    """Copy a model and prepare the copy for inference; the model itself stays as it is.

    Batch norms with fixed statistics are folded into the convolutions before them, tensors are
    kept in channels-last order, and on a CPU 3x3 convolutions run by Winograd's algorithm (the
    latter two if ``takes_channels_last``). Results agree with the model's to 1e-4 of the largest
    value. Names of modules, and so ``retinue.taps``, work on the copy; folded norms are gone from
    its state dict.

    Args:
        model: any module. Convolutions with a ``norm`` attribute, as ``retinue.layers.Conv2d``,
            and convolutions followed by a norm in an ``nn.Sequential`` are folded.
        dtype: ``torch.bfloat16`` or ``torch.float16`` computes convolutions and products in that
            type, and geometry, softmax and norms in float32: call the copy, or its ``inference``,
            not its parts. Results agree to about 1e-2. None keeps the model's type.
        compile: compile the backbone, or the whole model if it has none, by ``torch.compile``
            when it is first called; needs a C++ compiler on a CPU.

    Returns:
        A module of the same class in evaluation mode, without gradients for parameters.

    Raises:
        InputError: If ``dtype`` is another.
    """
    if dtype not in (None, torch.bfloat16, torch.float16):
        raise InputError(
            "optimize_for_inference: dtype must be None, torch.bfloat16 or torch.float16;"
            f" got {dtype!r}"
        )
    model = copy.deepcopy(model).eval().requires_grad_(False)
    _fold_norms(model)
    reorders = takes_channels_last(model)
    if reorders:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if dtype is not None:
        _compute_in(model, dtype)
    elif not compile and reorders:  # the compiler has kernels of its own
        _use_winograd(model)
    if compile:
        getattr(model, "backbone", model).compile()
    return model


def _fold_norms(model: nn.Module) -> None:
    """Fold every norm that is a fixed scale and shift into the convolution before it."""
    for conv, owner, name in list(_convs_with_norm(model)):
        norm = getattr(owner, name)
        if _is_fixed(norm):
            _fold(conv, norm)
            setattr(owner, name, None if owner is conv else nn.Identity())


def _convs_with_norm(model: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Module, str]]:
    """Yield convolutions, and which attribute of which module is the norm right after each."""
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for module in model.modules():
        if type(module).forward is Conv2d.forward:
            yield module, module, "norm"  # type: ignore[misc]
        elif type(module).forward is nn.Sequential.forward:
            for (_, first), (name, _) in pairwise(module.named_children()):
                is_plain = type(first) is nn.Conv2d or (
                    type(first) is Conv2d and first.norm is None and first.activation is None
                )
                if is_plain and uses[id(first)] == 1:  # else another place would be changed, too
                    yield first, module, name  # type: ignore[misc]


def _is_fixed(norm: object) -> bool:
    is_batch_norm = isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm | FrozenBatchNorm2d)
    return is_batch_norm and norm.running_mean is not None  # type: ignore[attr-defined]


def _fold(conv: nn.Conv2d, norm: Any) -> None:
    """Give ``conv`` the weight and bias that make ``norm(conv(x))``; worked out in float64."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    weight = conv.weight.double() * scale.reshape(-1, 1, 1, 1)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)


def _compute_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast weights once, and run the model under autocast, which casts the rest."""
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    for module in model.modules():
        if isinstance(module, layers):
            module.to(dtype)
    device = next((p.device.type for p in model.parameters()), "cpu")
    for name in ("forward", "inference"):
        if hasattr(model, name):
            setattr(model, name, _under_autocast(getattr(model, name), device, dtype))


def _under_autocast(function: Any, device: str, dtype: torch.dtype) -> Any:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype):
            return function(*args, **kwargs)

    return run


class _WinogradConv2d(Conv2d):
    """A 3x3 convolution that runs by Winograd's algorithm where that is faster."""

    winograd_weight: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        is_full_precision = x.dtype in (torch.float32, torch.float64)
        if x.device.type != "cpu" or not is_full_precision or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        is_relu = self.norm is None and (
            self.activation is F.relu or isinstance(self.activation, nn.ReLU)
        )
        x = winograd_conv3x3(x, self.winograd_weight, self.bias, relu=is_relu)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None or is_relu else self.activation(x)


def _use_winograd(model: nn.Module) -> None:
    """Turn the convolutions that gain from it into ``_WinogradConv2d``."""
    convs: list[Any] = [m for m in model.modules() if type(m) in (nn.Conv2d, Conv2d)]
    for conv in filter(_gains, convs):
        conv.register_buffer("winograd_weight", winograd_weight(conv.weight), persistent=False)
        conv.norm = getattr(conv, "norm", None)
        conv.activation = getattr(conv, "activation", None)
        conv.__class__ = _WinogradConv2d  # the same object, so that references to it hold


def _gains(conv: Any) -> bool:
    options = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    return (
        options == ((3, 3), (1, 1), (1, 1), (1, 1))
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= _MIN_CHANNELS
        and conv.in_channels * conv.out_channels <= _MAX_CHANNEL_PAIRS
        and conv.weight.dtype in (torch.float32, torch.float64)
        and conv.weight.device.type == "cpu"
    )
