"""Tables of a model's parameters and costs, module by module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from retinue.export.operator_analysis import ActivationCountAnalysis, FlopCountAnalysis
from retinue.utils.tables import format_table

__all__ = ["flop_count_str", "flop_count_table", "parameter_count", "parameter_count_table"]


def parameter_count(model: nn.Module) -> defaultdict[str, int]:
    """Count the elements of each parameter and of all parameters of each module.

    Returns:
        name of a parameter or module -> count; ``""`` for all.

    Example:
        >>> count = parameter_count(nn.Sequential(nn.Linear(2, 3)))
        >>> count[""], count["0"], count["0.bias"]
        (9, 9, 3)
    """
    counts: defaultdict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        for depth in range(len(parts) + 1):
            counts[".".join(parts[:depth])] += parameter.numel()
    return counts


def _short(count: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= 0.1 * unit:
            return f"{count / unit:.1f}{letter}"
    return f"{count:g}"


def _outline(names: Iterable[str], max_depth: int) -> list[str]:
    """Order names so that each is followed by those within it, down to a depth."""
    children: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if name and name.count(".") < max_depth:
            children[name.rpartition(".")[0]].append(name)

    def below(name: str) -> list[str]:
        return [entry for child in children[name] for entry in (child, *below(child))]

    return below("")


def _indented(name: str, text: str) -> str:
    return " " * (name.count(".") + 1 if name else 0) + text


def parameter_count_table(model: nn.Module, max_depth: int = 3) -> str:
    """Lay out the number of parameters of each module, and the shapes of the parameters.

    Args:
        max_depth: how many dots deep names are listed.
    """
    counts = parameter_count(model)
    shapes = {name: str(tuple(p.shape)) for name, p in model.named_parameters()}
    rows = [["model", _short(counts[""])]]
    for name in _outline(counts, max_depth):
        value = shapes.get(name) or _short(counts[name])
        rows.append([_indented(name, name), _indented(name, value)])
    return format_table(rows, ["name", "#elements or shape"])


def flop_count_table(
    flops: FlopCountAnalysis,
    max_depth: int = 3,
    activations: ActivationCountAnalysis | None = None,
    show_param_shapes: bool = True,
) -> str:
    """Lay out parameters, multiply-adds and, if given, activations of each module.

    Args:
        flops, activations: analyses of the same model.
        max_depth: how many dots deep names are listed.
        show_param_shapes: list parameters, too, with their shapes.
    """
    model = flops._model
    counts = parameter_count(model)
    shapes = {name: str(tuple(p.shape)) for name, p in model.named_parameters()}
    columns: list[Mapping[str, int]] = [flops.by_module()]
    headers = ["module", "#parameters or shape", "#flops"]
    if activations is not None:
        columns.append(activations.by_module())
        headers.append("#activations")
    names = [name for name, _ in model.named_modules()]
    if show_param_shapes:
        names += shapes
    rows = []
    for name in ["", *_outline(names, max_depth)]:
        cells = [_short(column[name]) if column.get(name) else "" for column in columns]
        size = shapes.get(name) or _short(counts[name])
        row = [name or "model", size, *cells]
        rows.append([_indented(name, cell) for cell in row])
    return format_table(rows, headers)


def flop_count_str(
    flops: FlopCountAnalysis, activations: ActivationCountAnalysis | None = None
) -> str:
    """Return the model's ``repr`` with the counts of each module in it."""
    model = flops._model
    columns: dict[str, Mapping[str, Any]] = {
        "#params": parameter_count(model),
        "#flops": flops.by_module(),
    }
    if activations is not None:
        columns["#acts"] = activations.by_module()

    def describe(module: nn.Module, name: str) -> str:
        numbers = (f"{k}: {_short(c[name])}" for k, c in columns.items() if c.get(name))
        lines = [text for text in (module.extra_repr(), ", ".join(numbers)) if text]
        for child_name, child in module.named_children():
            inner = describe(child, f"{name}.{child_name}".lstrip("."))
            lines.append(f"({child_name}): {inner}")
        if not lines:
            return f"{type(module).__name__}()"
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{type(module).__name__}(\n  {body}\n)"

    return describe(model, "")
