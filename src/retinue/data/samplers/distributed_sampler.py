"""Streams of sample indices, split between processes.

Every process runs the same stream, made from a shared seed, and takes every ``world size``-th
index of it, starting at its rank. The streams don't look at data loading workers; those split
a stream by ``ToIterableDataset``.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from retinue.utils import comm
from retinue.utils.errors import InputError

__all__ = [
    "InferenceSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "TrainingSampler",
]

logger = logging.getLogger(__name__)


def _seed_for_all(seed: int | None) -> int:
    return comm.shared_random_seed() if seed is None else int(seed)


class TrainingSampler(Sampler[int]):
    """The indices 0 to ``size - 1``, shuffled, then shuffled anew, without end.

    Args:
        size: number of samples.
        shuffle: if False, the indices come in order, again and again.
        seed: the same in all processes; if None, they agree on a random one.

    Raises:
        TypeError: If ``size`` is no int.
        ValueError: If ``size`` is not positive.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        if not isinstance(size, int):
            raise TypeError(f"TrainingSampler: size must be an int; got {size!r}")
        if size <= 0:
            raise ValueError(f"TrainingSampler: needs at least one sample; got size={size}")
        self._size = size
        self._shuffle = shuffle
        self._seed = _seed_for_all(seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        yield from itertools.islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            if self._shuffle:
                yield from torch.randperm(self._size, generator=generator).tolist()
            else:
                yield from range(self._size)


class RandomSubsetTrainingSampler(TrainingSampler):
    """``TrainingSampler`` over a random part of the samples, to see what less data does.

    Args:
        size: number of samples.
        subset_ratio: the part of them to use, in (0, 1].
        shuffle: see ``TrainingSampler``.
        seed_shuffle: seed of the order.
        seed_subset: seed of the choice of the part.

    Raises:
        InputError: (an ``AssertionError``) If no sample would be left, or the ratio is above 1.
    """

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ) -> None:
        super().__init__(size=size, shuffle=shuffle, seed=seed_shuffle)
        self._size_subset = int(size * subset_ratio)
        if not 0.0 < subset_ratio <= 1.0 or self._size_subset == 0:
            raise InputError(
                "RandomSubsetTrainingSampler: subset_ratio must be in (0, 1] and leave a sample;"
                f" got {subset_ratio} of {size} samples"
            )
        self._seed_subset = _seed_for_all(seed_subset)
        generator = torch.Generator().manual_seed(self._seed_subset)
        self._indexes_subset = torch.randperm(size, generator=generator)[: self._size_subset]
        logger.info("Training on a random subset: %d of %d images", self._size_subset, size)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            if self._shuffle:
                order = torch.randperm(self._size_subset, generator=generator)
                yield from self._indexes_subset[order].tolist()
            else:
                yield from self._indexes_subset.tolist()


class RepeatFactorTrainingSampler(Sampler[int]):
    """An endless stream in which sample ``i`` comes ``repeat_factors[i]`` times a round.

    The fractional part of a factor is the chance of one more time. From Gupta et al., "LVIS"
    (2019), appendix B.2, https://arxiv.org/abs/1908.03195.

    Args:
        repeat_factors: ``(N,)`` float; all ones make it a ``TrainingSampler``.
        shuffle: if False, the indices of a round come in order.
        seed: the same in all processes; if None, they agree on a random one.
    """

    def __init__(
        self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None
    ) -> None:
        self._shuffle = shuffle
        self._seed = _seed_for_all(seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()
        self._int_part = torch.trunc(repeat_factors)
        self._frac_part = repeat_factors - self._int_part

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: Sequence[dict[str, Any]], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Compute factors that show images of rare classes more often.

        A class in a fraction f of all images has the factor ``max(1, sqrt(repeat_thresh / f))``;
        an image has the factor of its rarest class.

        Args:
            dataset_dicts: one dict an image.
            repeat_thresh: classes in a smaller fraction of the images are repeated.
            sqrt: whether to take the square root.

        Returns:
            ``(N,)`` float32.
        """
        classes = [{a["category_id"] for a in record["annotations"]} for record in dataset_dicts]
        num_images = Counter(c for present in classes for c in present)
        factors = {}
        for category, count in sorted(num_images.items()):
            frequency = count / len(classes)
            ratio = repeat_thresh / frequency
            factors[category] = max(1.0, ratio**0.5 if sqrt else ratio)
            logger.info(
                "Class %d: in %.2f of the images, repeated %.2f times",
                category,
                frequency,
                factors[category],
            )
        rarest = [max((factors[c] for c in present), default=1.0) for present in classes]
        return torch.tensor(rarest, dtype=torch.float32)

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        """Draw one round: the indices in order, each as often as it comes."""
        chance = torch.rand(len(self._frac_part), generator=generator)
        times = self._int_part + (chance < self._frac_part).float()
        return torch.repeat_interleave(torch.arange(len(times)), times.long())

    def __iter__(self) -> Iterator[int]:
        yield from itertools.islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            indices = self._get_epoch_indices(generator)
            if self._shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from indices.tolist()


class InferenceSampler(Sampler[int]):
    """Each index once; every process gets a run of neighbours, some one more than others.

    Args:
        size: number of samples.

    Raises:
        InputError: (an ``AssertionError``) If there is no sample.
    """

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise InputError(f"InferenceSampler: needs at least one sample; got size={size}")
        self._size = size
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()
        self._local_indices = self._get_local_indices(size, self._world_size, self._rank)

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        each, left = divmod(total_size, world_size)
        begin = rank * each + min(rank, left)
        return range(begin, begin + each + (rank < left))

    def __iter__(self) -> Iterator[int]:
        yield from self._local_indices

    def __len__(self) -> int:
        return len(self._local_indices)
