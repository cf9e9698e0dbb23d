"""The plain head: a chain of convolutions over each region."""

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.layers import Conv2d
from retinue.projects.densepose.modeling.roi_heads.registry import ROI_DENSEPOSE_HEAD_REGISTRY
from retinue.projects.densepose.modeling.utils import initialize_module_params

__all__ = ["ROI_DENSEPOSE_HEAD_REGISTRY", "DensePoseV1ConvXHead"]


class DensePoseV1ConvXHead(nn.Module):
    """``NUM_STACKED_CONVS`` convolutions, each with a ReLU.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_channels: channels of the pooled regions.
    """

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__()
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        kernel = head.CONV_HEAD_KERNEL
        self.n_stacked_convs = head.NUM_STACKED_CONVS
        self.n_out_channels = input_channels
        for i in range(self.n_stacked_convs):
            conv = Conv2d(self.n_out_channels, head.CONV_HEAD_DIM, kernel, padding=kernel // 2)
            self.add_module(self._get_layer_name(i), conv)
            self.n_out_channels = head.CONV_HEAD_DIM
        initialize_module_params(self)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` to ``(R, CONV_HEAD_DIM, S, S)``."""
        for i in range(self.n_stacked_convs):
            features = F.relu(getattr(self, self._get_layer_name(i))(features))
        return features

    def _get_layer_name(self, i: int) -> str:
        return f"body_conv_fcn{i + 1}"
