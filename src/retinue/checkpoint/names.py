"""Whose names a state dict has, and what ours are for them.

Three steps, each a table and a few lines: ``unwrap`` takes off what wrappers put before names
(``module.``, ``_orig_mod.``, ...); ``recognise`` tells the family of the rest by a few names that
only this family has; ``Family.translate`` renames it. The tables are in ``c2_model_loading``,
``names_torchvision`` (detectors) and ``names_classifiers``. ``put_under_prefix`` gives names of a
backbone those that it has in a detector.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from retinue.checkpoint import names_classifiers as classifiers
from retinue.checkpoint.c2_model_loading import convert_c2_detectron_names
from retinue.checkpoint.names_torchvision import (
    convert_torchvision_names,
    is_torchvision_detector,
)

__all__ = ["FAMILIES", "Family", "put_under_prefix", "recognise", "strip_prefix", "unwrap"]

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
        trained: key of ``conventions.TRAINED``: how its models see images.
        background_was_first: whether class scores begin with the background's there.
        has_many_prefixes: whether its tensors belong under different prefixes of a model.
    """

    name: str
    signature: Callable[[Collection[str]], bool]
    translate: Callable[[State], tuple[State, dict[str, str]]]
    trained: str = ""
    background_was_first: bool = False
    has_many_prefixes: bool = False


def _has(*names: str) -> Callable[[Collection[str]], bool]:
    return lambda present: all(name in present for name in names)


def _caffe2(state: State) -> tuple[State, dict[str, str]]:
    blobs = {name: value for name, value in state.items() if not name.endswith("_momentum")}
    return convert_c2_detectron_names(blobs)


FAMILIES: tuple[Family, ...] = (
    Family("Caffe2", _has("conv1_w", "res2_0_branch2a_w"), _caffe2, "MSRA", True, True),
    Family(
        "torchvision's detectors",
        is_torchvision_detector,
        convert_torchvision_names,
        "torchvision",
        background_was_first=True,
    ),
    Family(
        "torchvision's or timm's ResNet",
        classifiers.is_resnet,
        classifiers.by_rules(classifiers.RESNET_RULES),
        "torchvision",
    ),
    Family(
        "timm's ResNet with a deep stem",
        partial(classifiers.is_resnet, stem="conv1.6."),
        classifiers.by_rules(classifiers.DEEP_STEM_RULES),
        "torchvision",
    ),
    Family(
        "timm's RegNet",
        _has("stem.conv.weight", "s1.b1.conv1.conv.weight", "s1.b1.conv1.bn.weight"),
        classifiers.by_rules(classifiers.TIMM_REGNET_RULES),
        "torchvision",
    ),
    Family(
        "torchvision's RegNet",
        _has("stem.0.weight", "trunk_output.block1.block1-0.f.a.0.weight"),
        classifiers.by_rules(classifiers.TORCHVISION_REGNET_RULES),
        "torchvision",
    ),
    Family("timm's Swin", classifiers.is_timm_swin, classifiers.convert_timm_swin, "torchvision"),
    Family(
        "torchvision's Swin",
        _has("features.0.0.weight", "features.1.0.attn.relative_position_bias_table"),
        classifiers.convert_torchvision_swin,
        "torchvision",
    ),
    Family(
        "timm's MViT",
        _has("stages.0.blocks.0.attn.qkv.weight", "patch_embed.proj.weight"),
        classifiers.convert_timm_mvit,
        "torchvision",
    ),
    Family(
        "torchvision's ViT",
        _has("conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight"),
        classifiers.by_rules(classifiers.TORCHVISION_VIT_RULES),
        "torchvision",
    ),
    Family(
        "Segment Anything's ViT",
        classifiers.is_sam,
        classifiers.convert_sam,
        "torchvision",
    ),
    Family(
        "Swin's authors",
        _has("layers.0.blocks.0.attn.qkv.weight", "layers.0.downsample.reduction.weight"),
        classifiers.convert_swin,
        "torchvision",
    ),
    # With the parts' names of ours, but without the prefix that a detector has before them. Some
    # were trained with other means than ImageNet's, which no name shows.
    Family(
        "timm's or MAE's ViT",
        _has("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"),
        classifiers.by_rules(()),
    ),
)
"""Recognised in this order."""


def recognise(names: Collection[str]) -> Family | None:
    """Return the family that names belong to; None if they could be ours."""
    return next((family for family in FAMILIES if family.signature(names)), None)


def put_under_prefix(state: State, own: Collection[str]) -> State:
    """Give names of a part, such as a backbone, those that the part has in the model.

    Args:
        state: name -> tensor.
        own: the model's names.

    Returns:
        ``state`` with one prefix before names, the one with which the model has most of them; as
        it is if the model has none of them.

    Raises:
        ValueError: If two prefixes do equally well: the model has two such parts.
    """
    counts: Counter[str] = Counter()
    for name in own:
        prefix = ""
        for part in [*name.split("."), ""]:
            if name.removeprefix(prefix) in state:
                counts[prefix] += 1
            prefix += f"{part}."
    if not counts:
        return state
    (best, most), *others = counts.most_common(2)
    if others and others[0][1] == most:
        raise ValueError(
            f"checkpoint: its tensors fit both {best!r} and {others[0][0]!r} of the model; give"
            " them full names before loading"
        )
    # A name that the model has elsewhere is meant for the part, too: a classifier is no RPN's head.
    return {
        best + name if best + name in own or name in own else name: tensor
        for name, tensor in state.items()
    }
