"""What all heads of an R-CNN share: which proposals to train on, and what each should find.

Shapes
    N images; R_i proposals and G_i objects of image i; K object classes, the label K is
    background; C, H, W channels, rows and columns of a feature map.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.modeling.config_fit import check_features
from retinue.modeling.matcher import Matcher
from retinue.modeling.poolers import ROIPooler
from retinue.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from retinue.modeling.sampling import subsample_labels
from retinue.structures import ImageList, Instances, pairwise_iou
from retinue.utils.errors import InputError
from retinue.utils.events import log_scalars

__all__ = [
    "ROIHeads",
    "check_given_boxes",
    "make_pooler",
    "pooled_shape",
    "require_targets",
    "select_foreground_proposals",
    "select_proposals_with_visible_keypoints",
]

Features = Mapping[str, torch.Tensor]
Losses = dict[str, torch.Tensor]


def select_foreground_proposals(
    proposals: Sequence[Instances], bg_label: int
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Keep the proposals that hold an object.

    Args:
        proposals: per image, with ``gt_classes``; -1 is ignored.
        bg_label: the label of background.

    Returns:
        Per image the proposals that stay, and a bool mask ``(R_i,)`` of which these are.
    """
    masks = [(p.gt_classes != -1) & (p.gt_classes != bg_label) for p in proposals]
    kept = [p[mask.nonzero().flatten()] for p, mask in zip(proposals, masks, strict=True)]
    return kept, masks


def select_proposals_with_visible_keypoints(proposals: Sequence[Instances]) -> list[Instances]:
    """Keep the proposals whose object has at least one visible keypoint inside the proposal.

    Args:
        proposals: per image, with ``proposal_boxes`` and, unless empty, ``gt_keypoints``.
    """
    kept = [p[_sees_keypoint(p)] if len(p) else p for p in proposals]
    counts = [len(k) for k, p in zip(kept, proposals, strict=True) if len(p)]
    if counts:
        log_scalars({"keypoint_head/num_fg_samples": sum(counts) / len(counts)})
    return kept


def _sees_keypoint(proposals: Instances) -> torch.Tensor:
    """Return indices of the proposals with a visible keypoint inside."""
    point_xy, visibility = proposals.gt_keypoints.tensor.split(
        (2, 1), dim=2
    )  # (R, K, 2), (R, K, 1)
    low, high = proposals.proposal_boxes.tensor[:, None].split(2, dim=2)  # (R, 1, 2) each
    inside = ((point_xy >= low) & (point_xy <= high)).all(dim=2)
    return (inside & (visibility[:, :, 0] >= 1)).any(dim=1).nonzero().flatten()


class ROIHeads(nn.Module):
    """Labels and samples proposals for training; what is predicted from them is the subclass's.

    Args:
        num_classes: K, background not counted.
        batch_size_per_image: proposals to train on, in an image.
        positive_fraction: most of them, as a fraction, that may hold an object.
        proposal_matcher: tells which object a proposal belongs to.
        proposal_append_gt: add the true boxes to the proposals, so that there is something to
            learn from before proposals are any good.
    """

    pairwise_iou: Callable[..., torch.Tensor] = staticmethod(pairwise_iou)

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        heads = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": heads.NUM_CLASSES,
            "batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": heads.POSITIVE_FRACTION,
            "proposal_matcher": Matcher(
                heads.IOU_THRESHOLDS, heads.IOU_LABELS, allow_low_quality_matches=False
            ),
            "proposal_append_gt": heads.PROPOSAL_APPEND_GT,
        }

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: Sequence[Instances], targets: Sequence[Instances]
    ) -> list[Instances]:
        """Choose the proposals to train on and tell each what it should find.

        Args:
            proposals: per image, with ``proposal_boxes``.
            targets: per image, with ``gt_boxes``, ``gt_classes`` and any other ``gt_*``.

        Returns:
            Per image at most ``batch_size_per_image`` proposals with ``gt_classes`` in [0, K] and,
            if the image has objects, every ``gt_*`` field of the object that each belongs to
            (of any object where the label is background).
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled = [self._label_and_sample(p, t) for p, t in zip(proposals, targets, strict=True)]

        num_background = sum((s.gt_classes == self.num_classes).sum() for s in sampled)
        num_sampled = sum(len(s) for s in sampled)
        log_scalars(
            {
                "roi_head/num_fg_samples": (num_sampled - num_background) / len(sampled),
                "roi_head/num_bg_samples": num_background / len(sampled),
            }
        )
        return sampled

    def _label_and_sample(self, proposals: Instances, targets: Instances) -> Instances:
        """Do :meth:`label_and_sample_proposals` for one image."""
        iou = self.pairwise_iou(targets.gt_boxes, proposals.proposal_boxes)  # (G_i, R_i)
        matched, match_label = self.proposal_matcher(iou)  # (R_i,) each
        chosen, labels = self._sample_proposals(matched, match_label, targets.gt_classes)
        proposals = proposals[chosen]
        proposals.gt_classes = labels
        if len(targets):
            for name, value in targets.get_fields().items():
                if name.startswith("gt_") and not proposals.has(name):
                    proposals.set(name, value[matched[chosen]])
        return proposals

    def _sample_proposals(
        self, matched_idxs: torch.Tensor, matched_labels: torch.Tensor, gt_classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose proposals at random, objects first.

        Args:
            matched_idxs: ``(R_i,)`` index of the best object of each proposal.
            matched_labels: ``(R_i,)`` 1 for an object, 0 for background, -1 for neither.
            gt_classes: ``(G_i,)``.

        Returns:
            Indices of the chosen proposals, and the label of each, in [0, K].
        """
        labels = torch.full_like(matched_idxs, self.num_classes)
        if len(gt_classes):
            labels = torch.where(matched_labels == 0, labels, gt_classes[matched_idxs])
            labels = labels.masked_fill(matched_labels == -1, -1)
        objects, background = subsample_labels(
            labels, self.batch_size_per_image, self.positive_fraction, self.num_classes
        )
        chosen = torch.cat((objects, background))
        return chosen, labels[chosen]

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        """Find objects in proposals, or learn to.

        Args:
            images: the batch that features were computed from.
            features: ``(N, C, H, W)`` by name.
            proposals: per image, with ``proposal_boxes`` and ``objectness_logits``.
            targets: per image, in training, with ``gt_boxes``, ``gt_classes`` and what else the
                heads learn from: ``gt_masks``, ``gt_keypoints``.

        Returns:
            Per image what was found, and no losses; in training the proposals trained on (or an
            empty list), and losses by name.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward")


def make_pooler(
    head: CfgNode, input_shape: Mapping[str, ShapeSpec], in_features: Sequence[str]
) -> ROIPooler | None:
    """Build the pooler of one branch from its config node; none if it names no type."""
    check_features("MODEL.ROI_HEADS.IN_FEATURES", in_features, input_shape)
    if not head.POOLER_TYPE:
        return None
    return ROIPooler(
        output_size=head.POOLER_RESOLUTION,
        scales=tuple(1.0 / (input_shape[f].stride or 1) for f in in_features),
        sampling_ratio=head.POOLER_SAMPLING_RATIO,
        pooler_type=head.POOLER_TYPE,
    )


def pooled_shape(
    head: CfgNode, input_shape: Mapping[str, ShapeSpec], in_features: Sequence[str]
) -> Any:
    """Give the shape of what a head of :func:`make_pooler` gets: one region, or whole maps."""
    check_features("MODEL.ROI_HEADS.IN_FEATURES", in_features, input_shape)
    if not head.POOLER_TYPE:
        return {f: input_shape[f] for f in in_features}
    channels = {f: input_shape[f].channels for f in in_features}
    if len(set(channels.values())) != 1:
        raise InputError(
            "MODEL.ROI_HEADS.IN_FEATURES: feature maps that are pooled together must have the same"
            f" number of channels; got {channels}"
        )
    side = head.POOLER_RESOLUTION
    return ShapeSpec(channels=channels[in_features[0]], height=side, width=side)


def require_targets(targets: list[Instances] | None) -> list[Instances]:
    """Return the targets.

    Raises:
        InputError: If there are none.
    """
    if not targets:
        raise InputError(
            "ROI heads need targets in training, one Instances an image; got"
            f" {targets!r}; give each input dict 'instances', or call model.eval() first"
        )
    return targets


def check_given_boxes(heads: nn.Module, instances: list[Instances]) -> None:
    """Check that heads can add to detections whose boxes are known.

    Raises:
        InputError: If the heads are training, or detections lack boxes or classes.
    """
    if heads.training:
        raise InputError("forward_with_given_boxes is for inference; call eval() first")
    for i in instances:
        if not (i.has("pred_boxes") and i.has("pred_classes")):
            raise InputError(
                "forward_with_given_boxes: instances need pred_boxes and pred_classes; got fields"
                f" {sorted(i.get_fields())}"
            )
