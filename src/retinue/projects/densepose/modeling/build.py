"""Builds the parts that a config names."""

from typing import Any

from torch import nn

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.cse.embedder import Embedder
from retinue.projects.densepose.modeling.filter import DensePoseDataFilter
from retinue.projects.densepose.modeling.losses.registry import DENSEPOSE_LOSS_REGISTRY
from retinue.projects.densepose.modeling.predictors.registry import DENSEPOSE_PREDICTOR_REGISTRY
from retinue.projects.densepose.modeling.roi_heads.registry import ROI_DENSEPOSE_HEAD_REGISTRY

__all__ = [
    "build_densepose_data_filter",
    "build_densepose_embedder",
    "build_densepose_head",
    "build_densepose_losses",
    "build_densepose_predictor",
]


def build_densepose_predictor(cfg: CfgNode, input_channels: int) -> nn.Module:
    """Build the predictor that ``MODEL.ROI_DENSEPOSE_HEAD.PREDICTOR_NAME`` names."""
    name = cfg.MODEL.ROI_DENSEPOSE_HEAD.PREDICTOR_NAME
    return DENSEPOSE_PREDICTOR_REGISTRY.get(name)(cfg, input_channels)


def build_densepose_data_filter(cfg: CfgNode) -> DensePoseDataFilter:
    """Build what chooses the proposals to train on."""
    return DensePoseDataFilter(cfg)


def build_densepose_head(cfg: CfgNode, input_channels: int) -> nn.Module:
    """Build the head that ``MODEL.ROI_DENSEPOSE_HEAD.NAME`` names."""
    name = cfg.MODEL.ROI_DENSEPOSE_HEAD.NAME
    return ROI_DENSEPOSE_HEAD_REGISTRY.get(name)(cfg, input_channels)


def build_densepose_losses(cfg: CfgNode) -> Any:
    """Build the losses that ``MODEL.ROI_DENSEPOSE_HEAD.LOSS_NAME`` names."""
    return DENSEPOSE_LOSS_REGISTRY.get(cfg.MODEL.ROI_DENSEPOSE_HEAD.LOSS_NAME)(cfg)


def build_densepose_embedder(cfg: CfgNode) -> Embedder | None:
    """Build the embedder of mesh vertices; None if the config has no meshes."""
    return Embedder(cfg) if cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS else None
