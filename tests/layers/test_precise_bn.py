import pytest
import torch
from torch import nn

from retinue.layers.precise_bn import get_bn_modules, update_bn_stats


def test_statistics_are_those_of_all_batches_together():
    norm = nn.BatchNorm2d(3, momentum=0.1)
    batches = [torch.randn(n, 3, 4, 4) * n + n for n in (2, 5, 3)]

    update_bn_stats(norm, batches, num_iters=3)

    everything = torch.cat(batches)
    torch.testing.assert_close(norm.running_mean, everything.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, everything.var((0, 2, 3), unbiased=False))
    assert norm.momentum == 0.1
    assert not norm._forward_hooks


def test_only_norms_in_training_take_part():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm1d(3).eval(), nn.Linear(2, 2))

    assert get_bn_modules(model) == [model[0]]
    update_bn_stats(model.eval(), [], num_iters=5)  # nothing to do


def test_norms_that_do_not_run_keep_their_statistics():
    model = nn.ModuleDict({"used": nn.BatchNorm2d(3), "unused": nn.BatchNorm2d(3)})
    model.forward = lambda x: model["used"](x)

    update_bn_stats(model, [1 + torch.rand(2, 3, 4, 4)] * 2, num_iters=2, progress="tqdm")

    assert model["unused"].running_mean.tolist() == [0, 0, 0]
    assert model["used"].running_mean.min() > 0.5


def test_faults_are_named_and_leave_the_momentum():
    norm = nn.BatchNorm2d(3)
    twice = nn.Sequential(norm, norm)
    x = torch.randn(2, 3, 4, 4)

    with pytest.raises(AssertionError, match="runs twice in one forward"):
        update_bn_stats(twice, [x], num_iters=1)
    with pytest.raises(AssertionError, match="needs 3 batches; the loader ended after 1"):
        update_bn_stats(norm, [x], num_iters=3)
    assert norm.momentum == 0.1
