"""Loss of the coarse segmentation, by annotated parts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.losses.utils import resample_data
from retinue.structures import Instances

__all__ = ["SegmentationLoss"]


class SegmentationLoss:
    """Cross-entropy at every cell; the parts are annotated on a grid over the object's box.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.heatmap_size = cfg.MODEL.ROI_DENSEPOSE_HEAD.HEATMAP_SIZE
        self.n_segm_chan = cfg.MODEL.ROI_DENSEPOSE_HEAD.NUM_COARSE_SEGM_CHANNELS

    def __call__(
        self,
        proposals_with_gt: Sequence[Instances],
        densepose_predictor_outputs: Any,
        packed_annotations: Any,
    ) -> torch.Tensor:
        """Return a scalar, 0 if an annotated region has no parts.

        Args:
            proposals_with_gt: not used.
            densepose_predictor_outputs: with ``coarse_segm`` ``(R, K, S, S)``.
            packed_annotations: like :class:`.PackedChartBasedAnnotations`.
        """
        if packed_annotations.coarse_segm_gt is None:
            return self.fake_value(densepose_predictor_outputs)
        logits = densepose_predictor_outputs.coarse_segm[packed_annotations.bbox_indices]
        with torch.no_grad():
            boxes = packed_annotations.bbox_xywh_gt, packed_annotations.bbox_xywh_est
            parts = packed_annotations.coarse_segm_gt[:, None].to(boxes[0].dtype)
            labels = resample_data(parts, *boxes, self.heatmap_size, self.heatmap_size)[:, 0]
            labels = (labels > 0 if self.n_segm_chan == 2 else labels).long()
        return F.cross_entropy(logits, labels)

    def fake_value(self, densepose_predictor_outputs: Any) -> torch.Tensor:
        """Return 0 that depends on the predictions."""
        return densepose_predictor_outputs.coarse_segm.sum() * 0
