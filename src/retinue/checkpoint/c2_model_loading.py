"""Names of weights: Caffe2's (Detectron 1) to ours, and matching names by their endings.

Reading order: ``align_and_update_state_dicts`` matches; ``convert_c2_detectron_names`` renames what
Detectron 1 wrote, by two tables: ``BACKBONE_RULES`` and ``DETECTOR_RULES``.
"""

from __future__ import annotations

import logging
import os.path
import re
from collections.abc import Mapping, Sequence

import torch

from retinue.checkpoint.report import group_names
from retinue.utils.errors import InputError

__all__ = [
    "align_and_update_state_dicts",
    "convert_basic_c2_names",
    "convert_c2_detectron_names",
]

logger = logging.getLogger(__name__)

Rules = Sequence[tuple[str, str]]

# Regular expressions and their replacements, applied in this order to names such as
# "res2_0_branch2a_bn_s", in which every "_" has become a "." by then.
BACKBONE_RULES: Rules = (
    (r"\.b$", ".bias"),
    (r"\.w$", ".weight"),
    # Statistics of batch norm, scale and shift of batch norm and group norm.
    (r"bn\.(?:rm|running\.mean)$", "norm.running_mean"),
    (r"bn\.(?:riv|running\.var)$", "norm.running_var"),
    (r"[bg]n\.(?:s|gamma)$", "norm.weight"),
    (r"[bg]n\.(?:bias|beta)$", "norm.bias"),
    # "conv1" alone is the stem; heads have a conv1 of their own, with a prefix.
    (r"^(?:res\.)?conv1\.", "stem.conv1."),
    (r"\.branch1\.", ".shortcut."),
    (r"\.branch2a\.", ".conv1."),
    (r"\.branch2b\.", ".conv2."),
    (r"\.branch2c\.", ".conv3."),
    # DensePose heads keep the underscores.
    (r"^body\.conv\.fcn", "body_conv_fcn"),
    (r"AnnIndex\.lowres", "ann_index_lowres"),
    (r"Index\.UV\.lowres", "index_uv_lowres"),
    (r"U\.lowres", "u_lowres"),
    (r"V\.lowres", "v_lowres"),
)

DETECTOR_RULES: Rules = (
    # The region proposal network; with an FPN, its shared layers are named after level 2.
    (r"conv\.rpn(?:\.fpn2)?", "proposal_generator.rpn_head.conv"),
    (r"rpn\.bbox\.pred(?:\.fpn2)?", "proposal_generator.rpn_head.anchor_deltas"),
    (r"rpn\.cls\.logits(?:\.fpn2)?", "proposal_generator.rpn_head.objectness_logits"),
    # Box head.
    (r"^bbox\.pred", "bbox_pred"),
    (r"^cls\.score", "cls_score"),
    (r"^fc6\.", "box_head.fc1."),
    (r"^fc7\.", "box_head.fc2."),
    (r"^head\.conv", "box_head.conv"),
    # FPN: fpn.inner.res2.2.sum.lateral.weight and fpn.res2.2.sum.weight, each maybe with a norm.
    (r"^fpn\.inner\.res(\d+)\..*?(\.norm)?\.(\w+)$", r"fpn_lateral\1\2.\3"),
    (r"^fpn\.res(\d+)\..*?(\.norm)?\.(\w+)$", r"fpn_output\1\2.\3"),
    # Mask head.
    (r"^\.(?:\[mask\]|mask)\.fcn", "mask_head.mask_fcn"),
    (r"mask\.fcn\.logits", "mask_head.predictor"),
    (r"conv5\.mask", "mask_head.deconv"),
    # Keypoint head, whose layers are called just "conv_fcn1" and so on.
    (r"conv\.fcn", "roi_heads.keypoint_head.conv_fcn"),
    (r"kps\.score\.lowres", "roi_heads.keypoint_head.score_lowres"),
    (r"kps\.score\.", "roi_heads.keypoint_head.score."),
)


def _rename(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def convert_basic_c2_names(original_keys: Sequence[str]) -> list[str]:
    """Rename the parameters of a Caffe2 backbone, in the order given.

    >>> convert_basic_c2_names(["conv1_w", "res2_0_branch2a_bn_s"])
    ['stem.conv1.weight', 'res2.0.conv1.norm.weight']
    """
    classifier = {"pred_w": "linear_w", "pred_b": "linear_b"}
    dotted = [classifier.get(key, key).replace("_", ".") for key in original_keys]
    return [_rename(name, BACKBONE_RULES) for name in dotted]


def convert_c2_detectron_names(
    weights: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Rename the parameters of a Caffe2 detector, and bring its outputs into our order.

    The background class comes first there; with us it is the last class score and has neither box
    deltas nor a mask.

    Args:
        weights: Caffe2 name -> tensor.

    Returns:
        (our name -> tensor, our name -> Caffe2 name)

    Raises:
        InputError: If two names become the same.
    """
    logger.info("Translating %d Caffe2 names of weights", len(weights))
    old_names = sorted(weights)
    new_names = [_rename(name, DETECTOR_RULES) for name in convert_basic_c2_names(old_names)]
    old_of_new: dict[str, str] = {}
    for new, old in zip(new_names, old_names, strict=True):
        if new in old_of_new:
            raise InputError(f"Caffe2 names {old_of_new[new]!r} and {old!r} both mean {new!r}")
        old_of_new[new] = old

    converted = {}
    for new, old in old_of_new.items():
        tensor = weights[old]
        if new.startswith("bbox_pred."):
            tensor = tensor[4:]  # the background's four deltas
        elif new.startswith("mask_head.predictor."):
            tensor = tensor[1:]
        elif new.startswith("cls_score."):
            tensor = tensor.roll(-1, dims=0)
        converted[new] = tensor
    return converted, old_of_new


def align_and_update_state_dicts(
    model_state_dict: Mapping[str, torch.Tensor],
    ckpt_state_dict: Mapping[str, torch.Tensor],
    c2_conversion: bool = True,
) -> dict[str, torch.Tensor]:
    """Rename a checkpoint's tensors to the model's names that end in theirs.

    A model that contains a backbone has longer names than a checkpoint of the backbone alone. Each
    name of the model takes the longest name of the checkpoint that it ends in, cut at a dot:
    ``backbone.res2.conv1.weight`` takes ``res2.conv1.weight`` before ``conv1.weight``.

    Args:
        model_state_dict: the model's names and tensors.
        ckpt_state_dict: the checkpoint's.
        c2_conversion: whether the checkpoint has Caffe2's names, which are translated first.

    Returns:
        A state dict of the checkpoint's tensors: matched ones under the model's names, the others
        under their own. One of another shape than the model's is not matched.

    Raises:
        ValueError: If a tensor of the checkpoint would go to two places in the model.
    """
    if c2_conversion:
        ckpt_state_dict, original_names = convert_c2_detectron_names(ckpt_state_dict)
    else:
        original_names = {name: name for name in ckpt_state_dict}

    taken: dict[str, str] = {}  # name in the checkpoint -> name in the model
    for name in sorted(model_state_dict):
        found = _longest_ending(name, ckpt_state_dict)
        if found is None:
            continue
        want, got = tuple(model_state_dict[name].shape), tuple(ckpt_state_dict[found].shape)
        if want != got:
            logger.warning(
                "%s is not loaded: its shape is %s in the checkpoint, but %s at %s of the model",
                found,
                got,
                want,
                name,
            )
            continue
        if found in taken:
            message = f"checkpoint: {found!r} fits both {taken[found]!r} and {name!r} of the model"
            logger.error("%s", message)
            raise ValueError(message + "; give the tensors full names before loading")
        taken[found] = name

    if not taken:
        logger.warning(
            "None of the checkpoint's %d names fits the model: it looks like another kind of model",
            len(ckpt_state_dict),
        )
        return dict(ckpt_state_dict)
    logger.info(
        "Matched %d tensors by the endings of their names:\n%s",
        len(taken),
        _matches(taken, original_names),
    )
    matched = {taken[found]: ckpt_state_dict[found] for found in sorted(taken, key=taken.get)}  # type: ignore[arg-type]
    others = {name: ckpt_state_dict[name] for name in sorted(ckpt_state_dict) if name not in taken}
    return matched | others


def _longest_ending(name: str, known: Mapping[str, torch.Tensor]) -> str | None:
    """Return the longest of the ``known`` names that ``name`` ends in, from a dot on."""
    while name not in known:
        _, dot, name = name.partition(".")
        if not dot:
            return None
    return name


def _matches(taken: Mapping[str, str], original_names: Mapping[str, str]) -> str:
    """Lay out what was matched, a line for each module of the model."""
    by_module: dict[str, list[str]] = {}
    for name in taken.values():
        by_module.setdefault(name.rpartition(".")[0], []).append(name)
    original = {name: original_names[found] for found, name in taken.items()}
    lines = []
    for _, names in sorted(by_module.items()):
        together = ", ".join(group_names(names))
        lines.append(f"  {together}  <-  {_group_str([original[name] for name in names])}")
    return "\n".join(lines)


def _longest_common_prefix_str(names: Sequence[str]) -> str:
    """Return the characters that all names begin with."""
    return os.path.commonprefix(list(names))  # noqa: RUF071 - characters are meant


def _group_str(names: Sequence[str]) -> str:
    """
    >>> _group_str(["conv1_w", "conv1_b"])
    'conv1_{b, w}'
    """
    start = _longest_common_prefix_str(names)
    if len(names) == 1:
        return names[0]
    return start + "{" + ", ".join(sorted(name[len(start) :] for name in names)) + "}"
