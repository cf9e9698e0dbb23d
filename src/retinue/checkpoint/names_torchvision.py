"""Names of torchvision's detectors, and ours for them.

Two steps. ``rename_torchvision_parts`` renames what both have, tensor for tensor: ResNet, feature
pyramid, region proposal network, heads of RetinaNet and FCOS. ``convert_torchvision_names`` also
renames the heads on regions and brings tensors into our order: the background class, first there,
is the last class score here and has neither box deltas nor a mask.

Files of older torchvision versions, the published ones among them, have other names in a few
places; both are read.

A config gives the same detections with the converted weights if it says what torchvision's models
take for granted: ``INPUT.FORMAT: RGB`` with ``MODEL.PIXEL_MEAN: [123.675, 116.28, 103.53]`` and
``PIXEL_STD: [58.395, 57.12, 57.375]``; ``MODEL.RESNETS.STRIDE_IN_1X1: False``; ``POOLER_TYPE:
ROIAlign`` with ``POOLER_SAMPLING_RATIO: 2`` of all heads; as many classes as the file has, without
background for R-CNN and with it for RetinaNet. Two things it cannot say: anchors are rounded to
whole pixels there, and p6 of its first RetinaNet comes from p5. Give such parts in plain Python, or
use ``retinue.torchvision``, whose models take these weights as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

import torch

from retinue.utils.errors import InputError

__all__ = [
    "convert_torchvision_names",
    "is_torchvision_detector",
    "rename_torchvision_parts",
]

Rules = tuple[tuple[str, str], ...]

NUM_ASPECT_RATIOS = 3  # of RetinaNet's anchors; their sizes are told from the number of anchors

PART_RULES: Rules = (
    # ResNet.
    (r"^backbone\.body\.(conv1|bn1|layer\d)\.", r"backbone.bottom_up.\1."),
    (r"^(backbone\.bottom_up)\.conv1\.", r"\1.stem.conv1."),
    (r"^(backbone\.bottom_up)\.bn1\.", r"\1.stem.conv1.norm."),
    (r"^(backbone\.bottom_up\..*)\.bn(\d)\.", r"\1.conv\2.norm."),
    (r"^(backbone\.bottom_up\..*)\.downsample\.0\.", r"\1.shortcut."),
    (r"^(backbone\.bottom_up\..*)\.downsample\.1\.", r"\1.shortcut.norm."),
    # Pyramid; before its convolutions had norms, their names had no number.
    (r"^(backbone)\.fpn\.(inner|layer)_blocks\.(\d+)\.(?:0\.)?(weight|bias)$", r"\1.\2\3.\4"),
    (r"^(backbone)\.fpn\.(inner|layer)_blocks\.(\d+)\.1\.", r"\1.\2\3.norm."),
    (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
    # Region proposal network.
    (r"^rpn\.head\.conv\.(weight|bias)$", r"proposal_generator.rpn_head.conv.\1"),
    (r"^rpn\.head\.conv\.(\d+)\.0\.", r"proposal_generator.rpn_head.conv.conv\1."),
    (r"^rpn\.head\.cls_logits\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn\.head\.bbox_pred\.", "proposal_generator.rpn_head.anchor_deltas."),
    # RetinaNet and FCOS.
    (r"^head\.classification_head\.conv\.", "head.cls_subnet."),
    (r"^head\.regression_head\.conv\.", "head.bbox_subnet."),
    (r"^head\.classification_head\.cls_logits\.", "head.cls_score."),
    (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
    (r"^head\.regression_head\.bbox_ctrness\.", "head.ctrness."),
)

REGION_RULES: Rules = (
    (r"^(roi_heads\.box_head)\.fc6\.", r"\1.fc1."),
    (r"^(roi_heads\.box_head)\.fc7\.", r"\1.fc2."),
    (r"^(roi_heads\.mask_predictor)\.conv5_mask\.", "roi_heads.mask_head.deconv."),
    (r"^(roi_heads\.mask_predictor)\.mask_fcn_logits\.", "roi_heads.mask_head.predictor."),
    (
        r"^(roi_heads\.keypoint_predictor)\.kps_score_lowres\.",
        "roi_heads.keypoint_head.score_lowres.",
    ),
)

# Numbers that are counted otherwise here.
COUNTED: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"^roi_heads\.mask_head\.(\d)\.0\.", lambda m: f"roi_heads.mask_head.mask_fcn{_next(m)}."),
    (
        r"^roi_heads\.mask_head\.(\d)\.1\.",
        lambda m: f"roi_heads.mask_head.mask_fcn{_next(m)}.norm.",
    ),
    (
        r"^roi_heads\.keypoint_head\.(\d+)\.",
        lambda m: f"roi_heads.keypoint_head.conv_fcn{int(m[1]) // 2 + 1}.",
    ),
    (r"^roi_heads\.box_head\.(\d)\.0\.", lambda m: f"roi_heads.box_head.conv{_next(m)}."),
    (r"^roi_heads\.box_head\.(\d)\.1\.", lambda m: f"roi_heads.box_head.conv{_next(m)}.norm."),
    (r"^roi_heads\.box_head\.\d\.(weight|bias)$", lambda m: f"roi_heads.box_head.fc1.{m[1]}"),
)


def _next(match: re.Match[str]) -> int:
    return int(match[1]) + 1


def is_torchvision_detector(names: Collection[str]) -> bool:
    """Tell whether names are those of a detector of torchvision."""
    return any(
        name in names
        for name in ("rpn.head.cls_logits.weight", "head.classification_head.cls_logits.weight")
    )


def rename_torchvision_parts(
    state: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Rename what torchvision's detectors share with ours; all else keeps its name of today.

    Args:
        state: name -> tensor.

    Returns:
        (our name -> tensor, our name -> name there)
    """
    first_level = 5 - max(
        (
            int(m[1])
            for m in map(re.compile(r"backbone\.fpn\.inner_blocks\.(\d+)").match, state)
            if m
        ),
        default=3,
    )
    # Layers of RetinaNet's head are counted with their activation, and with their norm if any.
    num_layers = 3 if "head.classification_head.conv.0.1.weight" in state else 2
    has_one_conv = "rpn.head.conv.1.0.weight" not in state  # a single one has no number here

    def rename(name: str) -> str:
        if has_one_conv:
            name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for pattern, replacement in PART_RULES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(
            r"^backbone\.bottom_up\.layer(\d)",
            lambda m: f"backbone.bottom_up.res{_next(m)}",
            name,
        )
        name = re.sub(
            r"^backbone\.(inner|layer)(\d)\.",
            lambda m: f"backbone.fpn_{_FPN[m[1]]}{int(m[2]) + first_level}.",
            name,
        )
        name = re.sub(
            r"^head\.(cls|bbox)_subnet\.(\d+)\.([01])\.",
            lambda m: f"head.{m[1]}_subnet.{int(m[2]) * num_layers + int(m[3])}.",
            name,
        )
        return re.sub(
            r"^roi_heads\.mask_head\.mask_fcn(\d)\.",
            lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0.",
            name,
        )

    return _renamed(state, rename)


_FPN = {"inner": "lateral", "layer": "output"}


def convert_torchvision_names(
    state: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Rename the weights of a detector of torchvision, and bring its outputs into our order.

    Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS on a ResNet with a feature pyramid, in both
    versions of torchvision's builders.

    Args:
        state: name -> tensor.

    Returns:
        (our name -> tensor, our name -> torchvision's name)

    Raises:
        InputError: If these are no names of torchvision's detectors.
    """
    if not is_torchvision_detector(state):
        raise InputError(
            "expected the state dict of a detector of torchvision, with names such as"
            f" 'rpn.head.cls_logits.weight'; got {sorted(state)[:3]}, ..."
        )
    parts, old_of_part = rename_torchvision_parts(state)

    def rename(name: str) -> str:
        for pattern, replacement in REGION_RULES:
            name = re.sub(pattern, replacement, name)
        for pattern, count in COUNTED:
            name = re.sub(pattern, count, name)
        return name

    parts = {n: x for n, x in parts.items() if not n.endswith("num_batches_tracked")}
    converted, part_of_new = _renamed(parts, rename)
    converted = {name: _in_our_order(name, converted) for name in converted}
    for name in [n for n in converted if re.match(r"head\.\w+_subnet\.\d+\.weight$", n)]:
        bias = name.replace("weight", "bias")  # left out there before a norm, always there here
        converted.setdefault(bias, converted[name].new_zeros(len(converted[name])))
    return converted, {new: old_of_part[part] for new, part in part_of_new.items()}


def _in_our_order(name: str, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tensor = state[name]
    if name.startswith("roi_heads.box_predictor.cls_score."):
        return tensor.roll(-1, dims=0)
    if name.startswith("roi_heads.box_predictor.bbox_pred."):
        return tensor[4:]  # the background's four deltas
    if name.startswith("roi_heads.mask_head.predictor."):
        return tensor[1:]
    if name.startswith(("head.cls_score.", "head.bbox_pred.")):
        return _by_size_first(tensor, num_anchors=len(state["head.bbox_pred.bias"]) // 4)
    return tensor


def _by_size_first(tensor: torch.Tensor, num_anchors: int) -> torch.Tensor:
    """Reorder outputs of anchors: all sizes of a ratio there, all ratios of a size here."""
    if num_anchors % NUM_ASPECT_RATIOS:
        return tensor
    grid = tensor.unflatten(0, (NUM_ASPECT_RATIOS, num_anchors // NUM_ASPECT_RATIOS, -1))
    return grid.transpose(0, 1).flatten(0, 2).contiguous()


def _renamed(
    state: Mapping[str, torch.Tensor], rename: Callable[[str], str]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    old_of_new = {rename(name): name for name in state}
    return {new: state[old] for new, old in old_of_new.items()}, old_of_new
