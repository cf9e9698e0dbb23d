"""What a detector costs: multiply-adds, activations and parameters, by operator and module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from retinue.export import operator_analysis
from retinue.export.flatten import TracingAdapter
from retinue.export.model_tables import parameter_count, parameter_count_table
from retinue.export.operator_analysis import activation_count, flop_count
from retinue.export.operator_counts import Handle
from retinue.utils.errors import InputError

__all__ = [
    "FlopCountAnalysis",
    "activation_count_operators",
    "find_unused_parameters",
    "flop_count_operators",
    "parameter_count",
    "parameter_count_table",
]

FLOPS_MODE = "flops"
ACTIVATIONS_MODE = "activations"


class FlopCountAnalysis(operator_analysis.FlopCountAnalysis):
    """``FlopCountAnalysis`` of a model with any inputs, such as a detector's ``list[dict]``.

    Names of modules begin with ``model``. Cheap operators that are not counted are not logged;
    ``unsupported_ops()`` lists them.

    Args:
        model: a detector, in ``eval()``.
        inputs: its argument, or a tuple of them.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        wrapper = TracingAdapter(model, inputs, allow_non_tensor=True)
        super().__init__(wrapper, wrapper.flattened_inputs)
        self.unsupported_ops_warnings(False).uncalled_modules_warnings(False)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def flop_count_operators(model: nn.Module, inputs: list[dict[str, Any]]) -> dict[str, float]:
    """Return billions of multiply-adds by operator of a detector on given images.

    The count depends on the images: each detected object is pooled and classified.

    Args:
        model: takes ``list[dict]``.
        inputs: in the standard format.
    """
    with _evaluating(model):
        counts = FlopCountAnalysis(model, inputs).by_operator()
    return {name: count / 1e9 for name, count in counts.items()}


def activation_count_operators(
    model: nn.Module, inputs: list[dict[str, Any]], **kwargs: Any
) -> defaultdict[str, float]:
    """Return millions of elements of the outputs of operators, on one image.

    Args:
        model: takes ``list[dict]``.
        inputs: one image in the standard format; only ``image`` is used.
        **kwargs: ``supported_ops``, handles by operator.

    Raises:
        InputError: If there is more than one image.
    """
    return _wrapper_count_operators(model, inputs, ACTIVATIONS_MODE, **kwargs)


def _wrapper_count_operators(
    model: nn.Module,
    inputs: Sequence[Mapping[str, Any]],
    mode: str,
    supported_ops: Mapping[str, Handle] | None = None,
) -> defaultdict[str, float]:
    if len(inputs) != 1:
        raise InputError(f"counting operators: expected one image; got {len(inputs)}")
    count = {FLOPS_MODE: flop_count, ACTIVATIONS_MODE: activation_count}[mode]
    wrapper = TracingAdapter(model, [{"image": inputs[0]["image"]}], allow_non_tensor=True)
    with _evaluating(model):
        counts, _ = count(wrapper, wrapper.flattened_inputs, supported_ops)
    return counts


def find_unused_parameters(model: nn.Module, inputs: Any) -> list[str]:
    """List the parameters that the losses do not depend on.

    Args:
        model: in training mode; returns a loss or a dict of losses.
        inputs: its argument, or a tuple of them.

    Raises:
        InputError: If the model is not in training mode.
    """
    if not model.training:
        raise InputError("find_unused_parameters: expected a model in train(); it is in eval()")
    model.zero_grad(set_to_none=True)
    losses = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    total = torch.stack(list(losses.values())).sum() if isinstance(losses, dict) else losses
    total.backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    model.zero_grad(set_to_none=True)
    return unused
