"""Weighted sums of table rows: the product of a sparse matrix with a table of features.

Shapes
    T rows of the table; C columns; B sums ("bags"); K entries of all bags.

A bag is a run of entries ``(row, weight)``; its sum is ``sum(weight * table[row])``. Pooling
operators are such products, and so are their gradients, with rows and bags in exchanged roles.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

__all__ = ["Bags", "expand_runs", "max_rows", "split_bags", "sum_few", "sum_rows", "transpose_bags"]

# Devices whose embedding_bag kernel takes weights, in every floating-point dtype.
_BAG_DEVICES = ("cpu", "cuda")


class Bags(NamedTuple):
    """A sparse matrix ``(B, T)``, its entries ordered by bag."""

    rows: torch.Tensor  # (K,) int32 or int64 in [0, T)
    weights: torch.Tensor  # (K,) floating point
    offsets: torch.Tensor  # (B + 1,) of the dtype of rows: where each bag begins, and K


def sum_rows(table: torch.Tensor, bags: Bags) -> torch.Tensor:
    """Sum weighted rows of a ``(T, C)`` table.

    Returns:
        ``(B, C)``; 0 for a bag without entries.
    """
    num_bags = bags.offsets.shape[0] - 1
    if bags.rows.shape[0] == 0:
        return table.new_zeros(num_bags, table.shape[1])
    weights = bags.weights.to(table.dtype)
    if table.device.type in _BAG_DEVICES:
        return F.embedding_bag(
            bags.rows,
            table,
            bags.offsets,
            mode="sum",
            per_sample_weights=weights,
            include_last_offset=True,
        )
    products = table.index_select(0, bags.rows) * weights[:, None]
    return table.new_zeros(num_bags, table.shape[1]).index_add_(
        0, _bag_of_entry(bags.rows, bags.offsets), products
    )


def transpose_bags(bags: Bags, num_rows: int, names: torch.Tensor) -> Bags:
    """Exchange the roles of rows and bags: ``sum_rows`` of the result is the gradient of the sums.

    Args:
        bags: B of them.
        num_rows: T.
        names: ``(B,)`` int64: the row that stands for each bag in the new table.

    Returns:
        T bags.
    """
    rows, order = bags.rows.sort(stable=True)
    row_ids = torch.arange(num_rows + 1, dtype=rows.dtype, device=rows.device)
    named = torch.repeat_interleave(names.to(rows.dtype), bags.offsets.diff())
    return Bags(
        rows=named.index_select(0, order),
        weights=bags.weights.index_select(0, order),
        offsets=torch.searchsorted(rows, row_ids, out_int32=rows.dtype == torch.int32),
    )


def split_bags(bags: Bags, counts: Sequence[int]) -> Iterator[Bags]:
    """Yield the first ``counts[0]`` bags, the next ``counts[1]``, and so on."""
    ends = torch.tensor(counts, device=bags.offsets.device).cumsum(0)
    begin = first = 0
    for count, end in zip(counts, bags.offsets[ends].tolist(), strict=True):
        offsets = bags.offsets[first : first + count + 1] - begin
        yield Bags(bags.rows[begin:end], bags.weights[begin:end], offsets)
        begin, first = end, first + count


def sum_few(table: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum the same few weighted rows of a ``(T, C)`` table for each bag.

    Args:
        table: ``(T, C)``.
        rows: ``(B, k)`` int64 in ``[0, T)``.
        weights: ``(B, k)``.

    Returns:
        ``(B, C)``; differentiable with respect to table and weights.
    """
    weights = weights.to(table.dtype)
    if table.device.type in _BAG_DEVICES and rows.shape[0] > 0:
        return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
    return (table[rows] * weights[..., None]).sum(dim=1)


def max_rows(
    table: torch.Tensor, rows: torch.Tensor, offsets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the largest value of each column among the rows of each bag.

    Args:
        table: ``(T, C)``.
        rows: ``(K,)`` int64 in ``[0, T)``, bag after bag.
        offsets: ``(B + 1,)`` int64: where each bag begins, and K.

    Returns:
        ``(B, C)`` values and the rows that hold them; 0 and -1 for a bag without entries.
    """
    num_bags = offsets.shape[0] - 1
    is_empty = (offsets.diff() == 0)[:, None]
    if rows.shape[0] == 0:
        shape = (num_bags, table.shape[1])
        return table.new_zeros(shape), rows.new_full(shape, -1)
    if table.device.type in _BAG_DEVICES:
        exact = table.to(torch.promote_types(table.dtype, torch.float32))
        values, _, _, best = torch.embedding_bag(
            exact, rows, offsets, mode=2, include_last_offset=True
        )
    else:
        entries = table[rows]
        index = _bag_of_entry(rows, offsets)[:, None].expand_as(entries)
        values = entries.new_full((num_bags, table.shape[1]), -torch.inf)
        values = values.scatter_reduce(0, index, entries, "amax")
        is_best = entries == values.gather(0, index)
        candidates = torch.where(is_best, rows[:, None], -1)
        best = rows.new_full(values.shape, -1).scatter_reduce(0, index, candidates, "amax")
    return (
        values.to(table.dtype).masked_fill(is_empty, 0),
        best.long().masked_fill(is_empty, -1),
    )


def _bag_of_entry(rows: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    return torch.repeat_interleave(offsets.diff(), output_size=rows.shape[0])


def expand_runs(
    starts: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """List the members of runs ``start, start + 1, ...``, one run after the other.

    Args:
        starts: ``(B,)`` integers.
        lengths: ``(B,)`` integers of the same dtype.

    Returns:
        ``(K,)`` members; ``(K,)`` the run each belongs to; ``(B + 1,)`` where each run begins,
        and K. All of the dtype of ``starts``.

    Example:
        >>> expand_runs(torch.tensor([5, 0]), torch.tensor([2, 3]))[0]
        tensor([5, 6, 0, 1, 2])
    """
    offsets = F.pad(lengths.cumsum(0, dtype=lengths.dtype), (1, 0))
    run = torch.repeat_interleave(lengths)
    position = torch.arange(run.shape[0], dtype=starts.dtype, device=starts.device)
    return position + (starts - offsets[:-1]).index_select(0, run), run, offsets
