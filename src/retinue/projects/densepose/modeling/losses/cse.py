"""Losses of continuous surface embeddings."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.losses.cycle_pix2shape import PixToShapeCycleLoss
from retinue.projects.densepose.modeling.losses.cycle_shape2shape import ShapeToShapeCycleLoss
from retinue.projects.densepose.modeling.losses.embed import EmbeddingLoss
from retinue.projects.densepose.modeling.losses.embed_utils import CseAnnotationsAccumulator
from retinue.projects.densepose.modeling.losses.mask_or_segm import MaskOrSegmentationLoss
from retinue.projects.densepose.modeling.losses.registry import DENSEPOSE_LOSS_REGISTRY
from retinue.projects.densepose.modeling.losses.soft_embed import SoftEmbeddingLoss
from retinue.projects.densepose.modeling.losses.utils import (
    BilinearInterpolationHelper,
    LossDict,
    extract_packed_annotations_from_matches,
)
from retinue.structures import Instances
from retinue.utils.errors import unknown_name

__all__ = ["DENSEPOSE_LOSS_REGISTRY", "DensePoseCseLoss"]


class DensePoseCseLoss:
    """Losses of the segmentation, of each mesh's embedding, and of cycles if they are enabled.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
    """

    _EMBED_LOSSES: ClassVar[dict[str, type[EmbeddingLoss]]] = {
        "EmbeddingLoss": EmbeddingLoss,
        "SoftEmbeddingLoss": SoftEmbeddingLoss,
    }

    def __init__(self, cfg: CfgNode) -> None:
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        self.w_segm = head.INDEX_WEIGHTS
        self.segm_loss = MaskOrSegmentationLoss(cfg)
        self.w_embed = head.CSE.EMBED_LOSS_WEIGHT
        self.embed_loss = self.create_embed_loss(cfg)
        self.do_shape2shape = head.CSE.SHAPE_TO_SHAPE_CYCLE_LOSS.ENABLED
        if self.do_shape2shape:
            self.w_shape2shape = head.CSE.SHAPE_TO_SHAPE_CYCLE_LOSS.WEIGHT
            self.shape2shape_loss = ShapeToShapeCycleLoss(cfg)
        self.do_pix2shape = head.CSE.PIX_TO_SHAPE_CYCLE_LOSS.ENABLED
        if self.do_pix2shape:
            self.w_pix2shape = head.CSE.PIX_TO_SHAPE_CYCLE_LOSS.WEIGHT
            self.pix2shape_loss = PixToShapeCycleLoss(cfg)

    @classmethod
    def create_embed_loss(cls, cfg: CfgNode) -> EmbeddingLoss:
        """Build the loss that ``CSE.EMBED_LOSS_NAME`` names.

        Raises:
            UnknownNameError: If there is no such loss.
        """
        name = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBED_LOSS_NAME
        if name not in cls._EMBED_LOSSES:
            raise unknown_name(
                "MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBED_LOSS_NAME", name, cls._EMBED_LOSSES
            )
        return cls._EMBED_LOSSES[name](cfg)

    def __call__(
        self,
        proposals_with_gt: Sequence[Instances],
        densepose_predictor_outputs: Any,
        embedder: nn.Module,
    ) -> LossDict:
        """Return the losses.

        Args:
            proposals_with_gt: regions of each image with ``proposal_boxes``, ``gt_boxes``,
                ``gt_densepose``; and ``gt_masks``, where masks are learnt from or cycles enabled.
            densepose_predictor_outputs: :class:`.DensePoseEmbeddingPredictorOutput` of them all.
            embedder: like :class:`.Embedder`.

        Returns:
            Scalars ``loss_densepose_S`` (segmentation), ``loss_densepose_E<mesh>`` for each mesh,
            ``loss_shape2shape`` and ``loss_pix2shape`` (cycles). All are 0 if no region has
            annotated points.
        """
        packed = extract_packed_annotations_from_matches(
            proposals_with_gt, CseAnnotationsAccumulator()
        )
        if packed is None:
            return self.produce_fake_losses(densepose_predictor_outputs, embedder)
        size_hw = densepose_predictor_outputs.embedding.shape[2:]
        interpolator = BilinearInterpolationHelper.from_matches(packed, size_hw)
        data = (proposals_with_gt, densepose_predictor_outputs, packed)
        losses = {"loss_densepose_S": self.w_segm * self.segm_loss(*data)}
        for mesh, loss in self.embed_loss(*data, interpolator, embedder).items():
            losses[f"loss_densepose_E{mesh}"] = self.w_embed * loss
        if self.do_shape2shape:
            losses["loss_shape2shape"] = self.w_shape2shape * self.shape2shape_loss(embedder)
        if self.do_pix2shape:
            losses["loss_pix2shape"] = self.w_pix2shape * self.pix2shape_loss(*data, embedder)
        return losses

    def produce_fake_losses(
        self, densepose_predictor_outputs: Any, embedder: nn.Module
    ) -> LossDict:
        """Return losses of 0 that depend on all predictions and embedders."""
        losses = {"loss_densepose_S": self.segm_loss.fake_value(densepose_predictor_outputs)}
        zeros = self.embed_loss.fake_values(densepose_predictor_outputs, embedder)
        losses |= {f"loss_densepose_E{mesh}": zero for mesh, zero in zeros.items()}
        if self.do_shape2shape:
            losses["loss_shape2shape"] = self.shape2shape_loss.fake_value(embedder)
        if self.do_pix2shape:
            losses["loss_pix2shape"] = self.pix2shape_loss.fake_value(
                densepose_predictor_outputs, embedder
            )
        return losses
