"""What detectron2 had and retinue has not: why, and what takes its place."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from importlib import resources

__all__ = [
    "CompiledExtensionError",
    "NotCarriedError",
    "NotCarriedNameError",
    "lacks_names",
    "modules_lacking_names",
    "why_absent",
]


class NotCarriedError(ImportError):
    """A module of detectron2's that retinue leaves out on purpose, or a name imported from one."""


class NotCarriedNameError(AttributeError):
    """The same for a name that is looked up in a module, for which ``hasattr`` is False.

    Python allows no class that is an ``ImportError`` too.
    """


class CompiledExtensionError(ModuleNotFoundError):
    """A project's own compiled extension, which has not been built."""


_CAFFE2 = (
    "Caffe2 is gone from PyTorch, and export to it with it; export with"
    " retinue.export.TracingAdapter and torch.export, or to ONNX by torch.onnx.export(dynamo=True)"
)

_DISSOLVED = (
    "detectron2 0.2 dissolved it, too: RPN and RRPN compute losses and proposals themselves, and"
    " find_top_rpn_proposals of detectron2.modeling.proposal_generator.proposal_utils picks the"
    " best; subclass RPN and define losses or predict_proposals"
)

_MODULES: Mapping[str, str] = {
    "detectron2.modeling.proposal_generator.rpn_outputs": _DISSOLVED,
    "detectron2.modeling.proposal_generator.rrpn_outputs": _DISSOLVED,
    **{
        f"detectron2.export.{name}": _CAFFE2
        for name in (
            "api",
            "c10",
            "caffe2_export",
            "caffe2_inference",
            "caffe2_modeling",
            "caffe2_patch",
            "shared",
        )
    },
}

_NAMES: Mapping[str, dict[str, str]] = {
    "detectron2.export": dict.fromkeys(
        ("Caffe2Model", "Caffe2Tracer", "export_caffe2_model", "export_onnx_model"), _CAFFE2
    ),
}


@functools.cache
def _private_names() -> Mapping[str, dict[str, str]]:
    """Read ``private.tsv``: rows of module, name, and what to use instead."""
    table: dict[str, dict[str, str]] = {}
    text = resources.files(__package__).joinpath("private.tsv").read_text(encoding="utf-8")
    for line in text.splitlines():
        module, name, instead = line.split("\t")
        reason = f"it was private there, and the work is done otherwise here; use {instead}"
        table.setdefault(module, {})[name] = reason
    return table


def modules_lacking_names() -> Iterable[str]:
    """Return the modules of detectron2 of which ``lacks_names`` is true."""
    return {*_NAMES, *_private_names()}


def lacks_names(module: str) -> bool:
    """Whether detectron2's module had names that are listed as left out."""
    return module in _NAMES or module in _private_names()


def why_absent(module: str, name: str = "") -> str | None:
    """Return what to tell who asks for a module, or for a name in one; None if it is not listed."""
    names = _NAMES.get(module, {}) | _private_names().get(module, {})
    reason = names.get(name) if name else _MODULES.get(module)
    if reason is None:
        return None
    what = f"{module}.{name}" if name else module
    return f"{what} is not carried over to retinue: {reason}"


def unbuilt_extension(module: str) -> str:
    """Return what to tell who asks for a project's own extension that is not there."""
    package = module.partition(".")[0]
    return (
        f"{module} is a compiled extension of the project {package!r}, and it is not built."
        " retinue needs none of its own and can't stand in for another project's: build it as that"
        f" project says (a C++ or CUDA compiler is needed), or use the parts of {package!r} that do"
        " without it"
    )
