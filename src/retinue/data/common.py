"""Datasets made from datasets: from a list, mapped, as a stream, in batches.

Randomness and position: ``ToIterableDataset`` numbers the samples of the whole stream. With a
seed, sample k is mapped under generators seeded by (seed, k), whatever process, worker or
earlier sample came before, so a stream entered at sample k goes on as if it had never stopped.
"""

from __future__ import annotations

import copy
import logging
import pickle
import random
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from retinue.utils import comm
from retinue.utils.errors import InputError
from retinue.utils.serialize import PicklableWrapper

__all__ = [
    "AspectRatioGroupedDataset",
    "DatasetFromList",
    "MapDataset",
    "ToIterableDataset",
    "aspect_ratio_group",
    "sample_randomness",
    "set_default_dataset_from_list_serialize_method",
]

logger = logging.getLogger(__name__)

_MAX_SUBSTITUTES = 100


class NoUsableSampleError(RuntimeError):
    """A dataset of which hardly a sample can be used."""


class MapDataset(Dataset[Any]):
    """A dataset whose samples go through a function; of a stream it makes a stream.

    The function may return None to drop a sample. A stream then goes on with the next one; a
    dataset with indices gives another sample in its place, always the same for the same index.

    Args:
        dataset: with indices, or an ``IterableDataset``.
        map_func: sample -> sample or None; spawned workers need it to be importable by name.

    Raises:
        NoUsableSampleError: (a ``RuntimeError``) When asked for one, if many are dropped in a row.
    """

    def __new__(cls, dataset: Any, map_func: Callable[[Any], Any]) -> Any:
        if isinstance(dataset, IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)

    def __getnewargs__(self) -> tuple[Any, Any]:
        return self._dataset, self._map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> Any:
        substitutes = random.Random(int(idx))
        current = int(idx)
        for attempt in range(_MAX_SUBSTITUTES):
            sample = self._map_func(self._dataset[current])
            if sample is not None:
                return sample
            logger.warning("Sample %d can't be used, attempt %d; trying another", current, attempt)
            current = substitutes.randrange(len(self))
        raise NoUsableSampleError(
            f"MapDataset: the mapper dropped sample {idx} and {_MAX_SUBSTITUTES - 1} others tried"
            " in its place; the messages before this one name images that can't be read, if that is"
            " why; else look at why the mapper returns None"
        )


class _MapIterableDataset(IterableDataset[Any]):
    """What ``MapDataset`` makes of a stream."""

    def __init__(self, dataset: IterableDataset[Any], map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return (x for x in map(self._map_func, self._dataset) if x is not None)


class _TorchSerializedList:
    """A read-only list, each element pickled into one shared block of bytes.

    Workers that are forked read the same pages, those that are spawned get the block by shared
    memory; either way nothing is copied per worker, and no reference counts touch the pages.
    """

    def __init__(self, lst: Iterable[Any]) -> None:
        lst = list(lst)
        logger.info(
            "Serializing %d elements to byte tensors and concatenating them all ...", len(lst)
        )
        blobs = [pickle.dumps(element, protocol=pickle.HIGHEST_PROTOCOL) for element in lst]
        self._ends = torch.tensor([len(blob) for blob in blobs], dtype=torch.int64).cumsum(0)
        joined = bytearray(b"".join(blobs))
        self._bytes = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.empty(0)
        logger.info("Serialized dataset takes %.2f MiB", len(joined) / 2**20)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, idx: int) -> Any:
        idx = range(len(self))[idx]  # an IndexError beyond the end, negative numbers from it
        begin = int(self._ends[idx - 1]) if idx else 0
        blob: Any = self._bytes[begin : int(self._ends[idx])].numpy()
        return pickle.loads(memoryview(blob))


_serialize_method: ContextVar[Callable[[list[Any]], Any]] = ContextVar(
    "serialize_method", default=_TorchSerializedList
)


@contextmanager
def set_default_dataset_from_list_serialize_method(
    new: Callable[[list[Any]], Any],
) -> Iterator[None]:
    """Within the context, ``DatasetFromList`` stores its list by ``new(list)``."""
    token = _serialize_method.set(new)
    try:
        yield
    finally:
        _serialize_method.reset(token)


class DatasetFromList(Dataset[Any]):
    """The elements of a list as a dataset.

    Args:
        lst: the elements.
        copy: give out copies, so that changing one doesn't change the list.
        serialize: store the elements as bytes that workers share (True), by a method of one's own
            (a function of the list), or as they are (False).

    Raises:
        TypeError: If ``serialize`` is neither a bool nor a function.
    """

    def __init__(
        self, lst: list[Any], copy: bool = True, serialize: bool | Callable[[list[Any]], Any] = True
    ) -> None:
        if not isinstance(serialize, bool) and not callable(serialize):
            raise TypeError(
                f"DatasetFromList: serialize must be a bool or a function; got {serialize!r}"
            )
        self._copy = copy
        self._serialize = serialize is not False
        method = _serialize_method.get() if serialize is True else serialize
        if callable(method):
            logger.info("Serializing the dataset using: %s", method)
            lst = method(lst)
        self._lst = lst

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: int) -> Any:
        element = self._lst[idx]
        return copy.deepcopy(element) if self._copy and not self._serialize else element


class ToIterableDataset(IterableDataset[Any]):
    """The samples of a dataset in the order of a sampler, split between the loader's workers.

    Args:
        dataset: with indices.
        sampler: gives the indices; runs anew in each worker, so it has to be cheap and, in all
            of them, the same.
        shard_sampler: split the indices between the workers; False if ``sampler`` does that.
        shard_chunk_size: how many neighbours a worker takes in turn.
        first: position in the stream of this process to start at.
        pending: earlier positions to give first.
        seed: make the randomness of a sample depend on this and its position; None leaves the
            global generators alone.

    Raises:
        InputError: (an ``AssertionError``) If ``dataset`` is a stream or ``sampler`` no sampler.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: Sampler[int],
        shard_sampler: bool = True,
        shard_chunk_size: int = 1,
        *,
        first: int = 0,
        pending: Collection[int] = (),
        seed: int | None = None,
    ) -> None:
        if isinstance(dataset, IterableDataset) or not isinstance(sampler, Sampler):
            raise InputError(
                "ToIterableDataset: needs a dataset with indices and a torch.utils.data.Sampler;"
                f" got {type(dataset).__name__} and {type(sampler).__name__}"
            )
        self.dataset = dataset
        self.sampler = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size
        self.first = first
        self.pending = frozenset(pending)
        self.seed = seed
        self._rank, self._world_size = comm.get_rank(), comm.get_world_size()

    def _positions(self) -> Iterator[tuple[int, int]]:
        """Give position and index of the samples that this worker reads."""
        wanted = (
            (position, index)
            for position, index in enumerate(self.sampler)
            if position >= self.first or position in self.pending
        )
        worker = get_worker_info()
        if worker is None or not self.shard_sampler:
            return wanted
        return (
            pair
            for turn, pair in enumerate(wanted)
            if turn // self.shard_chunk_size % worker.num_workers == worker.id
        )

    def __iter__(self) -> Iterator[Any]:
        for position, index in self._positions():
            if self.seed is None:
                sample = self.dataset[index]
            else:
                with sample_randomness(self.seed, position * self._world_size + self._rank):
                    sample = self.dataset[index]
            yield sample

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


@contextmanager
def sample_randomness(seed: int, position: int) -> Iterator[None]:
    """Seed the generators of numpy, Python and PyTorch (CPU) for one sample; restore them after."""
    before = (np.random.get_state(), random.getstate(), torch.get_rng_state())  # noqa: NPY002
    words = np.random.SeedSequence([seed, position]).generate_state(4)
    np.random.seed(words)  # noqa: NPY002 - augmentations draw from the global generator
    random.seed(words.tobytes())
    torch.default_generator.manual_seed(int(words[0]))
    try:
        yield
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])
        torch.set_rng_state(before[2])


def aspect_ratio_group(sample: dict[str, Any]) -> int:
    """Return 0 for samples wider than high, 1 for all others."""
    return 0 if sample["width"] > sample["height"] else 1


class AspectRatioGroupedDataset(IterableDataset[Any]):
    """Batches of samples that are all wider than high, or all not, so that they need less padding.

    Args:
        dataset: gives dicts with ``width`` and ``height``.
        batch_size: samples in a batch.
    """

    def __init__(self, dataset: Iterable[dict[str, Any]], batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self._buckets: tuple[list[Any], list[Any]] = ([], [])

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for sample in self.dataset:
            bucket = self._buckets[aspect_ratio_group(sample)]
            bucket.append(sample)
            if len(bucket) == self.batch_size:
                batch = bucket[:]
                bucket.clear()  # before the yield: what follows it may never run
                yield batch
