"""Outputs of heads, moved from a checkpoint's classes to a model's by the classes' names.

How the rows of an output belong to classes follows from its size: ``per`` rows for each class, and
one more for the background in a softmax. Rows of one class lie together, but in a dense head's
class scores those of one anchor do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

__all__ = ["Layout", "find_layout", "map_rows"]


class Layout(NamedTuple):
    """How rows belong to classes.

    Attributes:
        per: rows for each class.
        num_background: rows of the background, behind all others.
        is_anchor_major: whether rows of one anchor lie together.
    """

    per: int
    num_background: int
    is_anchor_major: bool


def find_layout(name: str, rows: tuple[int, int], num_classes: tuple[int, int]) -> Layout | None:
    """Find how an output's rows belong to classes; None if it has nothing to do with them.

    Args:
        name: of the parameter.
        rows: how many rows the checkpoint and the model have.
        num_classes: how many classes they have.

    Example:
        >>> find_layout("box_predictor.cls_score.weight", (81, 4), (80, 3))
        Layout(per=1, num_background=1, is_anchor_major=False)
    """
    for num_background in (0, 1):
        pers = [(r - num_background) / n for r, n in zip(rows, num_classes, strict=True) if n]
        if len(pers) == 2 and pers[0] == pers[1] >= 1 and pers[0].is_integer():
            per = int(pers[0])
            if num_background and per > 1:
                continue
            return Layout(per, num_background, per > 1 and "bbox" not in name)
    return None


def map_rows(
    saved: torch.Tensor,
    own: torch.Tensor,
    layout: Layout,
    saved_classes: Sequence[str],
    own_classes: Sequence[str],
) -> torch.Tensor:
    """Return ``own`` with the rows of those classes replaced that ``saved`` has, too.

    Args:
        saved: rows of ``saved_classes``, of the checkpoint.
        own: rows of ``own_classes``, as initialised.
        layout: of both.
        saved_classes, own_classes: names.
    """
    position = {name: row for row, name in enumerate(saved_classes)}
    pairs = [(new, position[name]) for new, name in enumerate(own_classes) if name in position]
    result = own.detach().clone()
    views = [
        _by_class(tensor, layout, len(names))
        for tensor, names in ((result, own_classes), (saved.to(own), saved_classes))
    ]
    if pairs:
        new, old = torch.tensor(pairs).unbind(1)
        views[0][new] = views[1][old]
    if layout.num_background:
        result[-1] = saved[-1].to(own)
    return result


def _by_class(tensor: torch.Tensor, layout: Layout, num_classes: int) -> torch.Tensor:
    """View the rows as (class, row of the class, ...)."""
    rows = tensor[: num_classes * layout.per]
    if layout.is_anchor_major:
        return rows.unflatten(0, (layout.per, num_classes)).transpose(0, 1)
    return rows.unflatten(0, (num_classes, layout.per))
