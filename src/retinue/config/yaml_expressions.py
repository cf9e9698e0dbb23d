"""Arithmetic in configs, such as ``!!python/object/apply:eval ["[32 * x for x in range(5, 21)]"]``.

Configs of many projects write their training sizes that way. The expression is worked out here,
from its syntax tree: numbers, strings, sequences, arithmetic, comprehensions, and the functions in
``_FUNCTIONS``. There is nothing else to reach, so that reading a config still runs no code of it.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Evaluator", "ExpressionError", "evaluate"]

_MAX_STEPS = 100_000  # and items of sequences, each time one is made
_MAX_LENGTH = 10_000  # of sequences, and bits of whole numbers

_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    f.__name__: f for f in (abs, float, int, len, list, max, min, range, round, sorted, sum, tuple)
}
_BINARY: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: Mapping[type, Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}


class ExpressionError(ValueError):
    """More than arithmetic on numbers and sequences, or too much of it."""


class Evaluator:
    """Works out expressions, which share a limit on the steps and memory that they take."""

    def __init__(self) -> None:
        self._num_steps = 0

    def evaluate(self, text: str) -> Any:
        """Work out an expression of numbers and sequences.

        Raises:
            ExpressionError: (a ``ValueError``) If it is anything else, or takes too many steps.
        """
        try:
            return self._value(ast.parse(text.strip(), mode="eval").body, {})
        except ExpressionError:
            raise
        except (
            ArithmeticError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError,
        ) as error:  # fmt: skip
            raise ExpressionError(f"{text[:100]!r}: {error}") from error

    def _value(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        value = _bounded(self._unbounded_value(node, names))
        self._num_steps += 1 + (len(value) if hasattr(value, "__len__") else 0)
        if self._num_steps > _MAX_STEPS:
            raise ExpressionError(f"more than {_MAX_STEPS:,} steps and items")
        return value

    def _unbounded_value(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=int() | float() | str() | None):
                return node.value
            case ast.Name() if node.id in names:
                return names[node.id]
            case ast.List():
                return [self._value(e, names) for e in node.elts]
            case ast.Tuple():
                return tuple(self._value(e, names) for e in node.elts)
            case ast.UnaryOp() if type(node.op) in _UNARY:
                return _UNARY[type(node.op)](_number(self._value(node.operand, names)))
            case ast.BinOp() if type(node.op) in _BINARY:
                return self._binary(node, names)
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
                return _FUNCTIONS[name](*(self._value(a, names) for a in node.args))
            case ast.ListComp(generators=[part]) | ast.GeneratorExp(generators=[part]):
                return self._each(node.elt, part, names)
        raise ExpressionError(f"{ast.unparse(node)!r} is more than arithmetic")

    def _binary(self, node: ast.BinOp, names: Mapping[str, Any]) -> Any:
        left, right = self._value(node.left, names), self._value(node.right, names)
        if isinstance(node.op, ast.Mult):
            for sequence, number in ((left, right), (right, left)):
                if not isinstance(sequence, int | float) and len(sequence) * number > _MAX_LENGTH:
                    raise ExpressionError(f"a sequence of more than {_MAX_LENGTH:,} items")
        elif isinstance(left, str):
            raise ExpressionError("arithmetic with text")
        elif isinstance(node.op, ast.Pow):
            _check_power(_number(left), _number(right))
        return _BINARY[type(node.op)](left, right)

    def _each(self, item: ast.expr, part: ast.comprehension, names: Mapping[str, Any]) -> list[Any]:
        if part.ifs or part.is_async or not isinstance(part.target, ast.Name):
            raise ExpressionError("only `... for name in sequence` is understood")
        target = part.target.id
        values = self._value(part.iter, names)
        return [self._value(item, {**names, target: value}) for value in values]


def _number(value: Any) -> int | float:
    if not isinstance(value, int | float):
        raise ExpressionError(f"expected a number; got {value!r}")
    return value


def _check_power(base: int | float, exponent: int | float) -> None:
    """Raise, before it is worked out, where a power would be large or no real number."""
    if isinstance(base, int) and isinstance(exponent, int):
        if base.bit_length() * exponent > _MAX_LENGTH:
            raise ExpressionError(f"a power of more than {_MAX_LENGTH:,} bits")
    elif base < 0:
        raise ExpressionError(f"a broken power of {base!r}, which is below zero")


def _bounded(value: Any) -> Any:
    if isinstance(value, int):
        is_large = value.bit_length() > _MAX_LENGTH
    else:
        is_large = hasattr(value, "__len__") and len(value) > _MAX_LENGTH
    if is_large:
        raise ExpressionError(f"a value of more than {_MAX_LENGTH:,} items or bits")
    return value


def evaluate(text: str) -> Any:
    """Work out one expression, see ``Evaluator.evaluate``.

    Example:
        >>> evaluate("[int(x * 0.1 * 640) for x in range(5, 8)]")
        [320, 384, 448]
    """
    return Evaluator().evaluate(text)
