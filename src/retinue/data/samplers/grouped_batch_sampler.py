"""Batches of indices whose samples belong together."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler, Sampler

from retinue.utils.errors import InputError

__all__ = ["GroupedBatchSampler"]


class GroupedBatchSampler(BatchSampler):
    """Collects indices of one group into batches, keeping the sampler's order where it can.

    Args:
        sampler: where the indices come from.
        group_ids: the group of each sample.
        batch_size: indices in a batch.

    Raises:
        ValueError: If ``sampler`` is no ``torch.utils.data.Sampler``.
        InputError: If ``group_ids`` is not one-dimensional.
    """

    def __init__(self, sampler: Sampler[int], group_ids: Sequence[int], batch_size: int) -> None:
        if not isinstance(sampler, Sampler):
            raise ValueError(f"GroupedBatchSampler: sampler must be a Sampler; got {sampler!r}")
        self.sampler = sampler
        self.group_ids = np.asarray(group_ids)
        if self.group_ids.ndim != 1:
            raise InputError(
                "GroupedBatchSampler: group_ids must be a list of one number a sample;"
                f" got an array of shape {self.group_ids.shape}"
            )
        self.batch_size = batch_size
        self.buffer_per_group: dict[int, list[int]] = defaultdict(list)

    def __iter__(self) -> Iterator[list[int]]:
        for index in self.sampler:
            buffer = self.buffer_per_group[int(self.group_ids[index])]
            buffer.append(index)
            if len(buffer) == self.batch_size:
                batch = buffer[:]
                buffer.clear()  # before the yield: what follows it may never run
                yield batch

    def __len__(self) -> int:
        raise NotImplementedError("GroupedBatchSampler: how many batches depends on the order")
