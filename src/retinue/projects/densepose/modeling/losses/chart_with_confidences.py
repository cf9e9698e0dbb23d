"""Losses of charts whose coordinates come with confidences.

Neverova, Novotny and Vedaldi, "Correlated Uncertainty for Learning Dense Correspondences from
Noisy Labels" (NeurIPS 2019), section 3: the negative logarithm of the errors' likelihood. With
d = (u - u', v - v') the error at a point and s its variance, which is at least epsilon:

    isotropic, covariance s I:               (log 2 pi + 2 log s + |d|^2 / s) / 2
    anisotropic, covariance s I + r r^T:     (log 2 pi + log s (s + |r|^2)
                                              + |d|^2 / s - <d, r>^2 / (s (s + |r|^2))) / 2
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.projects.densepose.modeling.confidence import (
    DensePoseConfidenceModelConfig,
    DensePoseUVConfidenceType,
)
from retinue.projects.densepose.modeling.losses.chart import DensePoseChartLoss
from retinue.projects.densepose.modeling.losses.registry import DENSEPOSE_LOSS_REGISTRY
from retinue.projects.densepose.modeling.losses.utils import (
    BilinearInterpolationHelper,
    LossDict,
    PackedChartBasedAnnotations,
)
from retinue.structures import Instances

__all__ = [
    "DENSEPOSE_LOSS_REGISTRY",
    "DensePoseChartWithConfidenceLoss",
    "IIDIsotropicGaussianUVLoss",
    "IndepAnisotropicGaussianUVLoss",
]


class DensePoseChartWithConfidenceLoss(DensePoseChartLoss):
    """:class:`.DensePoseChartLoss`; with confidences, coordinates share ``loss_densepose_UV``.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``; ``UV_CONFIDENCE`` says which confidences there are.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.confidence_model_cfg = DensePoseConfidenceModelConfig.from_cfg(cfg)
        uv = self.confidence_model_cfg.uv_confidence
        isotropic = uv.type is DensePoseUVConfidenceType.IID_ISO
        kind = IIDIsotropicGaussianUVLoss if isotropic else IndepAnisotropicGaussianUVLoss
        self.uv_loss_with_confidences: nn.Module = kind(uv.epsilon)

    def produce_fake_densepose_losses_uv(self, densepose_predictor_outputs: Any) -> LossDict:
        """Return losses of 0 that depend on the coordinates and their confidences."""
        confidences = self.confidence_model_cfg.uv_confidence.fields
        if not confidences:
            return super().produce_fake_densepose_losses_uv(densepose_predictor_outputs)
        sums = [getattr(densepose_predictor_outputs, n).sum() for n in ("u", "v", *confidences)]
        return {"loss_densepose_UV": torch.stack(sums).sum() * 0}

    def produce_densepose_losses_uv(
        self,
        proposals_with_gt: Sequence[Instances],
        densepose_predictor_outputs: Any,
        packed_annotations: PackedChartBasedAnnotations,
        interpolator: BilinearInterpolationHelper,
        j_valid_fg: torch.Tensor,
    ) -> LossDict:
        """See :meth:`.DensePoseChartLoss.produce_densepose_losses_uv`."""
        confidences = self.confidence_model_cfg.uv_confidence.fields
        if not confidences:
            return super().produce_densepose_losses_uv(
                proposals_with_gt,
                densepose_predictor_outputs,
                packed_annotations,
                interpolator,
                j_valid_fg,
            )
        predicted = [
            interpolator.extract_at_points(getattr(densepose_predictor_outputs, name))[j_valid_fg]
            for name in ("u", "v", *confidences)
        ]
        targets = [t[j_valid_fg] for t in (packed_annotations.u_gt, packed_annotations.v_gt)]
        loss = self.uv_loss_with_confidences(*predicted, *targets)
        return {"loss_densepose_UV": loss * self.w_points}


class IIDIsotropicGaussianUVLoss(nn.Module):
    """The isotropic loss above, summed over points.

    Args:
        sigma_lower_bound: least variance.
    """

    def __init__(self, sigma_lower_bound: float) -> None:
        super().__init__()
        self.sigma_lower_bound = sigma_lower_bound
        self.log2pi = math.log(2 * math.pi)

    def forward(
        self,
        u: torch.Tensor,
        v: torch.Tensor,
        sigma_u: torch.Tensor,
        target_u: torch.Tensor,
        target_v: torch.Tensor,
    ) -> torch.Tensor:
        """Return a scalar; all arguments are ``(K,)``, ``sigma_u`` before the softplus."""
        variance = F.softplus(sigma_u) + self.sigma_lower_bound
        squared_error = (u - target_u).square() + (v - target_v).square()
        return 0.5 * (self.log2pi + 2 * variance.log() + squared_error / variance).sum()


class IndepAnisotropicGaussianUVLoss(nn.Module):
    """The anisotropic loss above, summed over points.

    Args:
        sigma_lower_bound: least variance.
    """

    def __init__(self, sigma_lower_bound: float) -> None:
        super().__init__()
        self.sigma_lower_bound = sigma_lower_bound
        self.log2pi = math.log(2 * math.pi)

    def forward(
        self,
        u: torch.Tensor,
        v: torch.Tensor,
        sigma_u: torch.Tensor,
        kappa_u_est: torch.Tensor,
        kappa_v_est: torch.Tensor,
        target_u: torch.Tensor,
        target_v: torch.Tensor,
    ) -> torch.Tensor:
        """Return a scalar; all arguments are ``(K,)``, ``sigma_u`` before the softplus."""
        variance = F.softplus(sigma_u) + self.sigma_lower_bound
        direction = torch.stack([kappa_u_est, kappa_v_est])  # r
        error = torch.stack([u - target_u, v - target_v])  # d
        determinant = variance * (variance + direction.square().sum(dim=0))
        along = (error * direction).sum(dim=0).square()
        distance = error.square().sum(dim=0) / variance - along / determinant
        return 0.5 * (self.log2pi + determinant.log() + distance).sum()
