"""What a model costs, by module and by operator: it is run once and every operator is counted.

Reading order: JitModelAnalysis (what can be asked); _Recorder (how it is counted).
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from retinue.export.operator_counts import ACTIVATION_HANDLES, FLOP_HANDLES, Handle
from retinue.utils.errors import InputError, unknown_name

__all__ = [
    "ActivationCountAnalysis",
    "FlopCountAnalysis",
    "JitModelAnalysis",
    "Statistics",
    "activation_count",
    "flop_count",
]

logger = logging.getLogger(__name__)

T = TypeVar("T", bound="JitModelAnalysis")


@dataclass
class Statistics:
    """What one run gave.

    Attributes:
        counts: module name -> operator -> count; a module's counts include its submodules'.
        unsupported_ops: module name -> operator -> calls of operators that no handle counts.
        uncalled_mods: names of modules that were not called.
    """

    counts: dict[str, Counter[str]]
    unsupported_ops: dict[str, Counter[str]]
    uncalled_mods: set[str]


class _Recorder(TorchDispatchMode):
    """Counts each operator for all modules that are running."""

    def __init__(self, handles: Mapping[str, Handle], ignored: frozenset[str]) -> None:
        super().__init__()
        self.handles = handles
        self.ignored = ignored
        self.running: list[str] = []
        self.called: set[str] = set()
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.unsupported: dict[str, Counter[str]] = defaultdict(Counter)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        outputs = out if isinstance(out, tuple | list) else (out,)
        if (handle := self.handles.get(name)) is not None:
            found = handle(args, outputs)
            if not isinstance(found, Counter):
                found = Counter({name.partition("::")[2]: found})
            for module in set(self.running):
                self.counts[module].update(found)
        elif name not in self.ignored:
            for module in set(self.running):
                self.unsupported[module][name] += 1
        return out


# Views, copies, comparisons and the like: nobody counts them.
_FREE_NAMES = """
    _local_scalar_dense _to_copy _unsafe_view alias all any arange argmax argsort
    as_strided bitwise_and bitwise_or bitwise_not cat clone contiguous constant_pad_nd
    copy_ detach dropout empty empty_like empty_strided eq expand fill_ flatten full
    full_like gather ge gt index index_put index_put_ index_select is_same_size isfinite
    item le lift_fresh logical_and logical_not logical_or lt masked_fill masked_fill_ ne
    new_empty new_full new_ones new_zeros nonzero ones ones_like permute rand randn
    randperm repeat reshape resolve_conj roll scatter scatter_ select slice sort split
    split_with_sizes squeeze stack t to topk transpose unbind unsqueeze view where zero_
    zeros zeros_like
"""
_FREE = frozenset(f"aten::{name}" for name in _FREE_NAMES.split())


class JitModelAnalysis:
    """Counts of a model on given inputs; a subclass has handles for what it counts.

    The model runs once, when first asked, without gradients and in the mode it is in. A module
    under several names is counted under each of its calls, and can be asked for by any name.

    Args:
        model: what to run.
        inputs: its argument, or a tuple of them.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self._model = model
        self._inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self._op_handles: dict[str, Handle] = {}
        self._ignored_ops = _FREE
        self._stats: Statistics | None = None
        self._enable_warn_unsupported_ops = True
        self._enable_warn_uncalled_mods = True
        self._ancestor_mode = "owner"
        self._aliases = self._get_aliases(model)

    def total(self, module_name: str = "") -> int:
        """Return the count of a module, by its name in ``named_modules``; all by default."""
        return int(sum(self.by_operator(module_name).values()))

    def by_operator(self, module_name: str = "") -> Counter[str]:
        """Return a module's counts by operator."""
        stats = self._analyze()
        module_name = self.canonical_module_name(module_name)
        self._warn_unsupported_ops(stats.unsupported_ops[module_name])
        self._warn_uncalled_mods(stats.uncalled_mods)
        return stats.counts[module_name]

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """Return the counts by operator of every module."""
        stats = self._analyze()
        self._warn_unsupported_ops(stats.unsupported_ops[""])
        self._warn_uncalled_mods(stats.uncalled_mods)
        return stats.counts

    def by_module(self) -> Counter[str]:
        """Return the count of every module."""
        return Counter(
            {name: int(sum(c.values())) for name, c in self.by_module_and_operator().items()}
        )

    def unsupported_ops(self, module_name: str = "") -> Counter[str]:
        """Return how often operators were called that no handle counts."""
        return self._analyze().unsupported_ops[self.canonical_module_name(module_name)]

    def uncalled_modules(self) -> set[str]:
        """Return the names of the modules that were not called."""
        return self._analyze().uncalled_mods

    def set_op_handle(self: T, *args: Any, **kwargs: Handle | None) -> T:
        """Set handles: name and handle in turn, or a keyword an operator; None ignores one.

        Names are PyTorch's, such as ``"aten::addmm"``.
        """
        self._stats = None
        if len(args) % 2:
            raise InputError(
                f"set_op_handle: expected names and handles in turn; got {len(args)} arguments"
            )
        given = dict(zip(args[::2], args[1::2], strict=True)) | kwargs
        for name, handle in given.items():
            if handle is None:
                self._op_handles.pop(name, None)
                self._ignored_ops |= {name}
            else:
                self._op_handles[name] = handle
        return self

    def clear_op_handles(self: T) -> T:
        """Forget all handles."""
        self._op_handles = {}
        self._ignored_ops = _FREE
        self._stats = None
        return self

    def canonical_module_name(self, name: str) -> str:
        """Return the first name of the module that ``name`` is a name of.

        Raises:
            UnknownNameError: (a ``KeyError``) if there is no such module.
        """
        if name not in self._aliases:
            raise unknown_name("module", name, self._aliases)
        return self._aliases[name]

    def copy(self: T, new_model: nn.Module | None = None, new_inputs: Any = None) -> T:
        """Return an analysis with the same handles and settings, of other inputs or models."""
        model = self._model if new_model is None else new_model
        new = type(self)(model, self._inputs if new_inputs is None else new_inputs)
        for name in (
            "_ignored_ops",
            "_enable_warn_unsupported_ops",
            "_enable_warn_uncalled_mods",
            "_ancestor_mode",
        ):
            setattr(new, name, getattr(self, name))
        new._op_handles = copy.copy(self._op_handles)
        return new

    def tracer_warnings(self: T, mode: str) -> T:
        """Return itself: nothing is traced, so there are no such warnings."""
        return self

    def ancestor_mode(self: T, mode: str) -> T:
        """Choose whose counts include a module's: ``"owner"`` or ``"caller"``; here they agree."""
        if mode not in ("owner", "caller"):
            raise InputError(f"ancestor_mode: expected 'owner' or 'caller'; got {mode!r}")
        self._ancestor_mode = mode
        return self

    def unsupported_ops_warnings(self: T, enabled: bool) -> T:
        """Choose whether operators that no handle counts are logged."""
        self._enable_warn_unsupported_ops = enabled
        return self

    def uncalled_modules_warnings(self: T, enabled: bool) -> T:
        """Choose whether modules that were not called are logged."""
        self._enable_warn_uncalled_mods = enabled
        return self

    def _warn_unsupported_ops(self, ops: Counter[str]) -> None:
        if self._enable_warn_unsupported_ops:
            for name, calls in ops.items():
                logger.warning("Operator %s is not counted; it was called %d times.", name, calls)

    def _warn_uncalled_mods(self, uncalled_mods: set[str]) -> None:
        names = {name for name in uncalled_mods if self._has_forward(name)}
        if self._enable_warn_uncalled_mods and names:
            logger.warning(
                "%d modules were not called: %s. Their parts, if used, count for their parents.",
                len(names),
                ", ".join(sorted(names)),
            )

    def _get_aliases(self, model: nn.Module) -> dict[str, str]:
        """Map each name of each module to the module's first name."""
        first: dict[int, str] = {}
        named = model.named_modules(remove_duplicate=False)
        return {name: first.setdefault(id(module), name) for name, module in named}

    def _has_forward(self, mod_name: str) -> bool:
        module = self._model.get_submodule(mod_name)
        return not isinstance(module, nn.ModuleList | nn.ModuleDict)

    def _analyze(self) -> Statistics:
        if self._stats is not None:
            return self._stats
        recorder = _Recorder(self._op_handles, self._ignored_ops)
        with torch.no_grad(), _report_calls(self._model, recorder), recorder:
            self._model(*self._inputs)
        names = set(self._aliases.values())
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        counts.update({name: recorder.counts[name] for name in self._aliases.values()})
        self._stats = Statistics(counts, recorder.unsupported, names - recorder.called)
        return self._stats


@contextmanager
def _report_calls(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keep the names of the running modules, and of their owners, in ``recorder.running``."""

    def enter(name: str) -> Callable[..., None]:
        owners = [name.rsplit(".", i)[0] for i in range(1, name.count(".") + 1)]
        names = [*owners, name]

        def hook(*_: Any) -> None:
            recorder.called.add(name)
            recorder.running += names

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            del recorder.running[len(recorder.running) - name.count(".") - 1 :]

        return hook

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave(name), always_call=True))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*forward hook.*")
            yield
    finally:
        for handle in handles:
            handle.remove()


class FlopCountAnalysis(JitModelAnalysis):
    """Counts multiply-adds (one each) of convolutions, products, norms and resizing.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> flops = FlopCountAnalysis(model, torch.zeros(3, 4))
        >>> flops.total(), flops.by_module()["0"]
        (144, 96)
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__(model, inputs)
        self._op_handles = dict(FLOP_HANDLES)


class ActivationCountAnalysis(JitModelAnalysis):
    """Counts the elements of the outputs of convolutions and matrix products."""

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__(model, inputs)
        self._op_handles = dict(ACTIVATION_HANDLES)


def _in_units(
    analysis: JitModelAnalysis, supported_ops: Mapping[str, Handle] | None, unit: float
) -> tuple[defaultdict[str, float], Counter[str]]:
    for name, handle in (supported_ops or {}).items():
        analysis.set_op_handle(name, handle)
    counts = {name: count / unit for name, count in analysis.by_operator().items()}
    return defaultdict(float, counts), analysis.unsupported_ops()


def flop_count(
    model: nn.Module, inputs: Any, supported_ops: Mapping[str, Handle] | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return billions of multiply-adds by operator, and the operators that are not counted."""
    return _in_units(FlopCountAnalysis(model, inputs), supported_ops, 1e9)


def activation_count(
    model: nn.Module, inputs: Any, supported_ops: Mapping[str, Handle] | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return millions of output elements by operator, and the operators that are not counted."""
    return _in_units(ActivationCountAnalysis(model, inputs), supported_ops, 1e6)
