from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retinue.data.samplers import (
    GroupedBatchSampler,
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from retinue.utils import comm


def take(sampler, count):
    return list(islice(sampler, count))


def test_every_round_has_every_sample():
    stream = take(TrainingSampler(5, seed=3), 15)
    for start in (0, 5, 10):
        assert sorted(stream[start : start + 5]) == [0, 1, 2, 3, 4]


def test_the_order_is_that_of_torch():
    """As in detectron2: one generator, a permutation a round."""
    generator = torch.Generator().manual_seed(3)
    want = [torch.randperm(5, generator=generator).tolist() for _ in range(2)]
    assert take(TrainingSampler(5, seed=3), 10) == [*want[0], *want[1]]
    assert take(TrainingSampler(3, shuffle=False, seed=3), 7) == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_a_stream(monkeypatch, world_size):
    whole = take(TrainingSampler(7, seed=1), 21)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
    for rank in range(world_size):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        assert take(TrainingSampler(7, seed=1), 5) == whole[rank::world_size][:5]


def test_without_a_seed_one_is_drawn():
    assert len(take(TrainingSampler(5), 5)) == 5


def test_sizes():
    with pytest.raises(TypeError, match=r"size must be an int; got 2.5"):
        TrainingSampler(2.5)
    with pytest.raises(ValueError, match="needs at least one sample; got size=0"):
        TrainingSampler(0)
    with pytest.raises(AssertionError, match="needs at least one sample"):
        InferenceSampler(0)


def test_a_subset():
    sampler = RandomSubsetTrainingSampler(10, 0.35, seed_shuffle=1, seed_subset=2)
    first, second = take(sampler, 3), take(sampler, 6)[3:]
    assert sorted(first) == sorted(second)
    assert sorted(first) == sorted(
        torch.randperm(10, generator=torch.Generator().manual_seed(2))[:3].tolist()
    )
    fixed = RandomSubsetTrainingSampler(10, 0.35, False, 1, 2)
    assert take(fixed, 3) == take(fixed, 6)[3:]
    with pytest.raises(AssertionError, match=r"leave a sample; got 0.05 of 10 samples"):
        RandomSubsetTrainingSampler(10, 0.05)
    with pytest.raises(AssertionError, match=r"in \(0, 1\]"):
        RandomSubsetTrainingSampler(10, 1.5)


def test_whole_repeat_factors():
    sampler = RepeatFactorTrainingSampler(torch.tensor([1.0, 3.0, 2.0]), seed=0)
    assert sorted(take(sampler, 6)) == [0, 1, 1, 1, 2, 2]
    ordered = RepeatFactorTrainingSampler(torch.tensor([1.0, 3.0]), shuffle=False, seed=0)
    assert take(ordered, 8) == [0, 1, 1, 1, 0, 1, 1, 1]


def test_fractional_repeat_factors_hold_on_average():
    factors = torch.tensor([1.0, 1.5]).repeat_interleave(2000)
    stream = take(RepeatFactorTrainingSampler(factors, seed=0), 5000)
    common = sum(index < 2000 for index in stream)
    assert (len(stream) - common) / common == pytest.approx(1.5, abs=0.05)


def test_rare_classes_are_repeated():
    """Class 0 is in all 4 images, class 1 in one: sqrt(0.36 / 0.25) = 1.2."""
    common, rare = {"category_id": 0}, {"category_id": 1}
    dicts = [{"annotations": a} for a in ([common], [common, rare], [common], [common])]
    dicts.append({"annotations": []})
    make = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    torch.testing.assert_close(make(dicts, 0.288), torch.tensor([1, 1.2, 1, 1, 1]))
    torch.testing.assert_close(make(dicts, 0.288, sqrt=False), torch.tensor([1, 1.44, 1, 1, 1]))


@given(st.integers(1, 50), st.integers(1, 9))
def test_inference_sees_everything_once(size, world_size):
    parts = [InferenceSampler._get_local_indices(size, world_size, r) for r in range(world_size)]
    assert [i for part in parts for i in part] == list(range(size))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


def test_inference_in_one_process():
    assert list(InferenceSampler(4)) == [0, 1, 2, 3]
    assert len(InferenceSampler(4)) == 4


def test_batches_of_one_group():
    sampler = GroupedBatchSampler(InferenceSampler(6), [0, 1, 0, 0, 1, 0], 2)
    assert [batch for batch in sampler] == [[0, 2], [1, 4], [3, 5]]  # noqa: C416 - no length
    with pytest.raises(NotImplementedError, match="depends on the order"):
        len(sampler)
    with pytest.raises(ValueError, match="sampler must be a Sampler; got"):
        GroupedBatchSampler([1, 2], [0, 0], 2)
    with pytest.raises(AssertionError, match=r"an array of shape \(1, 2\)"):
        GroupedBatchSampler(InferenceSampler(2), [[0, 0]], 2)
