"""What a checkpoint and a model have in common, in words and as data.

Parameter names are grouped by the module they belong to: ``fpn_lateral2.{bias, weight}``.
``LoadReport`` says what happened to every tensor of a load. Its sentences on tensors that were not
loaded begin as fvcore's do, for scripts that look for them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

__all__ = [
    "IncompatibleKeys",
    "LoadReport",
    "get_missing_parameters_message",
    "get_unexpected_parameters_message",
    "group_names",
]

Shape = tuple[int, ...]


class IncompatibleKeys(NamedTuple):
    """Where a checkpoint and a model differ.

    Attributes:
        missing_keys: in the model only, or of another shape in the checkpoint.
        unexpected_keys: in the checkpoint only.
        incorrect_shapes: (name, shape in the checkpoint, shape in the model).
    """

    missing_keys: list[str]
    unexpected_keys: list[str]
    incorrect_shapes: list[tuple[str, Shape, Shape]]


def group_names(names: Iterable[str]) -> list[str]:
    """Write the names of each module as one.

    >>> group_names(["stem.weight", "stem.bias", "scale"])
    ['scale', 'stem.{bias, weight}']
    """
    by_module: dict[str, list[str]] = {}
    for name in names:
        module, _, last = name.rpartition(".")
        by_module.setdefault(module, []).append(last)
    groups = []
    for module, lasts in by_module.items():
        if not module:
            groups += lasts
        elif len(lasts) == 1:
            groups.append(f"{module}.{lasts[0]}")
        else:
            groups.append(f"{module}.{{{', '.join(sorted(lasts))}}}")
    return sorted(groups)


def _listed(lines: Sequence[str], max_lines: int | None) -> str:
    shown = lines[:max_lines]
    if len(shown) < len(lines):
        shown = [*shown, f"... and {len(lines) - len(shown)} more modules"]
    return "".join(f"\n  {line}" for line in shown)


def get_missing_parameters_message(keys: Iterable[str], max_lines: int | None = None) -> str:
    """Say which of the model's tensors the checkpoint doesn't have."""
    start = "Some model parameters or buffers are not found in the checkpoint:"
    return start + _listed(group_names(keys), max_lines)


def get_unexpected_parameters_message(keys: Iterable[str], max_lines: int | None = None) -> str:
    """Say which of the checkpoint's tensors the model has no place for."""
    start = "The checkpoint state_dict contains keys that are not used by the model:"
    return start + _listed(group_names(keys), max_lines)


def describe_shapes(incorrect_shapes: Iterable[tuple[str, Shape, Shape]]) -> str:
    """List tensors of other shapes, one a line."""
    lines = [
        f"{name}: {saved} in the checkpoint, {own} here" for name, saved, own in incorrect_shapes
    ]
    return _listed(lines, None)


@dataclass
class LoadReport:
    """What happened to every tensor when a checkpoint was loaded into a model.

    Each tensor of the model is in one of ``loaded``, ``reinitialised`` and ``missing``; each one of
    the checkpoint in ``loaded``, ``reinitialised`` or ``unexpected``.

    Attributes:
        path: of the checkpoint.
        has_model: False if it was only converted.
        source: whose names it had; empty for ours.
        loaded: names in the model.
        renamed: name in the model -> name in the checkpoint, where they differ.
        reshaped: name -> what was done to its shape or rows.
        reinitialised: name -> why the checkpoint's tensor was not taken.
        missing: in the model only.
        unexpected: in the checkpoint only.
        warnings: what would make the model detect badly.
        notes: what else is worth knowing.
    """

    path: str = ""
    has_model: bool = True
    source: str = ""
    loaded: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    reshaped: dict[str, str] = field(default_factory=dict)
    reinitialised: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the model came from the checkpoint, and none was left."""
        return not (self.reinitialised or self.missing or self.unexpected)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        return self.summary()

    def summary(self, *, max_lines: int = 30) -> str:
        """Say it in words, by module.

        Args:
            max_lines: modules that each list names at most.
        """
        return "\n".join(text for _, text in self.messages(max_lines=max_lines))

    def messages(self, *, max_lines: int = 30) -> list[tuple[int, str]]:
        """Say it in words for a log: pairs of a level of ``logging`` and a message.

        Args:
            max_lines: modules that each list names at most.
        """
        num_tensors = len(self.loaded) + len(self.reinitialised) + len(self.missing)
        parts = [f"Loaded {len(self.loaded)} of the model's {num_tensors} tensors."]
        if not self.has_model:
            parts = [f"Read {len(self.loaded)} tensors."]
        if self.source:
            parts.append(f"Names as in {self.source}; {len(self.renamed)} are other than ours.")
        if self.reshaped:
            lines = [f"{name}: {what}" for name, what in self.reshaped.items()]
            parts.append("Changed to fit:" + _listed(lines, max_lines))
        parts += [f"Note: {note}." for note in self.notes]
        bad = [
            f"Skip loading parameter '{name}' to the model due to incompatible shapes: {why}!"
            " It stays as initialised."
            for name, why in self.reinitialised.items()
        ]
        if self.missing:
            bad.append(get_missing_parameters_message(self.missing, max_lines))
        if self.unexpected:
            bad.append(get_unexpected_parameters_message(self.unexpected, max_lines))
        bad += [f"WARNING: {warning}." for warning in self.warnings]
        return [(logging.INFO, "\n".join(parts)), *((logging.WARNING, text) for text in bad)]
