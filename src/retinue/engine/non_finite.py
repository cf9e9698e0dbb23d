"""Losses that are not finite: noticing them without waiting, and finding where they come from.

Reading order: FiniteCheck is asked in each step; non_finite_loss writes the error;
first_non_finite runs the model again to find the first layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from retinue.checkpoint.sharded import is_sharded, own_part
from retinue.engine.training_state import load_training_state, training_state
from retinue.utils import comm
from retinue.utils.events import EventStorage

__all__ = ["FiniteCheck", "NonFiniteLossError", "first_non_finite", "non_finite_loss"]

MAX_IMAGES_NAMED = 16


class NonFiniteLossError(FloatingPointError):
    """A loss is NaN or infinite."""


class FiniteCheck:
    """Whether all of some scalars are finite; true or false when asked.

    On CUDA the answer is copied to the host as soon as it is known, so that asking while later
    work runs (the backward pass) waits for nothing but the scalars.
    """

    def __init__(self, scalars: Iterable[torch.Tensor]) -> None:
        flag = torch.isfinite(torch.stack([scalar.float().reshape(()) for scalar in scalars])).all()
        self._event = None
        self._flag = flag
        if flag.is_cuda:
            self._flag = torch.empty((), dtype=torch.bool, pin_memory=True)
            self._flag.copy_(flag, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def __bool__(self) -> bool:
        if self._event is not None:
            self._event.synchronize()
        return bool(self._flag)


def non_finite_loss(
    iteration: int,
    what: Mapping[str, torch.Tensor] | str,
    batches: Sequence[Any],
    model: nn.Module,
    learning_rate: float,
    precision: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> NonFiniteLossError:
    """Build the error for a loss that is not finite; the caller raises it.

    Args:
        iteration: when.
        what: all losses of the iteration by name, or what the model said itself.
        batches: what the model was given.
        model: with the weights it had then.
        learning_rate: in force.
        precision: context that the forward pass ran in.
    """
    lines = [f"iteration {iteration}: the loss is not finite"]
    if isinstance(what, str):
        lines.append(f"  model:  {what}")
    else:
        bad = {name: float(loss) for name, loss in what.items() if not torch.isfinite(loss).all()}
        good = {name: float(loss) for name, loss in what.items() if name not in bad}
        lines.append("  losses: " + ", ".join(f"{n} = {v:.4g}" for n, v in (bad | good).items()))
    lines.append("  images: " + (", ".join(_image_names(batches)) or "(they carry no file names)"))
    lines.append("  first:  " + first_non_finite(model, batches, precision))
    lines.append(
        f"  try:    a lower learning rate (it was {learning_rate:.3g}; SOLVER.BASE_LR"
        f" {learning_rate / 10:.2g}), a longer SOLVER.WARMUP_ITERS, or"
        " SOLVER.CLIP_GRADIENTS.ENABLED True; look at the annotations of these images"
    )
    return NonFiniteLossError("\n".join(lines))


def _image_names(batches: Sequence[Any]) -> list[str]:
    samples = [s for batch in batches if isinstance(batch, list | tuple) for s in batch]
    names = [str(s["file_name"]) for s in samples if isinstance(s, dict) and "file_name" in s]
    if len(names) > MAX_IMAGES_NAMED:
        names = [*names[:MAX_IMAGES_NAMED], f"and {len(names) - MAX_IMAGES_NAMED} more"]
    return names


def first_non_finite(
    model: nn.Module,
    batches: Sequence[Any],
    precision: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> str:
    """Say which weight or which layer's output is the first that is not finite.

    The model is run again on each batch, without gradients; its buffers are put back afterwards.
    """
    model = getattr(model, "module", model)  # inside DistributedDataParallel others would wait
    for name, weight in model.named_parameters():
        if not torch.isfinite(own_part(weight)).all():
            return f"the weight {name!r}, which an earlier step or the checkpoint brought"
    for batch in batches:
        for name, value in _tensors(batch):
            if not torch.isfinite(value).all():
                return f"the input {name!r}" if name else "the input"
    if comm.get_world_size() > 1 and any(isinstance(m, nn.SyncBatchNorm) for m in model.modules()):
        return "unknown: a model with SyncBatchNorm can't be run again by one process"
    if is_sharded(model):
        return "unknown: a model that is spread over processes can't be run again by one of them"
    for batch in batches:
        with _unchanged(model), EventStorage(), torch.no_grad(), precision():
            found = _first_layer(model, batch)
        if found:
            return found
    return "no layer: when run again, all layers' outputs were finite, so the loss itself isn't"


def _first_layer(model: nn.Module, batch: Any) -> str:
    found: list[str] = []
    names = {module: name for name, module in model.named_modules()}

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not found and any(not torch.isfinite(value).all() for _, value in _tensors(output)):
            found.append(f"the output of layer {names[module]!r} ({type(module).__name__})")

    handles = [module.register_forward_hook(look) for module in names if module is not model]
    try:
        model(batch)
    except Exception as error:  # the error of the first run is what matters
        found.append(f"unknown: running the model again failed ({type(error).__name__}: {error})")
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Find the floating-point tensors in nested containers and structures, with their places."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield name, value
        return
    if hasattr(value, "get_fields"):  # Instances
        value = value.get_fields()
    elif hasattr(value, "tensor"):  # Boxes, ImageList, Keypoints
        value = [value.tensor]
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _tensors(item, f"{name}[{index}]")


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put buffers back as they were, such as the running statistics of norms, and averages."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    averages = training_state(model)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name])
        load_training_state(model, averages)
