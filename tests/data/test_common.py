# ruff: noqa: NPY002
import contextlib
import pickle
import random
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from retinue.data import DatasetFromList, MapDataset, ToIterableDataset
from retinue.data.common import (
    AspectRatioGroupedDataset,
    sample_randomness,
    set_default_dataset_from_list_serialize_method,
)
from retinue.data.samplers import InferenceSampler, TrainingSampler


class Numbers(IterableDataset):
    def __len__(self):
        return 4

    def __iter__(self):
        return iter(range(4))


def double_but_two(x):
    return None if x == 2 else 2 * x


def test_mapping():
    dataset = MapDataset(DatasetFromList([1, 2, 3]), double_but_two)
    assert len(dataset) == 3
    assert dataset[0] == 2
    assert dataset[1] in (2, 6)  # another one in its place
    assert [dataset[1] for _ in range(9)] == [dataset[1]] * 9
    assert pickle.loads(pickle.dumps(dataset))[2] == 6


def test_mapping_a_stream():
    mapped = MapDataset(Numbers(), double_but_two)
    assert isinstance(mapped, IterableDataset)
    assert list(mapped) == [0, 2, 6]
    assert len(mapped) == 4


def test_a_mapper_that_drops_everything():
    with pytest.raises(RuntimeError, match="dropped sample 1 and 99 others"):
        MapDataset(DatasetFromList([2, 2]), double_but_two)[1]


@pytest.mark.parametrize("serialize", [True, False])
def test_a_list(serialize):
    elements = [{"a": [1]}, {"a": [2]}, {"a": np.arange(3)}]
    dataset = DatasetFromList(elements, serialize=serialize)
    dataset[0]["a"].append(5)
    assert dataset[0] == {"a": [1]}
    assert len(dataset) == 3
    assert dataset[-1]["a"].tolist() == [0, 1, 2]
    with pytest.raises(IndexError):
        dataset[3]
    assert [d["a"][0] for d in dataset] == [1, 2, 0]


def test_a_list_as_it_is():
    elements = [[1], [2]]
    assert DatasetFromList(elements, copy=False, serialize=False)[0] is elements[0]
    assert len(DatasetFromList([])) == 0


def test_own_storage():
    assert DatasetFromList([1, 2], serialize=lambda lst: [x + 1 for x in lst])[0] == 2
    with set_default_dataset_from_list_serialize_method(tuple):
        assert DatasetFromList([1, 2])._lst == (1, 2)
    assert DatasetFromList([1, 2])[1] == 2
    with pytest.raises(TypeError, match="a bool or a function; got 'yes'"):
        DatasetFromList([1], serialize="yes")


def test_workers_share_one_block():
    dataset = DatasetFromList([list(range(50))] * 10)
    assert dataset._lst._bytes.dtype == torch.uint8
    loader = DataLoader(dataset, num_workers=1, collate_fn=list, multiprocessing_context="fork")
    assert len(list(loader)) == 10


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("chunk", [1, 2])
def test_workers_split_a_stream(workers, chunk):
    stream = ToIterableDataset(
        DatasetFromList(list(range(8))), InferenceSampler(8), shard_chunk_size=chunk
    )
    batches = DataLoader(stream, batch_size=chunk, num_workers=workers, collate_fn=list)
    assert [sample for batch in batches for sample in batch] == list(range(8))


def test_a_stream():
    dataset = DatasetFromList([5, 6, 7])
    stream = ToIterableDataset(dataset, InferenceSampler(3))
    assert list(stream) == [5, 6, 7]
    assert len(stream) == 3
    whole = ToIterableDataset(dataset, InferenceSampler(3), shard_sampler=False)
    assert list(whole) == [5, 6, 7]
    assert list(ToIterableDataset(dataset, InferenceSampler(3), first=2, pending=[0])) == [5, 7]
    for wrong in ((Numbers(), InferenceSampler(3)), (dataset, [0, 1])):
        with pytest.raises(AssertionError, match="needs a dataset with indices and a torch"):
            ToIterableDataset(*wrong)


def test_randomness_depends_on_seed_and_position_only():
    def draw(seed, position):
        with sample_randomness(seed, position):
            return np.random.rand(), random.random(), torch.rand(1).item()

    first = draw(1, 2)
    np.random.rand()
    assert draw(1, 2) == first
    assert len({*draw(1, 3), *draw(2, 2), *first}) == 9


def test_randomness_outside_is_untouched():
    states = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
    with contextlib.suppress(KeyError), sample_randomness(1, 2):
        np.random.rand()
        random.random()
        torch.rand(1)
        raise KeyError
    after = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
    assert states == after


def test_a_sample_gets_its_own_randomness():
    dataset = MapDataset(DatasetFromList([0] * 5), lambda x: np.random.rand())
    sampler = TrainingSampler(5, seed=0)
    seeded = list(islice(ToIterableDataset(dataset, sampler, seed=3), 7))
    assert len(set(seeded)) == 7
    assert list(islice(ToIterableDataset(dataset, sampler, seed=3, first=4), 3)) == seeded[4:]


def test_batches_by_shape():
    sizes = [(2, 1), (1, 2), (2, 1), (1, 1), (3, 1)]
    samples = [{"width": w, "height": h, "i": i} for i, (w, h) in enumerate(sizes)]
    batches = AspectRatioGroupedDataset(samples, 2)
    assert [[s["i"] for s in batch] for batch in batches] == [[0, 2], [1, 3]]
    assert [[s["i"] for s in batch] for batch in batches] == [[4, 0], [1, 3], [2, 4]]  # goes on
