"""The keypoint branch of Keypoint R-CNN: one heat map for each keypoint of each region.

Shapes
    R regions, all images together; K keypoints; C channels; S side of a pooled region and H of a
    heat map, in cells, H = 4 S.

He et al., "Mask R-CNN" (2017), section 5, https://arxiv.org/abs/1703.06870.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import Conv2d, ConvTranspose2d, ShapeSpec
from retinue.modeling.catalog import ROI_KEYPOINT_HEAD_REGISTRY
from retinue.structures import Instances, heatmaps_to_keypoints
from retinue.utils.errors import InputError
from retinue.utils.events import log_scalars

__all__ = [
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "BaseKeypointRCNNHead",
    "KRCNNConvDeconvUpsampleHead",
    "build_keypoint_head",
]

_IGNORED = -100  # target of a keypoint that takes no part in the loss


def keypoint_rcnn_loss(
    pred_keypoint_logits: torch.Tensor,
    instances: Sequence[Instances],
    normalizer: float | None,
) -> torch.Tensor:
    """Ask for the cell of each visible keypoint among all cells of its heat map.

    Args:
        pred_keypoint_logits: ``(R, K, H, H)``.
        instances: per image, in the same order, with ``proposal_boxes`` and ``gt_keypoints``.
        normalizer: what the summed cross entropy is divided by; None for the number of keypoints
            that are visible and inside their region.

    Returns:
        A scalar; 0 if no keypoint takes part.
    """
    side = pred_keypoint_logits.shape[2]
    targets = [
        torch.where(valid.bool(), cell, _IGNORED).flatten()
        for cell, valid in (
            i.gt_keypoints.to_heatmap(i.proposal_boxes.tensor, side) for i in instances if len(i)
        )
    ]
    if not targets:
        log_scalars(kpts_num_skipped_batches=1, smoothing_hint=False)
        return pred_keypoint_logits.sum() * 0
    target = torch.cat(targets)  # (R K,)
    num_valid = (target != _IGNORED).sum()
    log_scalars(kpts_num_skipped_batches=num_valid == 0, smoothing_hint=False)
    logits = pred_keypoint_logits.flatten(0, 1).flatten(1)  # (R K, H H)
    loss = F.cross_entropy(logits, target, ignore_index=_IGNORED, reduction="sum")
    return loss / (num_valid.clamp(min=1) if normalizer is None else normalizer)


def keypoint_rcnn_inference(
    pred_keypoint_logits: torch.Tensor, pred_instances: list[Instances]
) -> None:
    """Give each detection its keypoints: sets two fields, in place.

    Args:
        pred_keypoint_logits: ``(R, K, H, H)``.
        pred_instances: per image, in the same order, with ``pred_boxes``. ``pred_keypoints``
            becomes ``(R_i, K, 3)``: x and y in pixels, score in [0, 1]; ``pred_keypoint_heatmaps``
            the ``(R_i, K, H, H)`` logits.
    """
    # Positions in half precision would be whole pixels off.
    dtype = torch.promote_types(pred_keypoint_logits.dtype, torch.float32)
    heatmaps = pred_keypoint_logits.detach().to(dtype)
    boxes = torch.cat([i.pred_boxes.tensor for i in pred_instances]).detach()
    keypoints = heatmaps_to_keypoints(heatmaps, boxes)[:, :, [0, 1, 3]]  # leaves out the logit
    num_rows = [len(i) for i in pred_instances]
    for points, maps, instances in zip(
        keypoints.split(num_rows), heatmaps.split(num_rows), pred_instances, strict=True
    ):
        instances.pred_keypoints = points
        instances.pred_keypoint_heatmaps = maps


class BaseKeypointRCNNHead(nn.Module):
    """Loss and inference of Keypoint R-CNN; a subclass brings ``layers``.

    Args:
        num_keypoints: K.
        loss_weight: factor of the loss.
        loss_normalizer: the loss is divided by this times the number of images; ``"visible"``
            divides by the number of keypoints that take part.

    Raises:
        InputError: If ``loss_normalizer`` is neither.
    """

    @configurable
    def __init__(
        self,
        *,
        num_keypoints: int,
        loss_weight: float = 1.0,
        loss_normalizer: float | str = 1.0,
    ) -> None:
        super().__init__()
        if loss_normalizer != "visible" and not isinstance(loss_normalizer, float | int):
            raise InputError(
                f"{type(self).__name__}: loss_normalizer must be a number or 'visible';"
                f" got {loss_normalizer!r}"
            )
        self.num_keypoints = num_keypoints
        self.loss_weight = loss_weight
        self.loss_normalizer = loss_normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head, regions = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        most_keypoints = (
            head.NUM_KEYPOINTS * regions.BATCH_SIZE_PER_IMAGE * regions.POSITIVE_FRACTION
        )
        return {
            "num_keypoints": head.NUM_KEYPOINTS,
            "loss_weight": head.LOSS_WEIGHT,
            "loss_normalizer": (
                "visible" if head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS else most_keypoints
            ),
        }

    def forward(self, x: torch.Tensor, instances: list[Instances]) -> Any:
        """Return ``loss_keypoint`` in training; otherwise the instances, with keypoints.

        Args:
            x: what ``layers`` takes, as a rule ``(R, C, S, S)`` region features.
            instances: per image, in the same order; proposals with ground truth in training,
                detections otherwise.
        """
        logits = self.layers(x)
        if self.training:
            normalizer = None  # the visible keypoints
            if not isinstance(self.loss_normalizer, str):
                normalizer = self.loss_normalizer * len(instances)
            loss = keypoint_rcnn_loss(logits, instances, normalizer)
            return {"loss_keypoint": loss * self.loss_weight}
        keypoint_rcnn_inference(logits, instances)
        return instances

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map region features to ``(R, K, H, H)`` logits."""
        raise NotImplementedError(f"{type(self).__name__} must define layers(x)")


class KRCNNConvDeconvUpsampleHead(BaseKeypointRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions with ReLU, a transposed convolution, and bilinear upsampling.

    Args:
        input_shape: shape of one region's features.
        num_keypoints: K.
        conv_dims: output channels of each 3x3 convolution.
        **kwargs: arguments of :class:`BaseKeypointRCNNHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: Iterable[int],
        **kwargs: Any,
    ) -> None:
        super().__init__(num_keypoints=num_keypoints, **kwargs)
        channels = input_shape.channels or 1
        for k, dim in enumerate(conv_dims, start=1):
            self.add_module(f"conv_fcn{k}", Conv2d(channels, dim, kernel_size=3, padding=1))
            self.add_module(f"conv_fcn_relu{k}", nn.ReLU())
            channels = dim
        self.score_lowres = ConvTranspose2d(
            channels, num_keypoints, kernel_size=4, stride=2, padding=1
        )
        self.up_scale = 2.0
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return super().from_config(cfg, input_shape) | {
            "input_shape": input_shape,
            "conv_dims": cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS,
        }

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` region features to ``(R, K, 4 S, 4 S)`` logits."""
        for layer in self:
            x = layer(x)
        return F.interpolate(x, scale_factor=self.up_scale, mode="bilinear", align_corners=False)


def build_keypoint_head(cfg: CfgNode, input_shape: Any) -> nn.Module:
    """Build the head that ``cfg.MODEL.ROI_KEYPOINT_HEAD.NAME`` names."""
    return ROI_KEYPOINT_HEAD_REGISTRY.get(cfg.MODEL.ROI_KEYPOINT_HEAD.NAME)(cfg, input_shape)
