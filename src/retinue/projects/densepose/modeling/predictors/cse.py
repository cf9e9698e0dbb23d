"""Predicts segmentation and an embedding of each pixel from a head's features."""

import torch
from torch import nn

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.predictors.registry import DENSEPOSE_PREDICTOR_REGISTRY
from retinue.projects.densepose.modeling.utils import (
    build_enlarging_layer,
    enlarge,
    initialize_module_params,
)
from retinue.projects.densepose.structures.cse import DensePoseEmbeddingPredictorOutput

__all__ = ["DENSEPOSE_PREDICTOR_REGISTRY", "DensePoseEmbeddingPredictor"]


class DensePoseEmbeddingPredictor(nn.Module):
    """One layer for each output; see :class:`.DensePoseEmbeddingPredictorOutput`.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_channels: channels that the head gives.
    """

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__()
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        self.coarse_segm_lowres = build_enlarging_layer(
            cfg, input_channels, head.NUM_COARSE_SEGM_CHANNELS
        )
        self.embed_lowres = build_enlarging_layer(cfg, input_channels, head.CSE.EMBED_SIZE)
        self.scale_factor = head.UP_SCALE
        initialize_module_params(self)

    def interp2d(self, tensor_nchw: torch.Tensor) -> torch.Tensor:
        """Enlarge ``(R, C, H, W)`` by ``UP_SCALE``."""
        return enlarge(tensor_nchw, self.scale_factor)

    def forward(self, head_outputs: torch.Tensor) -> DensePoseEmbeddingPredictorOutput:
        """Map ``(R, D, H, W)`` to predictions of 2 * ``UP_SCALE`` times that size."""
        return DensePoseEmbeddingPredictorOutput(
            embedding=self.interp2d(self.embed_lowres(head_outputs)),
            coarse_segm=self.interp2d(self.coarse_segm_lowres(head_outputs)),
        )
