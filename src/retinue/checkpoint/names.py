"""Whose names a state dict has, and what ours are for them.

Three steps, each a table and a few lines: ``unwrap`` takes off what wrappers put before names
(``module.``, ``_orig_mod.``, ...); ``recognise`` tells the family of the rest by a few names that
only this family has; ``Family.translate`` renames it. Caffe2's names are in ``c2_model_loading``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch

from retinue.checkpoint.c2_model_loading import convert_c2_detectron_names
from retinue.checkpoint.names_torchvision import (
    convert_torchvision_names,
    is_torchvision_detector,
)

__all__ = ["FAMILIES", "Family", "recognise", "strip_prefix", "unwrap"]

State = dict[str, torch.Tensor]

# Names of wrapped modules, anywhere in a name: torch.compile, FSDP, activation checkpointing.
INNER_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Prefixes of whole models: DistributedDataParallel and AveragedModel; Lightning and mmengine.
OUTER_WRAPPERS = ("module.", "model.", "ema_model.", "ema.", "_model.", "detector.")
COUNTERS = ("n_averaged", "initted", "step")  # what averages keep beside the weights


def unwrap(state: dict[str, Any], own: Collection[str]) -> str:
    """Take wrappers off the names of ``state``, in place, also in the modules' versions.

    Names that the model itself has stay as they are.

    Args:
        state: name -> tensor.
        own: the model's names.

    Returns:
        What was taken off, in words; empty if nothing.
    """
    taken = []
    inner = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(INNER_WRAPPERS)})(?:\.|$)")
    if any(inner.search(name) for name in state) and not any(map(inner.search, own)):
        _rename(state, lambda name: inner.sub("", name))
        taken.append("wrappers' names")
    is_taking = True
    while is_taking:
        is_taking = False
        for counter in COUNTERS:
            others = [name for name in state if name != counter]
            prefixed = all(n.startswith(OUTER_WRAPPERS) for n in others) and others
            if counter in state and counter not in own and prefixed:
                del state[counter]
        for prefix in OUTER_WRAPPERS:
            if not state or any(name.startswith(prefix) for name in own):
                continue
            if all(name.startswith(prefix) for name in state):
                strip_prefix(state, prefix)
                taken.append(f"{prefix!r}")
                is_taking = True
    return " and ".join(taken)


def strip_prefix(state: dict[str, Any], prefix: str) -> None:
    """Take a prefix that all names have off them, in place, also in the modules' versions."""
    if all(name.startswith(prefix) for name in state if name):
        _rename(state, lambda name: f"{name}.".removeprefix(prefix).removesuffix("."))


def _rename(state: dict[str, Any], new_name: Callable[[str], str]) -> None:
    for name in list(state):
        state[new_name(name)] = state.pop(name)
    metadata = getattr(state, "_metadata", None)
    if metadata is not None:
        inner = {new_name(name).removesuffix("."): entry for name, entry in metadata.items()}
        outermost = metadata.get("")
        metadata.clear()
        metadata.update(inner)
        if outermost is not None and "" not in inner:
            metadata[""] = outermost


@dataclass(frozen=True)
class Family:
    """A program whose names differ from ours.

    Attributes:
        name: what the report calls it.
        signature: names that only its state dicts have, all of them.
        translate: makes our names; tensors may change, too.
        background_was_first: whether class scores begin with the background's there.
        trained: key of ``conventions.TRAINED``: how its models see images.
    """

    name: str
    signature: Callable[[Collection[str]], bool]
    translate: Callable[[State], tuple[State, dict[str, str]]]
    trained: str = ""
    background_was_first: bool = False


Rules = tuple[tuple[str, str], ...]

RESNET_RULES: Rules = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^fc\.", "stem.fc."),
    (r"^layer1\.", "res2."),
    (r"^layer2\.", "res3."),
    (r"^layer3\.", "res4."),
    (r"^layer4\.", "res5."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)

MVIT_RULES: Rules = ((r"\.shortcut_proj_attn\.", ".proj."),)


def _by_rules(rules: Rules) -> Callable[[State], tuple[State, dict[str, str]]]:
    def translate(state: State) -> tuple[State, dict[str, str]]:
        return _renamed(state, lambda name: _apply(rules, name))

    return translate


def _apply(rules: Rules, name: str) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _renamed(state: State, new_name: Callable[[str], str]) -> tuple[State, dict[str, str]]:
    old_of_new = {new_name(name): name for name in state}
    return {new: state[old] for new, old in old_of_new.items()}, old_of_new


def _has(*names: str) -> Callable[[Collection[str]], bool]:
    return lambda present: all(name in present for name in names)


def _is_new_timm_swin(names: Collection[str]) -> bool:
    shift = "layers.{}.downsample.reduction.weight"
    return shift.format(0) not in names and shift.format(1) in names


def _timm_swin(state: State) -> tuple[State, dict[str, str]]:
    """Merging patches is the beginning of a stage there, and the end of the one before with us."""

    def earlier(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) - 1}.downsample."

    return _renamed(state, lambda name: re.sub(r"^layers\.(\d+)\.downsample\.", earlier, name))


def _timm_mvit(state: State) -> tuple[State, dict[str, str]]:
    """Blocks are counted in each stage there, and through all stages with us."""
    found = (re.match(r"stages\.(\d+)\.blocks\.(\d+)\.", name) for name in state)
    blocks = sorted({(int(match[1]), int(match[2])) for match in found if match})
    number = {f"stages.{s}.blocks.{b}.": f"blocks.{i}." for i, (s, b) in enumerate(blocks)}

    def rename(name: str) -> str:
        start = re.match(r"stages\.\d+\.blocks\.\d+\.", name)
        if start:
            name = number[start[0]] + name[start.end() :]
        return _apply(MVIT_RULES, name)

    return _renamed(state, rename)


def _caffe2(state: State) -> tuple[State, dict[str, str]]:
    blobs = {name: value for name, value in state.items() if not name.endswith("_momentum")}
    return convert_c2_detectron_names(blobs)


FAMILIES: tuple[Family, ...] = (
    Family("Caffe2", _has("conv1_w", "res2_0_branch2a_w"), _caffe2, "MSRA", True),
    Family(
        "torchvision's detectors",
        is_torchvision_detector,
        convert_torchvision_names,
        "torchvision",
        background_was_first=True,
    ),
    Family(
        "torchvision's or timm's ResNet",
        _has("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight"),
        _by_rules(RESNET_RULES),
        "torchvision",
    ),
    Family("timm's Swin", _is_new_timm_swin, _timm_swin, "torchvision"),
    Family(
        "timm's MViT",
        _has("stages.0.blocks.0.attn.qkv.weight", "patch_embed.proj.weight"),
        _timm_mvit,
        "torchvision",
    ),
)
"""Recognised in this order."""


def recognise(names: Collection[str]) -> Family | None:
    """Return the family that names belong to; None if they could be ours."""
    return next((family for family in FAMILIES if family.signature(names)), None)
