"""Optimizers and schedules from a config, and parameter groups from a model.

Reading order: ``get_default_optimizer_params`` gives each parameter its rate and weight decay,
``reduce_param_groups`` merges equal ones, ``build_optimizer`` and ``build_lr_scheduler`` read a
config, ``maybe_add_gradient_clipping`` puts clipping into an optimizer's step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import nn

from retinue.solver.lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler
from retinue.solver.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from retinue.utils.errors import InputError, unknown_name

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = [
    "GradientClipType",
    "build_lr_scheduler",
    "build_optimizer",
    "get_default_optimizer_params",
    "maybe_add_gradient_clipping",
    "reduce_param_groups",
]

logger = logging.getLogger(__name__)

ParamGroup = dict[str, Any]
T = TypeVar("T")  # an optimizer, or a class of optimizers

NORM_MODULES = (
    nn.modules.batchnorm._BatchNorm,  # BatchNorm1d to 3d, SyncBatchNorm and what derives from them
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


class GradientClipType(Enum):
    """What ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE`` may say."""

    VALUE = "value"
    NORM = "norm"


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SGD over the trainable parameters of ``model`` from ``cfg.SOLVER``."""
    solver = cfg.SOLVER
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    optimizer = torch.optim.SGD(
        params,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
        foreach=True,  # bit-equal to a loop over parameters, few kernels
    )
    return maybe_add_gradient_clipping(cfg, optimizer)


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: Mapping[str, Mapping[str, float]] | None = None,
) -> list[ParamGroup]:
    """List the trainable parameters of a model as an optimizer wants them.

    Args:
        model: its frozen parameters are left out; one that is used twice is listed once.
        base_lr: learning rate; the optimizer's own if None.
        weight_decay: weight decay; the optimizer's own if None.
        weight_decay_norm: weight decay of the parameters of normalisation layers.
        bias_lr_factor: factor on the rate of parameters called ``bias``.
        weight_decay_bias: weight decay of parameters called ``bias``, those of norms included.
        lr_factor_func: maps a parameter's full name to a factor on its rate.
        overrides: last part of a parameter's name -> settings for it, which win over all others,
            e.g. ``{"embedding": {"lr": 0.01, "weight_decay": 0.1}}``.

    Raises:
        ValueError: If a factor is given without ``base_lr``, or biases are set in two ways.
    """
    defaults = {"lr": base_lr, "weight_decay": weight_decay}
    defaults = {key: value for key, value in defaults.items() if value is not None}
    by_name = dict(overrides or {})

    for_bias: dict[str, float] = {}
    if bias_lr_factor is not None and bias_lr_factor != 1.0:
        if base_lr is None:
            raise ValueError("get_default_optimizer_params: bias_lr_factor needs base_lr too")
        for_bias["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        for_bias["weight_decay"] = weight_decay_bias
    if for_bias:
        if "bias" in by_name:
            raise ValueError(
                "get_default_optimizer_params: biases are set by `overrides` and by"
                f" bias_lr_factor or weight_decay_bias ({for_bias}); use one of the two"
            )
        by_name["bias"] = for_bias
    if lr_factor_func is not None and base_lr is None:
        raise ValueError("get_default_optimizer_params: lr_factor_func needs base_lr too")

    groups: list[ParamGroup] = []
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        is_norm = isinstance(module, NORM_MODULES)
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            settings: ParamGroup = {"params": [parameter], **defaults}
            if is_norm and weight_decay_norm is not None:
                settings["weight_decay"] = weight_decay_norm
            if lr_factor_func is not None:
                settings["lr"] *= lr_factor_func(f"{module_name}.{name}")
            groups.append({**settings, **by_name.get(name, {})})
    return reduce_param_groups(groups)


def _expand_param_groups(params: Sequence[ParamGroup]) -> list[ParamGroup]:
    """Give every parameter a group of its own; what later groups say of it wins."""
    by_parameter: dict[Any, ParamGroup] = {}
    for group in params:
        if "params" not in group:
            raise InputError(f"parameter group without 'params'; it has {sorted(group)}")
        settings = {k: v for k, v in group.items() if k not in ("params", "param_names")}
        names = group.get("param_names")
        for i, parameter in enumerate(group["params"]):
            own = by_parameter.setdefault(parameter, {})
            own.update({"params": [parameter]} | settings)
            if names is not None:
                own["param_names"] = [names[i]]
    return list(by_parameter.values())


def reduce_param_groups(params: Sequence[ParamGroup]) -> list[ParamGroup]:
    """Merge parameter groups with equal settings: the fewer groups, the faster a step.

    Groups come out in the order in which their settings first occur, parameters in their own.
    """
    merged: dict[tuple[Any, ...], ParamGroup] = {}
    for single in _expand_param_groups(params):
        settings = {k: v for k, v in single.items() if k not in ("params", "param_names")}
        group = merged.setdefault(tuple(settings.items()), {**settings, "params": []})
        group["params"] += single["params"]
        if "param_names" in single:
            group.setdefault("param_names", []).extend(single["param_names"])
    return list(merged.values())


def maybe_add_gradient_clipping(cfg: CfgNode, optimizer: T) -> T:
    """Make an optimizer clip gradients before each step if ``SOLVER.CLIP_GRADIENTS`` asks for it.

    Each parameter's gradient is clipped by itself, to ``CLIP_VALUE`` in every element or in its
    norm of order ``NORM_TYPE``.

    Args:
        cfg: the whole config.
        optimizer: an optimizer, which becomes one that clips, or an optimizer class, of which a
            clipping subclass is returned.

    Raises:
        UnknownNameError: (a ``ValueError``) for another ``CLIP_TYPE``.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return optimizer
    known = [kind.value for kind in GradientClipType]
    if clip.CLIP_TYPE not in known:
        raise unknown_name("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clip.CLIP_TYPE, known)
    clip_value, norm_type = clip.CLIP_VALUE, clip.NORM_TYPE
    by_norm = GradientClipType(clip.CLIP_TYPE) is GradientClipType.NORM

    def clip_gradients(parameters: list[torch.Tensor]) -> None:
        if by_norm:
            _clip_each_norm(parameters, clip_value, float(norm_type))
        else:
            nn.utils.clip_grad_value_(parameters, clip_value)

    base: Any = optimizer if isinstance(optimizer, type) else type(optimizer)
    clipping: Any = _clipping_class(base, clip_gradients)
    if isinstance(optimizer, type):
        return cast(T, clipping)
    optimizer.__class__ = clipping  # keeps the object, which a schedule may hold already
    return optimizer


def _clip_each_norm(parameters: list[torch.Tensor], max_norm: float, norm_type: float) -> None:
    """Scale each gradient to a norm of ``max_norm`` at most, as ``clip_grad_norm_`` would one."""
    grads = [p.grad for p in parameters if p.grad is not None and p.grad.numel()]
    kinds = {(type(g), g.device, g.dtype, g.layout) for g in grads}
    if len(kinds) == 1 and type(grads[0]) is torch.Tensor and grads[0].layout is torch.strided:
        norms = torch.stack(torch._foreach_norm(grads, norm_type))  # few kernels, the same numbers
        factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(grads, factors.unbind())
        return
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.numel():
            nn.utils.clip_grad_norm_(parameter, max_norm, norm_type)


def _clipping_class(
    base: type[torch.optim.Optimizer], clip_gradients: Callable[[list[torch.Tensor]], None]
) -> type[torch.optim.Optimizer]:
    def step(self: torch.optim.Optimizer, closure: Callable[[], float] | None = None) -> Any:
        clip_gradients([p for group in self.param_groups for p in group["params"]])
        return base.step(self, closure)

    return type(f"{base.__name__}WithGradientClip", (base,), {"step": step})


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the schedule that ``SOLVER.LR_SCHEDULER_NAME`` names, with its warm-up.

    Raises:
        UnknownNameError: (a ``ValueError``) for a name that is not one of the three.
        InputError: If ``BASE_LR_END`` is not between 0 and ``BASE_LR``.
    """
    solver = cfg.SOLVER
    builders: dict[str, Callable[[CfgNode], ParamScheduler]] = {
        "WarmupMultiStepLR": _multi_step,
        "WarmupCosineLR": _cosine,
        "WarmupStepWithFixedGammaLR": _fixed_gamma,
    }
    if solver.LR_SCHEDULER_NAME not in builders:
        raise unknown_name("SOLVER.LR_SCHEDULER_NAME", solver.LR_SCHEDULER_NAME, builders)
    schedule = WarmupParamScheduler(
        builders[solver.LR_SCHEDULER_NAME](solver),
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=solver.MAX_ITER)


def _multi_step(solver: CfgNode) -> ParamScheduler:
    steps = [step for step in solver.STEPS if step < solver.MAX_ITER]
    if len(steps) != len(solver.STEPS):
        logger.warning(
            "SOLVER.STEPS %s: those not below SOLVER.MAX_ITER (%d) have no effect",
            tuple(solver.STEPS),
            solver.MAX_ITER,
        )
    values = [solver.GAMMA**k for k in range(len(steps) + 1)]
    return MultiStepParamScheduler(values, milestones=steps, num_updates=solver.MAX_ITER)


def _cosine(solver: CfgNode) -> ParamScheduler:
    end = solver.BASE_LR_END / solver.BASE_LR
    if not 0.0 <= end <= 1.0:
        raise InputError(
            f"SOLVER.BASE_LR_END must be between 0 and SOLVER.BASE_LR ({solver.BASE_LR});"
            f" got {solver.BASE_LR_END}"
        )
    return CosineParamScheduler(1, end)


def _fixed_gamma(solver: CfgNode) -> ParamScheduler:
    return StepWithFixedGammaParamScheduler(
        base_value=1.0,
        gamma=solver.GAMMA,
        num_decays=solver.NUM_DECAYS,
        num_updates=solver.MAX_ITER,
    )
