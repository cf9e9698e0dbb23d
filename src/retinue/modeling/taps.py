"""Any intermediate output of a model, by the name of the module that gives it.

Nothing in a model knows of this: hooks are there while the ``with`` block runs, and only then.

Reading order: taps resolves names; Taps listens and answers; _snapshot copies what was heard.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from retinue.utils.errors import InputError, UnknownNameError, unknown_name

__all__ = ["Taps", "taps"]


def taps(model: nn.Module, *names: str, detach: bool = True, keep: int | None = None) -> Taps:
    """Listen to the outputs of modules of a model.

    Args:
        model: any module, also inside ``DistributedDataParallel``.
        *names: dotted names as in ``model.named_modules()``; ``*``, ``?`` and ``[...]`` are
            wildcards, and ``*`` also matches dots. ``""`` is the model itself.
        detach: give copies, which stay as the module gave them, without gradient. Else the very
            objects: later in-place operations change them, gradients flow through them, and they
            keep the graph in memory.
        keep: how many calls of each module to remember, the last ones; None: all.

    Returns:
        A mapping, filled while its ``with`` block runs and readable afterwards: ``t[name]`` is
        what the module returned when it was last called, ``t.calls(name)`` what it returned in
        each call, first to last. Names come in the order of their first call.

    Raises:
        UnknownNameError: If a name matches no module, with the nearest names.
        InputError: If no name is given, or ``keep`` isn't positive.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with taps(model, "*") as t:
        ...     _ = model(torch.ones(1, 2))
        >>> list(t), t["0"].shape
        (['0', '1'], torch.Size([1, 3]))
    """
    if not names:
        raise InputError("taps: expected the name of at least one module; got none")
    if keep is not None and keep < 1:
        raise InputError(f"taps: keep must be positive or None; got {keep}")
    if isinstance(model, DistributedDataParallel):
        model = model.module
    modules = dict(model.named_modules(remove_duplicate=False))
    chosen: dict[str, nn.Module] = {}
    for pattern in names:
        # The model itself is asked for by "", not by a wildcard.
        matches = [n for n in modules if n == pattern or (n and fnmatchcase(n, pattern))]
        if not matches:
            raise unknown_name("module", pattern, modules.keys() - {""})
        chosen.update((name, modules[name]) for name in matches)
    return Taps(chosen, detach=detach, keep=keep)


class Taps(Mapping[str, Any]):
    """What modules returned, by name; made by ``taps``, which explains its use."""

    def __init__(self, modules: Mapping[str, nn.Module], *, detach: bool, keep: int | None) -> None:
        self._modules = dict(modules)
        self._detach = detach
        self._keep = keep
        self._heard: dict[str, deque[Any]] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Taps:
        """Begin to listen, and forget what was heard in an earlier block."""
        self._stop()
        self._heard = {}
        self._handles = [
            module.register_forward_hook(self._hook(name)) for name, module in self._modules.items()
        ]
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def _stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hook(self, name: str) -> Any:
        def listen(module: nn.Module, inputs: Any, output: Any) -> None:
            calls = self._heard.setdefault(name, deque(maxlen=self._keep))
            calls.append(_snapshot(output) if self._detach else output)

        return listen

    def calls(self, name: str) -> list[Any]:
        """Return what a module returned in each call, first to last.

        Raises:
            UnknownNameError: If its name isn't among those asked for, or it wasn't called.
        """
        if name not in self._modules:
            raise unknown_name("tap", name, self._modules)
        if name not in self._heard:
            raise UnknownNameError(
                f"tap {name!r}: the module was not called inside the `with` block; a module whose"
                " methods or weights are used without calling it can't be listened to"
            )
        return list(self._heard[name])

    def __getitem__(self, name: str) -> Any:
        return self.calls(name)[-1]

    def __contains__(self, name: object) -> bool:
        return name in self._heard

    def __iter__(self) -> Iterator[str]:
        return iter(self._heard)

    def __len__(self) -> int:
        return len(self._heard)

    def __repr__(self) -> str:
        counts = {name: len(calls) for name, calls in self._heard.items()}
        return f"Taps(calls={counts})"


def _snapshot(value: Any) -> Any:
    """Copy the tensors in a value; keep its containers' and objects' classes."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _snapshot(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*map(_snapshot, value))
    if isinstance(value, list | tuple):
        return type(value)(map(_snapshot, value))
    if not hasattr(value, "__dict__") or isinstance(value, nn.Module | type | FunctionType):
        return value
    new = copy.copy(value)  # Boxes, Instances, ImageList, data classes
    new.__dict__.update({key: _snapshot(item) for key, item in vars(value).items()})
    return new
