"""The assignment problem: pair rows with columns at the least total cost."""

from __future__ import annotations

import numpy as np

__all__ = ["linear_sum_assignment"]


def linear_sum_assignment(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair rows with columns, each at most once and as many as possible, at the least total cost.

    Rows are added one at a time along the shortest augmenting path, over all columns at once:
    Jonker and Volgenant (1987), https://doi.org/10.1007/BF02278710.

    Args:
        cost: ``(N, M)`` finite numbers.

    Returns:
        row and column indices of the ``min(N, M)`` pairs, in the order of the rows.

    Example:
        >>> rows, columns = linear_sum_assignment(np.array([[1.0, 2.0], [1.0, 5.0]]))
        >>> columns.tolist()
        [1, 0]
    """
    cost = np.asarray(cost, dtype=np.float64)
    num_rows, num_columns = cost.shape
    if num_rows > num_columns:
        columns, rows = linear_sum_assignment(cost.T)
        order = np.argsort(rows)
        return rows[order], columns[order]

    row_price = np.zeros(num_rows)
    column_price = np.zeros(num_columns)
    row_of = np.full(num_columns, -1)
    for start in range(num_rows):
        distance = np.full(num_columns, np.inf)
        came_from = np.full(num_columns, -1)  # the column before on the path; -1 is the start
        is_done = np.zeros(num_columns, dtype=bool)
        row, column, length = start, -1, 0.0
        while True:
            through = length + cost[row] - row_price[row] - column_price
            is_shorter = (through < distance) & ~is_done
            distance[is_shorter] = through[is_shorter]
            came_from[is_shorter] = column
            column = int(np.where(is_done, np.inf, distance).argmin())
            length = distance[column]
            is_done[column] = True
            if row_of[column] < 0:
                break
            row = row_of[column]

        row_price[start] += length
        is_done[column] = False  # the free column at the end keeps its price
        row_price[row_of[is_done]] += length - distance[is_done]
        column_price[is_done] -= length - distance[is_done]
        while column >= 0:
            before = came_from[column]
            row_of[column] = row_of[before] if before >= 0 else start
            column = before

    columns = np.flatnonzero(row_of >= 0)
    order = np.argsort(row_of[columns])
    return row_of[columns][order], columns[order]
