"""Names of torchvision's and timm's classification networks, and ours for the same backbones.

A network is a table of regular expressions and replacements, applied in order, or a function where
parts are counted otherwise there. What has no place in a backbone, such as the classifier and the
class token, keeps its name or gets one that no model has, and is reported as not used.

Same names do not make the same network. ViT and MViT with a class token see it in attention, ours
don't; Swin there doesn't shift windows that are as large as its map; and torchvision rounds some
widths of RegNet otherwise, which ``AnyNet`` can be given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import torch

__all__ = [
    "by_rules",
    "convert_sam",
    "convert_swin",
    "convert_timm_mvit",
    "convert_timm_swin",
    "convert_torchvision_swin",
    "is_resnet",
    "is_sam",
    "is_timm_swin",
]

State = dict[str, torch.Tensor]
Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
Converted = tuple[State, dict[str, str]]
"""Our name -> tensor, and our name -> name there."""

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

# Three 3x3 convolutions instead of one 7x7, as DeepLab has them.
DEEP_STEM_RULES: Rules = (
    (r"^conv1\.0\.", "stem.conv1."),
    (r"^conv1\.1\.", "stem.conv1.norm."),
    (r"^conv1\.3\.", "stem.conv2."),
    (r"^conv1\.4\.", "stem.conv2.norm."),
    (r"^conv1\.6\.", "stem.conv3."),
    (r"^bn1\.", "stem.conv3.norm."),
    *RESNET_RULES[2:],
)

TIMM_REGNET_RULES: Rules = (
    (r"\.downsample\.conv\.", ".proj."),
    (r"\.downsample\.bn\.", ".bn."),
    (r"\.conv1\.conv\.", ".f.a."),
    (r"\.conv2\.conv\.", ".f.b."),
    (r"\.conv3\.conv\.", ".f.c."),
    (r"\.conv1\.bn\.", ".f.a_bn."),
    (r"\.conv2\.bn\.", ".f.b_bn."),
    (r"\.conv3\.bn\.", ".f.c_bn."),
    (r"\.se\.fc1\.", ".f.se.f_ex.0."),
    (r"\.se\.fc2\.", ".f.se.f_ex.2."),
)

TORCHVISION_REGNET_RULES: Rules = (
    (r"^stem\.0\.", "stem.conv."),
    (r"^stem\.1\.", "stem.bn."),
    (r"^trunk_output\.block(\d+)\.block\d+-(\d+)\.", lambda m: f"s{m[1]}.b{int(m[2]) + 1}."),
    (r"\.proj\.0\.", ".proj."),
    (r"\.proj\.1\.", ".bn."),
    (r"\.f\.([abc])\.0\.", r".f.\1."),
    (r"\.f\.([abc])\.1\.", r".f.\1_bn."),
    (r"\.se\.fc1\.", ".se.f_ex.0."),
    (r"\.se\.fc2\.", ".se.f_ex.2."),
)

TORCHVISION_VIT_RULES: Rules = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"^encoder\.ln\.", "norm."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)

TORCHVISION_SWIN_RULES: Rules = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)

MVIT_RULES: Rules = ((r"\.shortcut_proj_attn\.", ".proj."),)


def by_rules(rules: Rules) -> Callable[[State], Converted]:
    """Make a function that renames a state dict by a table."""

    def convert(state: State) -> Converted:
        return _renamed(state, lambda name: _apply(rules, name))

    return convert


def _apply(rules: Rules, name: str) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _renamed(state: State, new_name: Callable[[str], str]) -> Converted:
    old_of_new = {new_name(name): name for name in state}
    return {new: state[old] for new, old in old_of_new.items()}, old_of_new


def is_resnet(names: Collection[str], stem: str = "conv1.") -> bool:
    """Tell whether names are those of a ResNet whose shortcuts are a convolution and a norm.

    Some of timm's pool in a shortcut, which no ResNet of ours does.
    """
    needed = (f"{stem}weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight")
    return all(name in names for name in needed) and "layer2.0.downsample.2.weight" not in names


def is_timm_swin(names: Collection[str]) -> bool:
    """Tell whether names are those that timm has for Swin since 2023."""
    shift = "layers.{}.downsample.reduction.weight"
    return shift.format(0) not in names and shift.format(1) in names


def convert_swin(state: State) -> Converted:
    """Names are ours, but for the norm behind everything: that of the last stage's feature map."""
    last = _last_number(r"layers\.(\d+)\.", state)
    return _renamed(state, lambda name: re.sub(r"^norm\.", f"norm{last}.", name))


def convert_timm_swin(state: State) -> Converted:
    """Merging patches begins a stage there, and ends the one before with us."""
    last = _last_number(r"layers\.(\d+)\.", state)

    def rename(name: str) -> str:
        name = re.sub(r"^norm\.", f"norm{last}.", name)
        return re.sub(
            r"^layers\.(\d+)\.downsample\.",
            lambda m: f"layers.{int(m[1]) - 1}.downsample.",
            name,
        )

    return _renamed(state, rename)


def _last_number(pattern: str, names: Collection[str]) -> int:
    return max(int(match[1]) for match in (re.match(pattern, name) for name in names) if match)


def convert_torchvision_swin(state: State) -> Converted:
    """Stages and the merging of patches between them are counted in one list there."""
    last = _last_number(r"features\.(\d+)\.", state) // 2

    def stage(match: re.Match[str]) -> str:
        number = int(match[1])
        if number % 2 == 0:
            return f"layers.{number // 2 - 1}.downsample."
        return f"layers.{number // 2}.blocks."

    def rename(name: str) -> str:
        name = re.sub(r"^norm\.", f"norm{last}.", _apply(TORCHVISION_SWIN_RULES, name))
        return re.sub(r"^features\.(\d+)\.", stage, name)

    converted, old_of_new = _renamed(state, rename)
    for name, tensor in converted.items():
        if name.endswith("relative_position_index") and tensor.dim() == 1:  # flat there
            side = round(len(tensor) ** 0.5)
            converted[name] = tensor.unflatten(0, (side, -1))
    return converted, old_of_new


def convert_timm_mvit(state: State) -> Converted:
    """Blocks are counted in each stage there, and through all stages with us."""
    found = (re.match(r"stages\.(\d+)\.blocks\.(\d+)\.", name) for name in state)
    blocks = sorted({(int(match[1]), int(match[2])) for match in found if match})
    number = {f"stages.{s}.blocks.{b}.": f"blocks.{i}." for i, (s, b) in enumerate(blocks)}
    last = blocks[-1][0] + 2  # feature maps are called scale2 and on

    def rename(name: str) -> str:
        start = re.match(r"stages\.\d+\.blocks\.\d+\.", name)
        if start:
            name = number[start[0]] + name[start.end() :]
        return re.sub(r"^norm\.", f"scale{last}_norm.", _apply(MVIT_RULES, name))

    return _renamed(state, rename)


def is_sam(names: Collection[str]) -> bool:
    """Tell whether names are those of Segment Anything's image encoder."""
    return any(
        all(start + name in names for name in ("neck.0.weight", "pos_embed", "blocks.0.norm1.bias"))
        for start in ("", "image_encoder.")
    )


def convert_sam(state: State) -> Converted:
    """Names are ours; embeddings of places are a map there, and a list with us."""
    converted, old_of_new = _renamed(state, lambda name: name.removeprefix("image_encoder."))
    if "pos_embed" in converted and converted["pos_embed"].dim() == 4:
        converted["pos_embed"] = converted["pos_embed"].flatten(1, 2)
    return converted, old_of_new
