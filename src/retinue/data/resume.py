"""Where a stream of samples goes on after so many batches, without reading any image."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["StreamStart", "default_first_sample", "stream_start", "streams_enter_at"]

_first_sample: ContextVar[int] = ContextVar("first_sample", default=0)


@contextmanager
def streams_enter_at(first_sample: int) -> Iterator[None]:
    """Within the context, training loaders go on behind so many samples unless told otherwise.

    A trainer resumes by this, whose loaders are built by methods that users override.
    """
    token = _first_sample.set(first_sample)
    try:
        yield
    finally:
        _first_sample.reset(token)


def default_first_sample() -> int:
    """Return where ``streams_enter_at`` says that loaders start; 0 outside of it."""
    return _first_sample.get()


@dataclass(frozen=True)
class StreamStart:
    """The samples that a stream entered in its middle gives, in order.

    Attributes:
        pending: positions of samples that were read, but whose batch wasn't full yet.
        first: position of the first sample that wasn't read.
    """

    first: int = 0
    pending: frozenset[int] = frozenset()


def stream_start(
    indices: Iterable[int],
    batch_size: int,
    num_batches: int,
    group_of: Callable[[int], int] | None = None,
) -> StreamStart:
    """Follow a stream until it has filled so many batches.

    Args:
        indices: the stream of this process from its beginning.
        batch_size: samples of this process in a batch.
        num_batches: how many batches were given out.
        group_of: index -> group, if a batch holds samples of one group only.

    Example:
        Samples 0 and 2 make a batch of wide images; 1, which is high, waits for another.

        >>> stream_start(range(9), batch_size=2, num_batches=1, group_of=[0, 1, 0, 0].__getitem__)
        StreamStart(first=3, pending=frozenset({1}))
    """
    if group_of is None or num_batches == 0:
        return StreamStart(first=num_batches * batch_size)
    buckets: dict[int, list[int]] = defaultdict(list)
    for position, index in enumerate(indices):
        bucket = buckets[group_of(index)]
        bucket.append(position)
        if len(bucket) == batch_size:
            bucket.clear()
            num_batches -= 1
        if num_batches == 0:
            break
    pending = frozenset(itertools.chain.from_iterable(buckets.values()))
    return StreamStart(first=position + 1, pending=pending)
