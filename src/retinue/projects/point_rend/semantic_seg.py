"""Semantic segmentation with PointRend: a coarse label map, refined at points.

Shapes
    N images; C channels; K classes; P points; H, W rows and columns of the padded batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.modeling.catalog import SEM_SEG_HEADS_REGISTRY
from retinue.modeling.config_fit import check_features
from retinue.projects.point_rend import point_features
from retinue.projects.point_rend.mask_head import put_at_cells
from retinue.projects.point_rend.point_head import build_point_head
from retinue.utils.errors import InputError

__all__ = ["PointRendSemSegHead", "calculate_uncertainty"]


def calculate_uncertainty(sem_seg_logits: torch.Tensor) -> torch.Tensor:
    """Measure how near the two best classes are: ``(N, K, ...)`` -> ``(N, 1, ...)``, at most 0."""
    first, second = sem_seg_logits.topk(2, dim=1).values.unbind(dim=1)
    return (second - first)[:, None]


class PointRendSemSegHead(nn.Module):
    """A head for label maps, and a point head that predicts uncertain pixels anew.

    Args:
        coarse_sem_seg_head: like :class:`retinue.modeling.SemSegFPNHead`, with ``layers`` and
            ``losses``.
        point_head: maps features and coarse logits at points to logits there.
        in_features: feature maps that the point head sees.
        ignore_value: label of pixels that are not trained on.
        train_num_points: points of an image to train on.
        oversample_ratio: see
            :func:`~.point_features.get_uncertain_point_coords_with_randomness`.
        importance_sample_ratio: likewise.
        subdivision_steps: how many times the size doubles in inference.
        subdivision_num_points: pixels predicted at each step.
    """

    coarse_sem_seg_head: Any  # more than a module: its layers and losses are called

    @configurable
    def __init__(
        self,
        *,
        coarse_sem_seg_head: nn.Module,
        point_head: nn.Module,
        in_features: Sequence[str],
        ignore_value: int,
        train_num_points: int,
        oversample_ratio: float = 3,
        importance_sample_ratio: float = 0.75,
        subdivision_steps: int = 2,
        subdivision_num_points: int = 8192,
    ) -> None:
        super().__init__()
        self.ignore_value = ignore_value
        self.coarse_sem_seg_head = coarse_sem_seg_head
        self.in_features = in_features
        self.train_num_points = train_num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio
        self.subdivision_steps = subdivision_steps
        self.subdivision_num_points = subdivision_num_points
        self.point_head = point_head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.POINT_HEAD
        if cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES != head.NUM_CLASSES:
            raise InputError(
                "MODEL.POINT_HEAD.NUM_CLASSES must be MODEL.SEM_SEG_HEAD.NUM_CLASSES; got"
                f" {head.NUM_CLASSES} and {cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}"
            )
        coarse = SEM_SEG_HEADS_REGISTRY.get(head.COARSE_SEM_SEG_HEAD_NAME)
        check_features("MODEL.POINT_HEAD.IN_FEATURES", head.IN_FEATURES, input_shape)
        channels = sum(input_shape[f].channels or 0 for f in head.IN_FEATURES)
        return {
            "coarse_sem_seg_head": coarse(cfg, input_shape),
            "point_head": build_point_head(cfg, ShapeSpec(channels=channels, width=1, height=1)),
            "in_features": head.IN_FEATURES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "train_num_points": head.TRAIN_NUM_POINTS,
            "oversample_ratio": head.OVERSAMPLE_RATIO,
            "importance_sample_ratio": head.IMPORTANCE_SAMPLE_RATIO,
            "subdivision_steps": head.SUBDIVISION_STEPS,
            "subdivision_num_points": head.SUBDIVISION_NUM_POINTS,
        }

    def forward(
        self, features: Mapping[str, torch.Tensor], targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Classify every pixel.

        Args:
            features: feature maps by name.
            targets: ``(N, H, W)`` int64 labels, needed in training.

        Returns:
            None and the losses in training; else logits ``(N, K, H, W)`` and nothing.
        """
        coarse = self.coarse_sem_seg_head.layers(features)  # (N, K, H / 4, W / 4)
        if self.training:
            losses = self.coarse_sem_seg_head.losses(coarse, targets)
            return None, losses | {
                "loss_sem_seg_point": self._point_loss(features, coarse, targets)
            }
        logits = coarse
        for _ in range(self.subdivision_steps):
            logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
            cells, points = point_features.get_uncertain_point_coords_on_grid(
                calculate_uncertainty(logits), self.subdivision_num_points
            )
            logits = put_at_cells(logits, cells, self._predict(features, coarse, points))
        return logits, {}

    def _predict(
        self, features: Mapping[str, torch.Tensor], coarse: torch.Tensor, points: torch.Tensor
    ) -> torch.Tensor:
        """Predict ``(N, K, P)`` logits at ``(N, P, 2)`` points in [0, 1] of the image."""

        def read(x: torch.Tensor) -> torch.Tensor:
            return point_features.point_sample(x, points, align_corners=False).to(x.dtype)

        fine = torch.cat([read(features[name]) for name in self.in_features], dim=1)
        return self.point_head(fine, read(coarse))

    def _point_loss(
        self, features: Mapping[str, torch.Tensor], coarse: torch.Tensor, targets: Any
    ) -> torch.Tensor:
        """Cross entropy at points; each has the label of the pixel it lies in."""
        with torch.no_grad():
            points = point_features.get_uncertain_point_coords_with_randomness(
                coarse,
                calculate_uncertainty,
                self.train_num_points,
                self.oversample_ratio,
                self.importance_sample_ratio,
            )
            labels = point_features.point_sample(
                targets[:, None].to(points.dtype), points, mode="nearest", align_corners=False
            )[:, 0].long()  # (N, P)
        logits = self._predict(features, coarse, points)
        return F.cross_entropy(logits, labels, ignore_index=self.ignore_value)
