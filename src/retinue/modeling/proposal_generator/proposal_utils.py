"""From scored boxes at every place of a feature pyramid to a few hundred proposals an image.

Shapes
    N images; L levels; R_l anchors on level l; K best anchors of all levels together; B numbers a
    box: 4, or 5 when rotated.

Units
    Boxes are in pixels of the network input, scores are logits of objectness.

Reading order: find_top_rpn_proposals cuts each level to its best anchors and hands all levels and
images to top_proposals, which drops what is empty or not finite and suppresses duplicates. RPN
itself cuts before it decodes boxes, and calls the two halves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from retinue.layers import batched_nms, batched_nms_rotated
from retinue.structures import Boxes, Instances, RotatedBoxes
from retinue.utils.errors import InputError

__all__ = [
    "add_ground_truth_to_proposals",
    "add_ground_truth_to_proposals_single_image",
    "best_per_level",
    "find_top_rpn_proposals",
    "top_proposals",
]

# Logit of a probability of 1 - 1e-10: what an annotated box is worth among proposals.
GROUND_TRUTH_LOGIT = math.log((1.0 - 1e-10) / (1 - (1.0 - 1e-10)))


def find_top_rpn_proposals(
    proposals: Sequence[torch.Tensor],
    pred_objectness_logits: Sequence[torch.Tensor],
    image_sizes: Sequence[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Choose the proposals of each image.

    Per level and image the ``pre_nms_topk`` best boxes are clipped to the image and suppressed
    where they overlap a better one of their level; the best ``post_nms_topk`` of all levels remain.

    Args:
        proposals: for each level ``(N, R_l, B)`` boxes.
        pred_objectness_logits: for each level ``(N, R_l)``.
        image_sizes: (height, width) of each image, without padding.
        nms_thresh: IoU above which the box with the lower score goes.
        pre_nms_topk: how many boxes of a level take part.
        post_nms_topk: how many boxes of an image remain.
        min_box_size: both sides of a box must be longer than this, in pixels.
        training: whether a box or score that is not finite is an error; else it is dropped.

    Returns:
        for each image, best first, ``proposal_boxes`` and ``objectness_logits``.

    Raises:
        FloatingPointError: In training, if boxes or scores are not finite.
    """
    scores, level, boxes = best_per_level(pred_objectness_logits, pre_nms_topk, proposals)
    return top_proposals(
        boxes,
        scores,
        level,
        image_sizes,
        nms_thresh,
        post_nms_topk,
        min_box_size,
        training,
    )


def best_per_level(
    logits: Sequence[torch.Tensor], num_best: int, *values: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Find the ``num_best`` highest logits of each level, and what belongs to them.

    Args:
        logits: for each level ``(N, R_l)``.
        num_best: how many of a level are taken, at most.
        *values: each a list with ``(N, R_l, B)`` for each level.

    Returns:
        the logits, ``(N, K)``, level after level, best first in each; the level that each column
        came from, ``(K,)`` int64; and ``(N, K, B)`` for each of ``values``.
    """
    best = [x.topk(min(num_best, x.shape[1]), dim=1) for x in logits]
    level = torch.cat([torch.full_like(b.indices[0], i) for i, b in enumerate(best)])
    taken = [
        [
            x.gather(1, b.indices[..., None].expand(-1, -1, x.shape[2]))
            for x, b in zip(levels, best, strict=True)
        ]
        for levels in values
    ]
    return torch.cat([b.values for b in best], dim=1), level, *(torch.cat(x, dim=1) for x in taken)


def top_proposals(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    level: torch.Tensor,
    image_sizes: Sequence[tuple[int, int]],
    nms_thresh: float,
    num_kept: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Clip boxes to their images, drop useless ones, and suppress duplicates within a level.

    Args:
        boxes: ``(N, K, 4)``, or ``(N, K, 5)`` rotated boxes.
        scores: ``(N, K)``.
        level: ``(K,)`` int64; boxes suppress only boxes of their level.
        image_sizes: (height, width) of each image; images beyond the last one are left out.
        nms_thresh: IoU above which the box with the lower score goes.
        num_kept: how many proposals an image gets at most.
        min_box_size: both sides of a box must be longer than this, in pixels.
        training: whether values that are not finite are an error; else they are dropped.

    Returns:
        for each image, best first, ``proposal_boxes`` and ``objectness_logits``.

    Raises:
        FloatingPointError: In training, if boxes or scores are not finite.
    """
    boxes, scores = boxes[: len(image_sizes)], scores[: len(image_sizes)]
    is_finite = boxes.isfinite().all(dim=2) & scores.isfinite()  # (N, K)
    if training and not is_finite.all():
        raise FloatingPointError(
            "RPN: boxes or scores are infinite or NaN, training has diverged;"
            " lower SOLVER.BASE_LR or warm up longer"
        )
    rotated = boxes.shape[2] == 5
    box_type, nms = (RotatedBoxes, batched_nms_rotated) if rotated else (Boxes, batched_nms)
    per_image = [box_type(x) for x in boxes.where(is_finite[..., None], 0)]
    for boxes_of_image, size_hw in zip(per_image, image_sizes, strict=True):
        boxes_of_image.clip(size_hw)
    candidates = box_type.cat(per_image)  # N * K boxes, image by image
    scores = scores.flatten()  # (N * K,)
    image = torch.arange(len(boxes), device=level.device).repeat_interleave(len(level))
    # Boxes compete within their image and level.
    group = image * len(level) + level.repeat(len(boxes))

    is_usable = is_finite.flatten() & candidates.nonempty(threshold=min_box_size)
    usable = is_usable.nonzero()[:, 0]
    keep = nms(candidates.tensor[usable], scores[usable], group[usable], nms_thresh)
    keep = usable[keep]  # best first, all images mixed

    results = []
    for i, size_hw in enumerate(image_sizes):
        mine = keep[image[keep] == i][:num_kept]
        result = Instances(size_hw)
        result.proposal_boxes = candidates[mine]
        result.objectness_logits = scores[mine]
        results.append(result)
    return results


def add_ground_truth_to_proposals(
    gt: Sequence[Instances] | Sequence[Boxes], proposals: Sequence[Instances]
) -> Sequence[Instances]:
    """Append the annotated boxes of each image to its proposals, so that training sees them.

    Args:
        gt: one element an image, with ``gt_boxes``, or the boxes themselves.
        proposals: likewise, with ``proposal_boxes`` and ``objectness_logits``.

    Raises:
        InputError: If there are not as many of one as of the other.
    """
    if gt is None or len(gt) != len(proposals):
        got = "None" if gt is None else len(gt)
        raise InputError(
            "add_ground_truth_to_proposals: one gt for each of"
            f" {len(proposals)} images is needed; got {got}"
        )
    pairs: Iterable[tuple[Any, Instances]] = zip(gt, proposals, strict=True)
    return [add_ground_truth_to_proposals_single_image(*pair) for pair in pairs]


def add_ground_truth_to_proposals_single_image(
    gt: Instances | Boxes, proposals: Instances
) -> Instances:
    """Append the annotated boxes of one image to its proposals.

    Raises:
        InputError: If the proposals have a field that the annotations lack.
    """
    if not isinstance(gt, Instances):
        gt = Instances(proposals.image_size, gt_boxes=gt)
    logits = proposals.objectness_logits
    as_proposals = Instances(proposals.image_size, **gt.get_fields())
    as_proposals.proposal_boxes = gt.gt_boxes
    as_proposals.objectness_logits = logits.new_full((len(gt),), GROUND_TRUTH_LOGIT)

    for name in proposals.get_fields():
        if not as_proposals.has(name):
            raise InputError(
                f"add_ground_truth_to_proposals: proposals have a field {name!r} that gt lacks"
                f" (it has {sorted(gt.get_fields())}); add it to gt or remove it"
            )
    return Instances.cat([proposals, as_proposals])
