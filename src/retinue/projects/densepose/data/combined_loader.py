"""Draws the examples of a batch from several loaders."""

import random
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

__all__ = ["CombinedDataLoader", "Loader"]

Loader = Iterable[Any]


class CombinedDataLoader:
    """Endless batches of examples from loaders drawn by their shares; ends when one ends.

    For each example a loader is drawn, and asked for a batch if none is left of an earlier one,
    whichever loader gave that. So DensePose's models were trained.

    Args:
        loaders: each gives batches.
        batch_size: examples of a batch.
        ratios: share of each loader; they need not add up to 1.
    """

    BATCH_COUNT = 100  # batches that loaders are drawn for at once

    def __init__(
        self, loaders: Collection[Loader], batch_size: int, ratios: Sequence[float]
    ) -> None:
        self.loaders = loaders
        self.batch_size = batch_size
        self.ratios = ratios

    def __iter__(self) -> Iterator[list[Any]]:
        iterators = [iter(loader) for loader in self.loaders]
        numbers = range(len(iterators))
        left: deque[Any] = deque()
        while True:
            drawn = random.choices(numbers, self.ratios, k=self.batch_size * self.BATCH_COUNT)
            for start in range(0, len(drawn), self.batch_size):
                batch = []
                for i in drawn[start : start + self.batch_size]:
                    while not left:
                        more = next(iterators[i], None)
                        if more is None:
                            return
                        left.extend(more)
                    batch.append(left.popleft())
                yield batch
