"""Parameter groups, clipping, and schedules against detectron2's learning rates."""

import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.solver import (
    LRMultiplier,
    WarmupCosineLR,
    WarmupMultiStepLR,
    WarmupParamScheduler,
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
)
from retinue.solver.build import (
    _expand_param_groups,
    maybe_add_gradient_clipping,
    reduce_param_groups,
)
from retinue.solver.param_scheduler import ConstantParamScheduler, MultiStepParamScheduler

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "lr_schedules.json").read_text())


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.group_norm = nn.GroupNorm(1, 2)
        self.again = self.conv  # used twice
        self.frozen = nn.Linear(2, 2)
        self.frozen.requires_grad_(False)


def sgd(lr=1.0):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def rates(scheduler, num):
    """The rate in force at each of ``num`` iterations."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "step() before optimizer.step()": nothing is trained
        for _ in range(num):
            found.append(scheduler.optimizer.param_groups[0]["lr"])
            scheduler.step()
    return found


@pytest.mark.parametrize("name", GOLDEN)
def test_rates_equal_detectron2_to_the_bit(name):
    """Recorded from detectron2 02b5c4e; mask_rcnn_R_50_FPN_1x with the overrides in the file."""
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER = 0.02, (60000, 80000), 90000
    for key, value in GOLDEN[name]["overrides"].items():
        cfg.merge_from_list([key, value])
    optimizer = sgd(cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)

    for iteration, rate in GOLDEN[name]["values"].items():
        scheduler.last_epoch = int(iteration)
        assert scheduler.get_lr() == [rate], iteration


def test_groups_get_their_settings():
    model = Small()
    groups = get_default_optimizer_params(
        model, base_lr=1.0, weight_decay=0.1, weight_decay_norm=0.0, bias_lr_factor=2.0,
        weight_decay_bias=0.5, overrides={"nothing_of_that_name": {"lr": 9.0}},
    )  # fmt: skip

    by_settings = {(g["lr"], g["weight_decay"]): g["params"] for g in groups}
    assert by_settings.keys() == {(1.0, 0.1), (2.0, 0.5), (1.0, 0.0)}
    assert by_settings[1.0, 0.1] == [model.conv.weight]
    assert by_settings[1.0, 0.0] == [model.norm.weight, model.group_norm.weight]
    assert by_settings[2.0, 0.5] == [model.conv.bias, model.norm.bias, model.group_norm.bias]


def test_rate_by_name_and_overrides():
    overrides = {"bias": {"lr": 7.0}}
    groups = get_default_optimizer_params(
        Small(),
        2.0,
        lr_factor_func=lambda name: 0.5 if "norm" in name else 1.0,
        overrides=overrides,
    )

    assert [(g["lr"], len(g["params"])) for g in groups] == [(2.0, 1), (7.0, 3), (1.0, 2)]
    assert overrides == {"bias": {"lr": 7.0}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bias_lr_factor": 2.0}, "bias_lr_factor needs base_lr"),
        ({"lr_factor_func": len}, "lr_factor_func needs base_lr"),
        ({"weight_decay_bias": 0.0, "overrides": {"bias": {}}}, "biases are set by `overrides`"),
    ],
)
def test_settings_that_contradict_each_other(arguments, message):
    with pytest.raises(ValueError, match=message):
        get_default_optimizer_params(Small(), **arguments)


def test_later_groups_win_and_equal_groups_merge():
    expanded = _expand_param_groups(
        [{"params": ["a", "b"], "lr": 1}, {"params": ["b", "c"], "momentum": 2}, {"params": ["a"]}]
    )
    assert expanded == [
        {"params": ["a"], "lr": 1},
        {"params": ["b"], "lr": 1, "momentum": 2},
        {"params": ["c"], "momentum": 2},
    ]
    named = {"params": ["d", "e"], "param_names": ["D", "E"], "lr": 1}
    assert reduce_param_groups([{"params": ["a"], "lr": 1}, {"params": ["b"], "lr": 2}]) == [
        {"lr": 1, "params": ["a"]},
        {"lr": 2, "params": ["b"]},
    ]
    assert reduce_param_groups([named]) == [named]
    assert reduce_param_groups([]) == []
    with pytest.raises(AssertionError, match="parameter group without 'params'"):
        reduce_param_groups([{"lr": 1}])


@pytest.mark.parametrize(("kind", "clipped"), [("value", [1.0, -1.0]), ("norm", [0.6, -0.8])])
@pytest.mark.parametrize("as_class", [False, True])
def test_clipping_happens_before_the_step(kind, clipped, as_class):
    cfg = get_cfg()
    clip = cfg.SOLVER.CLIP_GRADIENTS
    clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE = True, kind, 1.0
    parameter, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([3.0, -4.0])

    if as_class:
        optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD)([parameter, unused], lr=1.0)
    else:
        optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD([parameter, unused], lr=1.0))
    optimizer.step()

    assert type(optimizer).__name__ == "SGDWithGradientClip"
    torch.testing.assert_close(-parameter.data, torch.tensor(clipped))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.float64)])
def test_each_gradient_is_clipped_by_itself(norm_type, dtypes):
    """All at once gives what clipping one after the other does, bit for bit."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(), (0,), (7,), (3, 5), (2, 3, 4, 4), (1000,)]
    parameters = [
        torch.zeros(shape, dtype=dtypes[i % len(dtypes)], requires_grad=True)
        for i, shape in enumerate(shapes)
    ]
    for i, parameter in enumerate(parameters):
        scale = 10.0 ** (i - 3)  # below and above the limit
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.grad = noise * scale
    expected = [p.grad.clone() for p in parameters]
    for grad in filter(torch.numel, expected):
        holder = torch.zeros_like(grad, requires_grad=True)
        holder.grad = grad
        torch.nn.utils.clip_grad_norm_(holder, 0.5, norm_type)
    cfg = get_cfg()
    clip = cfg.SOLVER.CLIP_GRADIENTS
    clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE = True, "norm", 0.5, norm_type
    unused = torch.zeros(2, requires_grad=True)
    maybe_add_gradient_clipping(cfg, torch.optim.SGD([*parameters, unused], lr=0.0)).step()
    for parameter, grad in zip(parameters, expected, strict=True):
        assert torch.equal(parameter.grad, grad)
    assert unused.grad is None


def test_an_unknown_way_of_clipping_is_named():
    cfg = get_cfg()
    assert maybe_add_gradient_clipping(cfg, torch.optim.SGD) is torch.optim.SGD
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "norms"
    with pytest.raises(
        ValueError, match=r"unknown SOLVER\.CLIP_GRADIENTS\.CLIP_TYPE 'norms'; did you"
    ):
        maybe_add_gradient_clipping(cfg, sgd())


def test_optimizer_from_config():
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV = 0.5, 0.8, True
    optimizer = build_optimizer(cfg, Small())

    assert isinstance(optimizer, torch.optim.SGD)
    assert {(g["lr"], g["momentum"], g["nesterov"]) for g in optimizer.param_groups} == {
        (0.5, 0.8, True)
    }
    assert {g["weight_decay"] for g in optimizer.param_groups} == {1e-4, 0.0}


def test_steps_beyond_the_end_are_ignored_and_said(caplog):
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 4, (2, 4, 90), 0
    scheduler = build_lr_scheduler(cfg, sgd())

    assert rates(scheduler, 4) == pytest.approx([1, 1, 0.1, 0.1])
    assert "not below SOLVER.MAX_ITER (4)" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("LR_SCHEDULER_NAME", "WarmupCosinLR", "did you mean 'WarmupCosineLR'"),
        ("WARMUP_METHOD", "linar", "unknown warm-up method 'linar'; did you mean 'linear'"),
        ("BASE_LR_END", 5.0, r"BASE_LR_END must be between 0 and SOLVER.BASE_LR \(0.001\); got 5"),
    ],
)
def test_wrong_schedules_are_named(key, value, message):
    cfg = get_cfg()
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    cfg.SOLVER[key] = value
    with pytest.raises(ValueError, match=message):
        build_lr_scheduler(cfg, sgd())


def test_multiplier_keeps_ratios_and_resumes():
    schedule = WarmupParamScheduler(
        MultiStepParamScheduler([1, 0.1], 10, [5]), 0.5, 0.2, "constant"
    )
    optimizer = torch.optim.SGD(
        [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 4.0)]
    )
    scheduler = LRMultiplier(optimizer, schedule, max_iter=10)
    assert rates(scheduler, 6) == pytest.approx([0.5, 0.5, 1, 1, 1, 0.1])
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.1, 0.4])

    state = scheduler.state_dict()
    assert state == {"base_lrs": [1.0, 4.0], "last_epoch": 6}
    resumed = LRMultiplier(sgd(), ConstantParamScheduler(1), max_iter=10)
    resumed.load_state_dict(state)
    assert resumed.last_epoch == 6

    with pytest.raises(ValueError, match="must be a ParamScheduler"):
        LRMultiplier(optimizer, lambda where: 1.0, 10)


def test_the_older_classes():
    """By hand: warm-up from 0.2 over 2 iterations; steps at 3; a cosine over 4 iterations."""
    steps = WarmupMultiStepLR(sgd(), [3], 0.1, warmup_factor=0.2, warmup_iters=2)
    cosine = WarmupCosineLR(sgd(), 4, warmup_factor=0.5, warmup_iters=1, warmup_method="constant")

    assert rates(steps, 4) == pytest.approx([0.2, 0.6, 1.0, 0.1])
    assert rates(cosine, 4) == pytest.approx([0.5, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert steps._compute_values() == steps.get_lr()
    with pytest.raises(ValueError, match=r"milestones must increase; got \[3, 1\]"):
        WarmupMultiStepLR(sgd(), [3, 1])
    with pytest.raises(ValueError, match="unknown warm-up method 'no'"):
        WarmupCosineLR(sgd(), 4, warmup_method="no")
