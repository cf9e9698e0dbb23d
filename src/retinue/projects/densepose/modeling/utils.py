"""Layers and their initial values, as DensePose's heads and predictors have them."""

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.layers import ConvTranspose2d

__all__ = ["build_enlarging_layer", "enlarge", "initialize_module_params"]


def initialize_module_params(module: nn.Module) -> None:
    """Fill weights with He's initialisation, by the size of the output, and biases with 0."""
    for name, parameter in module.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
        elif "weight" in name:
            nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")


def build_enlarging_layer(cfg: CfgNode, dim_in: int, dim_out: int) -> ConvTranspose2d:
    """Make the layer that a predictor has for each output: it doubles height and width."""
    kernel = cfg.MODEL.ROI_DENSEPOSE_HEAD.DECONV_KERNEL
    return ConvTranspose2d(dim_in, dim_out, kernel, stride=2, padding=kernel // 2 - 1)


def enlarge(x: torch.Tensor, scale_factor: float) -> torch.Tensor:
    """Interpolate ``(R, C, H, W)`` bilinearly to ``scale_factor`` times its size."""
    return F.interpolate(x, scale_factor=scale_factor, mode="bilinear", align_corners=False)
