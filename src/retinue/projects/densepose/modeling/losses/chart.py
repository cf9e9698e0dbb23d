"""Losses of charts: which chart a point lies in, and where in it.

Shapes
    R regions, all images together; C charts with background; S side of predictions; K points.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.losses.mask_or_segm import MaskOrSegmentationLoss
from retinue.projects.densepose.modeling.losses.registry import DENSEPOSE_LOSS_REGISTRY
from retinue.projects.densepose.modeling.losses.utils import (
    BilinearInterpolationHelper,
    ChartBasedAnnotationsAccumulator,
    LossDict,
    PackedChartBasedAnnotations,
    extract_packed_annotations_from_matches,
)
from retinue.structures import Instances

__all__ = ["DENSEPOSE_LOSS_REGISTRY", "DensePoseChartLoss"]


class DensePoseChartLoss:
    """Smooth L1 of coordinates, cross-entropy of charts at points and of coarse parts everywhere.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``, which has the weights of the losses.
    """

    def __init__(self, cfg: CfgNode) -> None:
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        self.heatmap_size = head.HEATMAP_SIZE
        self.n_segm_chan = head.NUM_COARSE_SEGM_CHANNELS
        self.w_points = head.POINT_REGRESSION_WEIGHTS
        self.w_part = head.PART_WEIGHTS
        self.w_segm = head.INDEX_WEIGHTS
        self.segm_trained_by_masks = head.COARSE_SEGM_TRAINED_BY_MASKS
        self.segm_loss = MaskOrSegmentationLoss(cfg)

    def __call__(
        self,
        proposals_with_gt: Sequence[Instances],
        densepose_predictor_outputs: Any,
        **kwargs: Any,
    ) -> LossDict:
        """Return the losses.

        Args:
            proposals_with_gt: regions of each image, R in all, with ``proposal_boxes``,
                ``gt_boxes`` and ``gt_densepose``.
            densepose_predictor_outputs: :class:`.DensePoseChartPredictorOutput` of R regions.
            **kwargs: ignored; other losses take an embedder.

        Returns:
            Scalars ``loss_densepose_U``, ``..._V`` (coordinates), ``..._I`` (charts), ``..._S``
            (coarse parts). Without a point on a body all are 0, and every prediction gets a
            gradient of 0, as training in several processes wants it.
        """
        accumulator = ChartBasedAnnotationsAccumulator()
        packed = extract_packed_annotations_from_matches(proposals_with_gt, accumulator)
        if packed is None:
            return self.produce_fake_densepose_losses(densepose_predictor_outputs)
        size_hw = densepose_predictor_outputs.u.shape[2:]
        interpolator = BilinearInterpolationHelper.from_matches(packed, size_hw)
        j_valid_fg = interpolator.j_valid & (packed.fine_segm_labels_gt > 0)
        if not j_valid_fg.any():  # a mean over no point would not be a number
            return self.produce_fake_densepose_losses(densepose_predictor_outputs)
        data = (proposals_with_gt, densepose_predictor_outputs, packed, interpolator, j_valid_fg)
        return self.produce_densepose_losses_uv(*data) | self.produce_densepose_losses_segm(*data)

    def produce_fake_densepose_losses(self, densepose_predictor_outputs: Any) -> LossDict:
        """Return losses of 0 that depend on all predictions."""
        return self.produce_fake_densepose_losses_uv(
            densepose_predictor_outputs
        ) | self.produce_fake_densepose_losses_segm(densepose_predictor_outputs)

    def produce_fake_densepose_losses_uv(self, densepose_predictor_outputs: Any) -> LossDict:
        """Return losses of 0 that depend on the coordinates."""
        return {
            "loss_densepose_U": densepose_predictor_outputs.u.sum() * 0,
            "loss_densepose_V": densepose_predictor_outputs.v.sum() * 0,
        }

    def produce_fake_densepose_losses_segm(self, densepose_predictor_outputs: Any) -> LossDict:
        """Return losses of 0 that depend on the segmentations."""
        return {
            "loss_densepose_I": densepose_predictor_outputs.fine_segm.sum() * 0,
            "loss_densepose_S": self.segm_loss.fake_value(densepose_predictor_outputs),
        }

    def produce_densepose_losses_uv(
        self,
        proposals_with_gt: Sequence[Instances],
        densepose_predictor_outputs: Any,
        packed_annotations: PackedChartBasedAnnotations,
        interpolator: BilinearInterpolationHelper,
        j_valid_fg: torch.Tensor,
    ) -> LossDict:
        """Return the losses of coordinates: the sum of smooth L1 over points on a body.

        Args:
            proposals_with_gt: see :meth:`__call__`.
            densepose_predictor_outputs: likewise.
            packed_annotations: the points.
            interpolator: where they lie in the predictions.
            j_valid_fg: ``(K,)`` bool, True for points in their region and on a body.
        """
        losses = {}
        for name in ("u", "v"):
            predicted = interpolator.extract_at_points(getattr(densepose_predictor_outputs, name))
            target = getattr(packed_annotations, f"{name}_gt")
            error = F.smooth_l1_loss(predicted[j_valid_fg], target[j_valid_fg], reduction="sum")
            losses[f"loss_densepose_{name.upper()}"] = error * self.w_points
        return losses

    def produce_densepose_losses_segm(
        self,
        proposals_with_gt: Sequence[Instances],
        densepose_predictor_outputs: Any,
        packed_annotations: PackedChartBasedAnnotations,
        interpolator: BilinearInterpolationHelper,
        j_valid_fg: torch.Tensor,
    ) -> LossDict:
        """Return the losses of charts, at the points, and of coarse parts, at all cells.

        Arguments are those of :meth:`produce_densepose_losses_uv`.
        """
        inside = interpolator.j_valid
        logits = interpolator.extract_all_channels(densepose_predictor_outputs.fine_segm)[inside]
        charts = packed_annotations.fine_segm_labels_gt[inside]
        coarse = self.segm_loss(proposals_with_gt, densepose_predictor_outputs, packed_annotations)
        return {
            "loss_densepose_I": F.cross_entropy(logits, charts) * self.w_part,
            "loss_densepose_S": coarse * self.w_segm,
        }
