"""Draws the examples of a batch from several loaders."""

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

__all__ = ["CombinedDataLoader", "Loader"]

Loader = Iterable[Any]


class CombinedDataLoader:
    """Endless batches, each example from a loader drawn by its share; ends when one ends.

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
        examples = [_flatten(loader) for loader in self.loaders]
        numbers = range(len(examples))
        while True:
            drawn = random.choices(numbers, self.ratios, k=self.batch_size * self.BATCH_COUNT)
            for start in range(0, len(drawn), self.batch_size):
                batch = [next(examples[i], None) for i in drawn[start : start + self.batch_size]]
                if any(example is None for example in batch):
                    return
                yield batch


def _flatten(loader: Loader) -> Iterator[Any]:
    for batch in loader:
        yield from batch
