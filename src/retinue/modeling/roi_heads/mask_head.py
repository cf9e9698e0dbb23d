"""The mask branch of Mask R-CNN: a small mask for each region, its loss, the choice of its class.

Shapes
    R regions, all images together; K object classes, 1 where all share a mask; C channels;
    S side of a pooled region and M of a mask, in cells, M = 2 S.

He et al., "Mask R-CNN" (2017), section 3, https://arxiv.org/abs/1703.06870.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import Conv2d, ConvTranspose2d, ShapeSpec, get_norm
from retinue.layers.weight_init import c2_msra_fill
from retinue.modeling.catalog import ROI_MASK_HEAD_REGISTRY
from retinue.structures import Instances
from retinue.utils.errors import InputError
from retinue.utils.events import log_scalars

__all__ = [
    "ROI_MASK_HEAD_REGISTRY",
    "BaseMaskRCNNHead",
    "MaskRCNNConvUpsampleHead",
    "build_mask_head",
]


def mask_rcnn_loss(
    pred_mask_logits: torch.Tensor, instances: Sequence[Instances], vis_period: int = 0
) -> torch.Tensor:
    """Compare each region's mask, of its true class, with the truth cropped to the region.

    Args:
        pred_mask_logits: ``(R, K, M, M)``, or ``(R, 1, M, M)`` where classes share a mask.
        instances: per image, in the same order, with ``proposal_boxes``, ``gt_masks`` and
            ``gt_classes``.
        vis_period: taken for detectron2's callers; pictures are drawn by a training hook.

    Returns:
        Mean binary cross entropy over all cells; 0 if there are no regions.

    Raises:
        InputError: If masks aren't square.
    """
    side = pred_mask_logits.shape[3]
    if pred_mask_logits.shape[2] != side:
        raise InputError(
            f"mask_rcnn_loss: masks must be square; got {tuple(pred_mask_logits.shape[2:])}"
        )
    instances = [i for i in instances if len(i)]
    if not instances:
        return pred_mask_logits.sum() * 0
    target = torch.cat(
        [i.gt_masks.crop_and_resize(i.proposal_boxes.tensor, side) for i in instances]
    ).to(pred_mask_logits.device)  # (R, M, M), bool or a fraction of each cell
    logits = pred_mask_logits[:, 0]
    if pred_mask_logits.shape[1] > 1:
        logits = _of_class(pred_mask_logits, torch.cat([i.gt_classes for i in instances]))
    _log_mask_stats(logits, target > 0.5)
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))


def _of_class(masks: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Select ``(R, M, M)`` of ``(R, K, M, M)`` masks."""
    return masks[torch.arange(len(masks), device=masks.device), labels.long()]


def _log_mask_stats(logits: torch.Tensor, target: torch.Tensor) -> None:
    """Report how many cells are right, and of those of either kind how many are wrong."""
    wrong = (logits > 0) != target
    num_inside = target.sum()
    num_outside = target.numel() - num_inside
    log_scalars(
        {
            "mask_rcnn/accuracy": 1 - wrong.float().mean(),
            "mask_rcnn/false_positive": (wrong & ~target).sum() / num_outside.clamp(min=1),
            "mask_rcnn/false_negative": (wrong & target).sum() / num_inside.clamp(min=1),
        }
    )


def mask_rcnn_inference(pred_mask_logits: torch.Tensor, pred_instances: list[Instances]) -> None:
    """Give each detection the mask of its class: sets ``pred_masks``, in place.

    Args:
        pred_mask_logits: ``(R, K, M, M)``, or ``(R, 1, M, M)`` where classes share a mask.
        pred_instances: per image, in the same order, with ``pred_classes``. ``pred_masks`` becomes
            ``(R_i, 1, M, M)`` probabilities over the cells of the detection's box.
    """
    if pred_mask_logits.shape[1] > 1:
        labels = torch.cat([i.pred_classes for i in pred_instances])
        pred_mask_logits = _of_class(pred_mask_logits, labels)[:, None]
    masks = pred_mask_logits.sigmoid().split([len(i) for i in pred_instances])
    for mask, instances in zip(masks, pred_instances, strict=True):
        instances.pred_masks = mask


class BaseMaskRCNNHead(nn.Module):
    """Loss and inference of Mask R-CNN; a subclass brings ``layers``.

    Args:
        loss_weight: factor of the loss.
        vis_period: taken for detectron2's callers; pictures are drawn by a training hook.
    """

    @configurable
    def __init__(self, *, loss_weight: float = 1.0, vis_period: int = 0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.vis_period = vis_period

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Any) -> dict[str, Any]:
        return {"vis_period": cfg.VIS_PERIOD}

    def forward(self, x: Any, instances: list[Instances]) -> Any:
        """Return ``loss_mask`` in training; otherwise the instances, with ``pred_masks``.

        Args:
            x: what ``layers`` takes, as a rule ``(R, C, S, S)`` region features.
            instances: per image, in the same order; proposals with ground truth in training,
                detections otherwise.
        """
        logits = self.mask_logits(x, instances)
        if self.training:
            loss = mask_rcnn_loss(logits, instances, self.vis_period)
            return {"loss_mask": loss * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    def mask_logits(self, x: Any, instances: list[Instances]) -> torch.Tensor:
        """Map region features to ``(R, K, M, M)``, or ``(R, 1, M, M)`` of each region's class."""
        return self.layers(x)

    def layers(self, x: Any) -> torch.Tensor:
        """Map region features to ``(R, K, M, M)`` logits."""
        raise NotImplementedError(f"{type(self).__name__} must define layers(x)")


class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions, one transposed convolution that doubles the size, a 1x1 convolution.

    Args:
        input_shape: shape of one region's features.
        num_classes: K; 1 for one mask shared by all classes.
        conv_dims: output channels of each 3x3 convolution and, last, of the transposed one.
        conv_norm: norm after each 3x3 convolution, as :func:`retinue.layers.get_norm` takes it.
        **kwargs: arguments of :class:`BaseMaskRCNNHead`.

    Raises:
        InputError: If ``conv_dims`` is empty.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        conv_norm: str | Callable[[int], nn.Module] = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not conv_dims:
            raise InputError(
                "MaskRCNNConvUpsampleHead: conv_dims must name at least the channels of the"
                " transposed convolution; got none"
            )
        channels = input_shape.channels or 1
        self.conv_norm_relus = []
        for k, dim in enumerate(conv_dims[:-1], start=1):
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=nn.ReLU(),
            )
            self.add_module(f"mask_fcn{k}", conv)
            self.conv_norm_relus.append(conv)
            channels = dim
        self.deconv = ConvTranspose2d(channels, conv_dims[-1], kernel_size=2, stride=2)
        self.deconv_relu = nn.ReLU()
        self.predictor = Conv2d(conv_dims[-1], num_classes, kernel_size=1)

        for layer in (*self.conv_norm_relus, self.deconv):  # once all are made, as detectron2
            c2_msra_fill(layer)
        nn.init.normal_(self.predictor.weight, std=0.001)
        if self.predictor.bias is not None:
            nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_MASK_HEAD
        return super().from_config(cfg, input_shape) | {
            "input_shape": input_shape,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dims": [head.CONV_DIM] * (head.NUM_CONV + 1),
            "conv_norm": head.NORM,
        }

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` region features to ``(R, K, 2 S, 2 S)`` logits."""
        for layer in self:
            x = layer(x)
        return x

    def mask_logits(self, x: torch.Tensor, instances: list[Instances]) -> torch.Tensor:
        """Draw the mask of each region's class alone, ``(R, 1, 2 S, 2 S)``.

        A thousand classes then cost what one does. Who needs the masks of all classes calls
        ``layers``; so does this where it was replaced, or a hook listens to the predictor.
        """
        hidden: list[Any] = list(self)
        predictor = hidden.pop()
        is_own = getattr(self.layers, "__func__", None) is _LAYERS
        if not instances or not is_own or not _is_pointwise(predictor):
            return self.layers(x)
        for layer in hidden:
            x = layer(x)  # (R, C, M, M) in the end
        labels = torch.cat([i.gt_classes if self.training else i.pred_classes for i in instances])
        weight = predictor.weight.flatten(1)[labels.long(), None]  # (R, 1, C)
        logits = torch.bmm(weight, x.flatten(2)).unflatten(2, x.shape[2:])
        return logits + predictor.bias[labels.long(), None, None, None]


_LAYERS = MaskRCNNConvUpsampleHead.layers


def _is_pointwise(layer: nn.Module) -> bool:
    """Say whether a layer is a 1x1 convolution to several channels alone, without hooks."""
    return (
        type(layer) is Conv2d
        and (layer.kernel_size, layer.stride, layer.padding) == ((1, 1), (1, 1), (0, 0))
        and (layer.groups, layer.norm, layer.activation) == (1, None, None)
        and layer.bias is not None
        and layer.out_channels > 1
        and not (layer._forward_hooks or layer._forward_pre_hooks)
    )


def build_mask_head(cfg: CfgNode, input_shape: Any) -> nn.Module:
    """Build the head that ``cfg.MODEL.ROI_MASK_HEAD.NAME`` names."""
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)
