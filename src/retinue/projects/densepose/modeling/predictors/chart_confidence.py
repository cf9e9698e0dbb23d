"""Adds confidences to a predictor of charts."""

from typing import Any

import torch
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.confidence import DensePoseConfidenceModelConfig
from retinue.projects.densepose.modeling.utils import (
    build_enlarging_layer,
    initialize_module_params,
)
from retinue.projects.densepose.structures.chart_confidence import (
    decorate_predictor_output_class_with_confidences,
)

__all__ = ["DensePoseChartConfidencePredictorMixin"]


class DensePoseChartConfidencePredictorMixin:
    """Placed before a predictor among a class's bases, predicts confidences with what that does.

    The predictor has ``interp2d`` and returns a dataclass with ``coarse_segm`` and ``fine_segm``,
    which the confidences of segmentation multiply.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_channels: channels that the head gives.
    """

    # Fields of the prediction that get a confidence of their own, of one channel.
    _segmentations: tuple[str, ...] = ("fine_segm", "coarse_segm")

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__(cfg, input_channels)  # type: ignore[call-arg]
        self.confidence_model_cfg = DensePoseConfidenceModelConfig.from_cfg(cfg)
        self._initialize_confidence_estimation_layers(cfg, input_channels)
        initialize_module_params(self)  # type: ignore[arg-type]

    def _initialize_confidence_estimation_layers(self, cfg: CfgNode, dim_in: int) -> None:
        """Make a layer, called ``<confidence>_lowres``, for each confidence."""
        charts = cfg.MODEL.ROI_DENSEPOSE_HEAD.NUM_PATCHES + 1
        for name in self.confidence_model_cfg.uv_confidence.fields:
            setattr(self, f"{name}_lowres", build_enlarging_layer(cfg, dim_in, charts))
        if self.confidence_model_cfg.segm_confidence.enabled:
            for name in self._segmentations:
                layer = build_enlarging_layer(cfg, dim_in, 1)
                setattr(self, f"{name}_confidence_lowres", layer)

    def forward(self, head_outputs: torch.Tensor) -> Any:
        """Map ``(R, D, H, W)`` to the predictor's output with confidences."""
        output = self._create_output_instance(super().forward(head_outputs))  # type: ignore[misc]
        for name in self.confidence_model_cfg.uv_confidence.fields:
            setattr(output, name, self._predict(name, head_outputs))
        segm = self.confidence_model_cfg.segm_confidence
        if segm.enabled:
            for name in self._segmentations:
                raw = self._predict(f"{name}_confidence", head_outputs)  # (R, 1, S, S)
                confidence = F.softplus(raw) + segm.epsilon
                setattr(output, f"{name}_confidence", confidence)
                setattr(output, name, getattr(output, name) * confidence)
        return output

    def _predict(self, name: str, head_outputs: torch.Tensor) -> torch.Tensor:
        layer = getattr(self, f"{name}_lowres")
        return self.interp2d(layer(head_outputs))  # type: ignore[attr-defined]

    def _create_output_instance(self, base_predictor_outputs: Any) -> Any:
        """Extend what the predictor gave by confidences that are None as yet."""
        plain: Any = type(base_predictor_outputs)
        extended = decorate_predictor_output_class_with_confidences(plain)
        return extended(**vars(base_predictor_outputs))
