"""What single operators cost: multiply-adds, or elements of their outputs.

A handle is called with the arguments and the outputs of one call of an operator, tensors among
them, and returns a count, or a ``Counter`` of counts by name. One multiply-add counts as one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = [
    "ACTIVATION_HANDLES",
    "FLOP_HANDLES",
    "Handle",
    "addmm_flop_jit",
    "batchnorm_flop_jit",
    "bmm_flop_jit",
    "conv_flop_count",
    "conv_flop_jit",
    "einsum_flop_jit",
    "elementwise_flop_counter",
    "generic_activation_jit",
    "get_shape",
    "linear_flop_jit",
    "matmul_flop_jit",
    "norm_flop_counter",
]

Handle = Callable[[Sequence[Any], Sequence[Any]], Counter[str] | float]


def get_shape(val: Any) -> list[int] | None:
    """Return a tensor's shape as a list, and None for anything else."""
    return list(val.shape) if isinstance(val, torch.Tensor) else None


def _shape(val: Any) -> list[int]:
    shape = get_shape(val)
    assert shape is not None
    return shape


def generic_activation_jit(op_name: str | None = None) -> Handle:
    """Make a handle that counts the elements of an operator's first output."""

    def count(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str] | float:
        size = math.prod(_shape(outputs[0]))
        return size if op_name is None else Counter({op_name: size})

    return count


def addmm_flop_jit(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """Count ``addmm(bias, (N, K), (K, M))``: N K M."""
    return math.prod(_shape(inputs[1])) * _shape(inputs[2])[-1]


def linear_flop_jit(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """Count ``linear((..., K), (M, K))``."""
    return math.prod(_shape(inputs[0])) * _shape(inputs[1])[0]


def bmm_flop_jit(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """Count ``bmm((B, N, K), (B, K, M))``: B N K M."""
    return math.prod(_shape(inputs[0])) * _shape(inputs[1])[-1]


def matmul_flop_jit(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """Count ``matmul``: the elements of the output times the length of what is summed."""
    return math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1]


def einsum_flop_jit(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """Count ``einsum(equation, operands)`` of two operands: one for each index of the loop."""
    equation, operands = inputs[0], inputs[1]
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        sizes.update(zip(term, _shape(operand), strict=True))
    return math.prod(sizes.values())


def conv_flop_count(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    out_shape: Sequence[int],
    transposed: bool = False,
) -> float:
    """Count a convolution's multiply-adds.

    Args:
        x_shape: ``(N, C, ...)`` of the input.
        w_shape: ``(D, C / groups, ...)`` of the kernel.
        out_shape: ``(N, D, ...)`` of the output.
        transposed: each element of the input, not of the output, meets the whole kernel.
    """
    places = math.prod((x_shape if transposed else out_shape)[2:])
    return x_shape[0] * places * math.prod(w_shape)


def conv_flop_jit(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    """Count ``convolution(x, weight, bias, stride, padding, dilation, transposed, ...)``."""
    transposed = bool(inputs[6]) if len(inputs) > 6 else False
    count = conv_flop_count(_shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0]), transposed)
    return Counter({"conv": count})


def norm_flop_counter(affine_arg_index: int) -> Handle:
    """Make a handle for a norm by the input's own statistics.

    Args:
        affine_arg_index: which argument is the weight; without one, a step less is counted.
    """

    def count(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
        is_affine = get_shape(inputs[affine_arg_index]) is not None
        return math.prod(_shape(inputs[0])) * (5 if is_affine else 4)

    return count


def batchnorm_flop_jit(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """Count ``batch_norm(x, weight, bias, mean, var, training, ...)``; at inference it scales."""
    if inputs[5]:
        return float(norm_flop_counter(affine_arg_index=1)(inputs, outputs))  # type: ignore[arg-type]
    return math.prod(_shape(inputs[0])) * (2 if get_shape(inputs[1]) is not None else 1)


def elementwise_flop_counter(input_scale: float = 1, output_scale: float = 0) -> Handle:
    """Make a handle that counts so much for each element of the first input and output."""

    def count(inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
        total = 0.0
        if input_scale:
            total += input_scale * math.prod(_shape(inputs[0]))
        if output_scale:
            total += output_scale * math.prod(_shape(outputs[0]))
        return total

    return count


def _mm(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    return Counter({"matmul": int(matmul_flop_jit(inputs, outputs))})


def _linear(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    return Counter({"linear": int(addmm_flop_jit(inputs, outputs))})


def _batch_norm(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    return Counter({"batch_norm": int(batchnorm_flop_jit(inputs, outputs))})


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
    query, key, value = (_shape(x) for x in inputs[:3])
    pairs = math.prod(query[:-1]) * key[-2]
    return Counter({"scaled_dot_product_attention": pairs * (query[-1] + value[-1])})


FLOP_HANDLES: dict[str, Handle] = {
    "aten::addmm": _linear,  # what torch.nn.Linear calls
    "aten::mm": _mm,
    "aten::bmm": bmm_flop_jit,
    "aten::baddbmm": lambda inputs, outputs: bmm_flop_jit(inputs[1:], outputs),
    "aten::linear": linear_flop_jit,
    "aten::einsum": einsum_flop_jit,
    "aten::matmul": matmul_flop_jit,
    "aten::convolution": conv_flop_jit,
    "aten::_convolution": conv_flop_jit,
    "aten::batch_norm": batchnorm_flop_jit,
    "aten::native_batch_norm": _batch_norm,
    "aten::_native_batch_norm_legit": _batch_norm,
    "aten::native_layer_norm": norm_flop_counter(2),
    "aten::native_group_norm": norm_flop_counter(1),
    "aten::upsample_nearest2d": elementwise_flop_counter(0, 1),
    "aten::upsample_bilinear2d": elementwise_flop_counter(0, 4),
    "aten::_adaptive_avg_pool2d": elementwise_flop_counter(1, 0),
    "aten::adaptive_avg_pool2d": elementwise_flop_counter(1, 0),
    "aten::grid_sampler_2d": elementwise_flop_counter(0, 4),
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_flash_attention": _attention,
    "aten::_scaled_dot_product_efficient_attention": _attention,
}
"""What is counted by ``FlopCountAnalysis``, by the operator's name."""

ACTIVATION_HANDLES: dict[str, Handle] = {
    "aten::convolution": generic_activation_jit("conv"),
    "aten::_convolution": generic_activation_jit("conv"),
    "aten::addmm": generic_activation_jit("linear"),
    "aten::mm": generic_activation_jit("matmul"),
    "aten::bmm": generic_activation_jit(),
    "aten::baddbmm": generic_activation_jit("bmm"),
    "aten::einsum": generic_activation_jit(),
    "aten::linear": generic_activation_jit(),
    "aten::matmul": generic_activation_jit(),
}
"""What is counted by ``ActivationCountAnalysis``."""
