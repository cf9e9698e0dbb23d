"""Greedy selection: take things in order, drop those that conflict with one taken before.

Shapes
    N boxes, best first; D numbers that describe one of them.

Work is cut at *heads*: the best boxes that are left. A head is settled, its kept boxes strike out
boxes of the rest, and the next head is taken. So memory is bounded, and where most boxes are struck
out, most pairs are never looked at.

CPUs settle small heads one box after the other, with a set of conflicts a box in the bits of an
integer. Other devices settle large ones all at once: the kept boxes are the fixpoint of
``keep = not any(kept conflict before)``, found in as many rounds as the longest chain of conflicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

__all__ = ["Conflict", "select"]

# Says which boxes conflict: descriptions (D, n) and (D, m) to (n, m) bool.
Conflict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Boxes in a head, and pairs compared at a time when striking out. On CPUs they fit the cache, and
# stay below the 2**15 elements from which PyTorch splits an operation among threads: these would
# wait for each other longer than they work.
_CPU_HEAD, _HEAD = 180, 4096
_CPU_PAIRS, _PAIRS = 32_000, 1 << 25
# Groups of a few boxes are taken together until they have this many.
_CPU_BATCH = 128


def select(numbers: torch.Tensor, group: torch.Tensor | None, conflict: Conflict) -> torch.Tensor:
    """Keep each box that conflicts with no kept box before it.

    Args:
        numbers: ``(D, N)`` descriptions, best first.
        group: ``(N,)``; boxes of different groups never conflict.
        conflict: symmetric.

    Returns:
        Indices of kept boxes, ascending.
    """
    if numbers.device.type != "cpu":
        return _select(numbers, group, conflict, _HEAD, _PAIRS, _settle_at_once)
    if group is None:
        return _select(numbers, None, conflict, _CPU_HEAD, _CPU_PAIRS, _settle_in_order)
    kept = [
        batch[_select(numbers[:, batch], groups, conflict, _CPU_HEAD, _CPU_PAIRS, _settle_in_order)]
        for batch, groups in _batches(group)
    ]
    return torch.cat(kept).sort().values if kept else group.new_empty(0, dtype=torch.int64)


def _batches(group: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Yield boxes of whole groups, in order within each, and their groups if these are several."""
    num_boxes = group.shape[0]
    order = group.argsort(stable=True)
    in_order = group[order]
    values = in_order.numpy()
    ends = np.flatnonzero(values[1:] != values[:-1]) + 1
    begin = 0
    for end in [*ends.tolist(), num_boxes]:
        if end - begin >= _CPU_BATCH or end == num_boxes > begin:
            is_several = values[begin] != values[end - 1]
            yield order[begin:end], in_order[begin:end] if is_several else None
            begin = end


def _select(
    numbers: torch.Tensor,
    group: torch.Tensor | None,
    conflict: Conflict,
    head_size: int,
    max_pairs: int,
    settle: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Do what ``select`` does, head by head; ``settle`` keeps boxes given their conflicts."""

    def conflicts(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        matrix = conflict(numbers.index_select(1, rows), numbers.index_select(1, columns))
        if group is None:
            return matrix
        of_rows, of_columns = group.index_select(0, rows), group.index_select(0, columns)
        if matrix.device.type == "cpu":
            matrix.numpy()[...] &= of_rows.numpy()[:, None] == of_columns.numpy()
            return matrix
        return matrix & (of_rows[:, None] == of_columns)

    left = torch.arange(numbers.shape[1], device=numbers.device)
    kept = []
    while left.shape[0] > 0:
        head, left = left[:head_size], left[head_size:]
        head = head[settle(conflicts(head, head))]
        kept.append(head)
        if left.shape[0] > 0:
            parts = left.split(max(1, max_pairs // head.shape[0]))
            left = left[torch.cat([~_any_row(conflicts(head, part)) for part in parts])]
    return torch.cat(kept) if kept else left


def _any_row(matrix: torch.Tensor) -> torch.Tensor:
    if matrix.device.type == "cpu":  # where numpy is eight times as fast
        return torch.from_numpy(matrix.numpy().any(axis=0))
    return matrix.any(dim=0)


def _settle_in_order(matrix: torch.Tensor) -> torch.Tensor:
    """Return ``(n,)`` bool: which boxes are kept, given all their conflicts ``(n, n)``."""
    conflicts = matrix.numpy()
    np.fill_diagonal(conflicts, False)
    rivals = np.flatnonzero(conflicts.any(axis=1))  # the others are kept and strike out nothing
    rows = np.packbits(conflicts[rivals], axis=1, bitorder="little")
    data, width = rows.tobytes(), rows.shape[1]
    struck = 0
    for k, i in enumerate(rivals.tolist()):
        if not struck >> i & 1:
            row = int.from_bytes(data[k * width : (k + 1) * width], "little")
            struck |= row >> i << i  # those before i are settled
    bits = np.frombuffer(struck.to_bytes(width, "little"), dtype=np.uint8)
    is_struck = np.unpackbits(bits, count=len(conflicts), bitorder="little")
    return torch.from_numpy(is_struck == 0)


def _settle_at_once(matrix: torch.Tensor) -> torch.Tensor:
    """Return ``(n,)`` bool: which boxes are kept, given all their conflicts ``(n, n)``."""
    before, after = matrix.triu(diagonal=1).nonzero(as_tuple=True)
    keep = torch.ones(matrix.shape[0], dtype=torch.bool, device=matrix.device)
    while True:
        settled = torch.ones_like(keep).index_fill_(0, after[keep[before]], False)
        if torch.equal(settled, keep):
            return keep
        keep = settled
