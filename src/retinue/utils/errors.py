"""Errors for wrong input, and the sentences they are made of.

Every message has the form *where: expected; got; what to do*. The classes are also of the class
that detectron2 raises in the same place, so that an ``except`` written for it still catches.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["InputError", "UnknownNameError", "close_names", "expect_shape", "unknown_name"]


class InputError(ValueError, AssertionError):
    """Wrong input where detectron2 asserts; caught by either class."""


class UnknownNameError(KeyError, ValueError):
    """A name that is not in a table (registry, preset, dataset, config key)."""

    def __str__(self) -> str:  # KeyError would print the repr of its argument
        return str(self.args[0]) if self.args else ""


def close_names(name: str, known: Iterable[str], *, num: int = 3) -> list[str]:
    """Return the names among ``known`` that ``name`` may be a misspelling of, best first.

    >>> close_names("retinanet_R50", ["retinanet_R_50", "rpn_R_50"])
    ['retinanet_R_50']
    """
    by_folded = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=num, cutoff=0.75)
    return [by_folded[c] for c in close]


def unknown_name(
    kind: str, name: str, known: Iterable[str], hint: str = "", *, max_listed: int = 40
) -> UnknownNameError:
    """Build the error for ``name`` not being one of ``known``; the caller raises it.

    >>> print(unknown_name("preset", "retinanet_R50", ["retinanet_R_50", "rpn_R_50"]))
    unknown preset 'retinanet_R50'; did you mean 'retinanet_R_50'?
    """
    known = sorted(set(known))
    close = close_names(name, known)
    parts = [f"unknown {kind} {name!r}"]
    if close:
        parts.append("did you mean " + " or ".join(map(repr, close)) + "?")
    elif known and max_listed:
        more = f", and {len(known) - max_listed} more" if len(known) > max_listed else ""
        parts.append("known names: " + ", ".join(known[:max_listed]) + more)
    if hint:
        parts.append(hint)
    return UnknownNameError("; ".join(parts))


def expect_shape(what: str, tensor: torch.Tensor, shape: Sequence[int | str]) -> None:
    """Check a tensor's shape at a public boundary; a string in ``shape`` stands for any size.

    Raises:
        InputError: If the number of dimensions or a fixed size differs.

    Example:
        >>> import torch
        >>> expect_shape("boxes", torch.zeros(3, 4), ("R", 4))
    """
    fits = tensor.dim() == len(shape) and all(
        isinstance(want, str) or want == got for want, got in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        want = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
        raise InputError(f"{what} must have shape {want}; got {tuple(tensor.shape)}")
