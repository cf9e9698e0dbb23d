"""Predicts segmentation and chart coordinates from a head's features."""

import torch
from torch import nn

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.predictors.registry import DENSEPOSE_PREDICTOR_REGISTRY
from retinue.projects.densepose.modeling.utils import (
    build_enlarging_layer,
    enlarge,
    initialize_module_params,
)
from retinue.projects.densepose.structures.chart import DensePoseChartPredictorOutput

__all__ = ["DENSEPOSE_PREDICTOR_REGISTRY", "DensePoseChartPredictor"]


class DensePoseChartPredictor(nn.Module):
    """One layer for each output; see :class:`.DensePoseChartPredictorOutput`.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_channels: channels that the head gives.
    """

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__()
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        charts = head.NUM_PATCHES + 1
        self.ann_index_lowres = build_enlarging_layer(
            cfg, input_channels, head.NUM_COARSE_SEGM_CHANNELS
        )
        self.index_uv_lowres = build_enlarging_layer(cfg, input_channels, charts)
        self.u_lowres = build_enlarging_layer(cfg, input_channels, charts)
        self.v_lowres = build_enlarging_layer(cfg, input_channels, charts)
        self.scale_factor = head.UP_SCALE
        initialize_module_params(self)

    def interp2d(self, tensor_nchw: torch.Tensor) -> torch.Tensor:
        """Enlarge ``(R, C, H, W)`` by ``UP_SCALE``."""
        return enlarge(tensor_nchw, self.scale_factor)

    def forward(self, head_outputs: torch.Tensor) -> DensePoseChartPredictorOutput:
        """Map ``(R, D, H, W)`` to predictions of 2 * ``UP_SCALE`` times that size."""
        layers = self.ann_index_lowres, self.index_uv_lowres, self.u_lowres, self.v_lowres
        coarse, fine, u, v = (self.interp2d(layer(head_outputs)) for layer in layers)
        return DensePoseChartPredictorOutput(coarse, fine, u, v)
