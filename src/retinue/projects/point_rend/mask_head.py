"""Mask heads of PointRend: a coarse mask for each region, and finer values at chosen points.

Shapes
    R regions, all images together; C channels; K classes; P points; S side of the sampled region.

Reading order: PointRendMaskHead.forward; in inference ``_subdivision_inference`` doubles the size
of the mask again and again and predicts only the cells that interpolation leaves uncertain.
ImplicitPointRendMaskHead replaces the coarse mask by the weights of a network, one for each region.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import Conv2d, ShapeSpec
from retinue.layers.weight_init import c2_msra_fill, c2_xavier_fill
from retinue.modeling.config_fit import check_features
from retinue.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from retinue.projects.point_rend import point_features
from retinue.projects.point_rend.point_head import build_point_head, roi_mask_point_loss
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError

__all__ = [
    "ConvFCHead",
    "ImplicitPointRendMaskHead",
    "PointRendMaskHead",
    "calculate_uncertainty",
    "put_at_cells",
    "rename_keys",
]

logger = logging.getLogger(__name__)
Features = Mapping[str, torch.Tensor]


def calculate_uncertainty(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Measure how near the mask of each region's class is to 0, between inside and outside.

    Args:
        logits: ``(R, K, ...)``, or ``(R, 1, ...)`` where classes share a mask.
        classes: ``(R,)`` int64.

    Returns:
        ``(R, 1, ...)``, at most 0, larger for less certain.
    """
    if logits.shape[1] > 1:
        logits = logits[torch.arange(len(logits), device=logits.device), classes][:, None]
    return -logits.abs()


def rename_keys(state_dict: dict[str, Any], prefix: str, renames: Mapping[str, str]) -> None:
    """Give keys of an old checkpoint below ``prefix`` their new beginnings, in place."""
    for old, new in renames.items():
        for key in [k for k in state_dict if k.startswith(prefix + old)]:
            logger.info("PointRend: %s is read as %s...", key, prefix + new)
            state_dict[prefix + new + key[len(prefix + old) :]] = state_dict.pop(key)


class ConvFCHead(nn.Module):
    """Convolutions that shrink a region, then fully connected layers over all of it.

    Args:
        input_shape: channels, height and width of one region, in cells.
        conv_dim: channels of the convolutions; the first is left out if the input has no more.
        fc_dims: width of each fully connected layer.
        output_shape: what is predicted for each region.

    Raises:
        InputError: If the input has fewer channels than the convolutions.
    """

    _version = 2

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dim: int,
        fc_dims: Sequence[int],
        output_shape: Sequence[int],
    ) -> None:
        super().__init__()
        self.output_shape = tuple(output_shape)
        channels, height, width = input_shape.channels, input_shape.height, input_shape.width
        if (channels or 0) < conv_dim:
            raise InputError(
                f"ConvFCHead: conv_dim, MODEL.ROI_MASK_HEAD.CONV_DIM, is {conv_dim}, but feature"
                f" maps in MODEL.ROI_MASK_HEAD.IN_FEATURES have {channels} channels together; set"
                " CONV_DIM to as many or fewer"
            )
        self.conv_layers: list[Conv2d] = []
        if (channels or 0) > conv_dim:
            self.reduce_channel_dim_conv = Conv2d(channels, conv_dim, 1, activation=F.relu)
            self.conv_layers.append(self.reduce_channel_dim_conv)
        self.reduce_spatial_dim_conv = Conv2d(conv_dim, conv_dim, 2, stride=2, activation=F.relu)
        self.conv_layers.append(self.reduce_spatial_dim_conv)

        dim = conv_dim * (height or 1) * (width or 1) // 4
        self.fcs: list[nn.Linear] = []
        for k, fc_dim in enumerate(fc_dims, start=1):
            layer = nn.Linear(dim, fc_dim)
            self.add_module(f"fc{k}", layer)
            self.fcs.append(layer)
            dim = fc_dim
        self.prediction = nn.Linear(dim, math.prod(self.output_shape))

        for conv in self.conv_layers:
            c2_msra_fill(conv)
        for layer in self.fcs:
            c2_xavier_fill(layer)
        nn.init.normal_(self.prediction.weight, std=0.001)
        nn.init.zeros_(self.prediction.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_MASK_HEAD
        side = head.OUTPUT_SIDE_RESOLUTION
        return {
            "input_shape": input_shape,
            "conv_dim": head.CONV_DIM,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "output_shape": (cfg.MODEL.ROI_HEADS.NUM_CLASSES, side, side),
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` to ``(R, *output_shape)``."""
        for conv in self.conv_layers:
            x = conv(x)
        x = x.flatten(start_dim=1)
        for layer in self.fcs:
            x = F.relu(layer(x))
        return self.prediction(x).reshape(-1, *self.output_shape)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        rename_keys(state_dict, prefix, {"coarse_mask_fc": "fc"})
        lists = missing_keys, unexpected_keys, error_msgs
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)


class PointRendMaskHead(nn.Module):
    """A coarse mask for each region, refined at points.

    Args:
        feature_scales: cells per pixel of each feature map, by name.
        roi_pooler_in_features: feature maps that the coarse head sees.
        roi_pooler_size: S, the side of the regular grid that they are read at.
        coarse_head: maps ``(R, C, S, S)`` to ``(R, K, M, M)`` logits.
        point_head: maps features and coarse logits at points to logits there; None for the coarse
            mask alone.
        mask_point_in_features: feature maps that the point head sees.
        mask_point_train_num_points: points of each region to train on.
        mask_point_oversample_ratio: see
            :func:`~.point_features.get_uncertain_point_coords_with_randomness`.
        mask_point_importance_sample_ratio: likewise.
        mask_point_subdivision_init_resolution: side of the first mask in inference, where every
            cell is predicted; larger where the next one would be predicted entirely, too.
        mask_point_subdivision_steps: how many times the size doubles.
        mask_point_subdivision_num_points: cells predicted at each step.
    """

    @configurable
    def __init__(
        self,
        *,
        feature_scales: Mapping[str, float],
        roi_pooler_in_features: Sequence[str],
        roi_pooler_size: int,
        coarse_head: nn.Module | None,
        point_head: nn.Module | None = None,
        mask_point_in_features: Sequence[str] = (),
        mask_point_train_num_points: int = 14 * 14,
        mask_point_oversample_ratio: float = 3,
        mask_point_importance_sample_ratio: float = 0.75,
        mask_point_subdivision_init_resolution: int = 7,
        mask_point_subdivision_steps: int = 5,
        mask_point_subdivision_num_points: int = 28 * 28,
    ) -> None:
        super().__init__()
        self._feature_scales = dict(feature_scales)
        self.mask_point_on = point_head is not None
        if point_head is not None:
            self.point_head = point_head
            self.mask_point_in_features = mask_point_in_features
            self.mask_point_train_num_points = mask_point_train_num_points
            self.mask_point_oversample_ratio = mask_point_oversample_ratio
            self.mask_point_importance_sample_ratio = mask_point_importance_sample_ratio
            self.mask_point_subdivision_num_points = mask_point_subdivision_num_points
            side, steps = mask_point_subdivision_init_resolution, mask_point_subdivision_steps
            while 4 * side**2 <= mask_point_subdivision_num_points:
                side, steps = 2 * side, steps - 1
            self.mask_point_subdivision_init_resolution = side
            self.mask_point_subdivision_steps = steps
        self.roi_pooler_in_features = roi_pooler_in_features
        self.roi_pooler_size = roi_pooler_size
        if coarse_head is not None:
            self.coarse_head = coarse_head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.ROI_MASK_HEAD
        args = {
            "feature_scales": {k: 1.0 / (v.stride or 1) for k, v in input_shape.items()},
            "roi_pooler_in_features": head.IN_FEATURES,
            "roi_pooler_size": head.POOLER_RESOLUTION,
        }
        args |= cls._point_head_from_config(cfg, input_shape)
        check_features("MODEL.ROI_MASK_HEAD.IN_FEATURES", head.IN_FEATURES, input_shape)
        channels = sum(input_shape[f].channels or 0 for f in head.IN_FEATURES)
        side = head.POOLER_RESOLUTION
        region = ShapeSpec(channels=channels, height=side, width=side)
        return args | cls._roi_head_from_config(cfg, region, args.get("point_head"))

    @classmethod
    def _roi_head_from_config(
        cls, cfg: CfgNode, region: ShapeSpec, point_head: nn.Module | None
    ) -> dict[str, Any]:
        """Build the head that sees a whole region."""
        head: Any = ConvFCHead  # configurable: takes a config, too
        return {"coarse_head": head(cfg, region)}

    @classmethod
    def _point_head_from_config(
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        """Build the arguments of the point head; none if there is to be none."""
        if not cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON:
            return {}
        head = cfg.MODEL.POINT_HEAD
        return _point_head_and_features(cfg, input_shape) | {
            "mask_point_train_num_points": head.TRAIN_NUM_POINTS,
            "mask_point_oversample_ratio": head.OVERSAMPLE_RATIO,
            "mask_point_importance_sample_ratio": head.IMPORTANCE_SAMPLE_RATIO,
            "mask_point_subdivision_init_resolution": (
                cfg.MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION
            ),
            "mask_point_subdivision_steps": head.SUBDIVISION_STEPS,
            "mask_point_subdivision_num_points": head.SUBDIVISION_NUM_POINTS,
        }

    def forward(self, features: Features, instances: list[Instances]) -> Any:
        """Return losses in training; otherwise the instances, with ``pred_masks``.

        Args:
            features: feature maps ``(N, C, H, W)`` by name.
            instances: per image; proposals with ground truth in training, detections otherwise.
        """
        boxes = [i.proposal_boxes if self.training else i.pred_boxes for i in instances]
        coarse_mask = self.coarse_head(self._roi_pooler(features, boxes))  # (R, K, M, M)
        if not self.training:
            if not self.mask_point_on:
                mask_rcnn_inference(coarse_mask, instances)
                return instances
            return self._subdivision_inference(features, coarse_mask, instances)

        losses = {"loss_mask": mask_rcnn_loss(coarse_mask, instances)}
        if self.mask_point_on:
            points, labels = self._sample_train_points(coarse_mask, instances)
            fine = self._point_pooler(features, boxes, points)  # (R, C, P)
            logits = self._get_point_logits(fine, points, coarse_mask)  # (R, K, P)
            losses["loss_mask_point"] = roi_mask_point_loss(logits, instances, labels)
        return losses

    def _roi_pooler(self, features: Features, boxes: Sequence[Boxes]) -> torch.Tensor:
        """Read feature maps on a regular grid in each box: ``(R, C, S, S)``."""
        side = self.roi_pooler_size
        num_regions = sum(len(b) for b in boxes)
        points = point_features.generate_regular_grid_point_coords(
            num_regions, side, boxes[0].device
        )
        x = self._read(features, self.roi_pooler_in_features, boxes, points)
        return x.reshape(num_regions, x.shape[1], side, side)

    def _point_pooler(
        self, features: Features, proposal_boxes: Sequence[Boxes], point_coords: torch.Tensor
    ) -> torch.Tensor:
        """Read what the point head sees at ``(R, P, 2)`` points: ``(R, C, P)``."""
        return self._read(features, self.mask_point_in_features, proposal_boxes, point_coords)

    def _read(
        self,
        features: Features,
        names: Sequence[str],
        boxes: Sequence[Boxes],
        point_coords: torch.Tensor,
    ) -> torch.Tensor:
        maps = [features[name] for name in names]
        scales = [self._feature_scales[name] for name in names]
        sample = point_features.point_sample_fine_grained_features
        return sample(maps, scales, boxes, point_coords)[0].to(maps[0].dtype)

    @torch.no_grad()
    def _sample_train_points(
        self, coarse_mask: torch.Tensor, instances: list[Instances]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose points to train on: ``(R, P, 2)`` in [0, 1] of the box, and labels ``(R, P)``."""
        classes = torch.cat([i.gt_classes for i in instances])
        points = point_features.get_uncertain_point_coords_with_randomness(
            coarse_mask,
            lambda logits: calculate_uncertainty(logits, classes),
            self.mask_point_train_num_points,
            self.mask_point_oversample_ratio,
            self.mask_point_importance_sample_ratio,
        )
        return points, _labels_at(points, instances)

    def _get_point_logits(
        self,
        point_fine_grained_features: torch.Tensor,
        point_coords: torch.Tensor,
        coarse_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Predict ``(R, K, P)`` at points from ``(R, C, P)`` features and the coarse mask."""
        coarse = point_features.point_sample(coarse_mask, point_coords, align_corners=False)
        return self.point_head(point_fine_grained_features, coarse.to(coarse_mask.dtype))

    def _subdivision_inference(
        self, features: Features, mask_representations: torch.Tensor, instances: list[Instances]
    ) -> list[Instances]:
        """Predict fine masks: figure 4 of the paper."""
        boxes = [i.pred_boxes for i in instances]
        classes = torch.cat([i.pred_classes for i in instances])
        side = self.mask_point_subdivision_init_resolution
        points = point_features.generate_regular_grid_point_coords(
            len(classes), side, classes.device
        )

        def predict(points: torch.Tensor) -> torch.Tensor:
            fine = self._point_pooler(features, boxes, points)
            logits = self._get_point_logits(fine, points, mask_representations)  # (R, K, P)
            if logits.shape[1] == 1:
                return logits
            return logits.take_along_dim(classes[:, None, None], dim=1)  # the others aren't asked

        logits = predict(points)
        logits = logits.reshape(*logits.shape[:2], side, side)  # (R, 1, side, side)
        for _ in range(self.mask_point_subdivision_steps):
            logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
            cells, points = point_features.get_uncertain_point_coords_on_grid(
                calculate_uncertainty(logits, classes), self.mask_point_subdivision_num_points
            )
            logits = put_at_cells(logits, cells, predict(points))
        mask_rcnn_inference(logits, instances)
        return instances


def put_at_cells(maps: torch.Tensor, cells: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Replace ``(R, P)`` cells of ``(R, K, H, W)`` maps by ``(R, K, P)`` values."""
    index = cells[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(start_dim=2).scatter(2, index, values.to(maps.dtype)).reshape_as(maps)


@torch.no_grad()
def _labels_at(points: torch.Tensor, instances: Sequence[Instances]) -> torch.Tensor:
    """Read the true masks at points ``(R, P, 2)`` of the proposals' boxes: ``(R, P)``."""
    boxes = Boxes.cat([i.proposal_boxes for i in instances]).tensor
    point_xy = point_features.get_point_coords_wrt_image(boxes, points)
    return point_features.sample_point_labels(instances, point_xy)


def _point_head_and_features(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
    """Build the point head for the feature maps that it sees."""
    head = cfg.MODEL.POINT_HEAD
    if cfg.MODEL.ROI_HEADS.NUM_CLASSES != head.NUM_CLASSES:
        raise InputError(
            "MODEL.POINT_HEAD.NUM_CLASSES must be MODEL.ROI_HEADS.NUM_CLASSES; got"
            f" {head.NUM_CLASSES} and {cfg.MODEL.ROI_HEADS.NUM_CLASSES}"
        )
    check_features("MODEL.POINT_HEAD.IN_FEATURES", head.IN_FEATURES, input_shape)
    channels = sum(input_shape[f].channels or 0 for f in head.IN_FEATURES)
    return {
        "point_head": build_point_head(cfg, ShapeSpec(channels=channels, width=1, height=1)),
        "mask_point_in_features": head.IN_FEATURES,
    }


class ImplicitPointRendMaskHead(PointRendMaskHead):
    """A region's features give the weights of a network that maps a point to a mask value.

    Cheng et al., "Pointly-Supervised Instance Segmentation" (2022), section 5,
    https://arxiv.org/abs/2104.06404.

    Args:
        parameter_head: maps ``(R, C, S, S)`` to the point head's ``(R, num_params)``.
        point_head: like :class:`~.point_head.ImplicitPointHead`.
        regularizer: weight of the mean square of the parameters in the loss.
        mask_point_subdivision_num_points: cells predicted at each step, a square number: the first
            mask has as many.
        **kwargs: arguments of :class:`PointRendMaskHead`.

    Raises:
        InputError: If ``mask_point_subdivision_num_points`` is no square number.
    """

    @configurable
    def __init__(
        self,
        *,
        parameter_head: nn.Module,
        point_head: nn.Module,
        regularizer: float,
        mask_point_subdivision_num_points: int,
        **kwargs: Any,
    ) -> None:
        side = math.isqrt(mask_point_subdivision_num_points)
        if side**2 != mask_point_subdivision_num_points:
            raise InputError(
                "ImplicitPointRendMaskHead: MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS must be a"
                f" square number; got {mask_point_subdivision_num_points}; {side**2} is one"
            )
        super().__init__(
            coarse_head=None,
            point_head=point_head,
            mask_point_subdivision_init_resolution=side,
            mask_point_subdivision_num_points=mask_point_subdivision_num_points,
            **kwargs,
        )
        self.num_params = point_head.num_params
        self.parameter_head = parameter_head
        self.regularizer = regularizer

    @classmethod
    def _roi_head_from_config(
        cls, cfg: CfgNode, region: ShapeSpec, point_head: nn.Module | None
    ) -> dict[str, Any]:
        if point_head is None:
            raise InputError("ImplicitPointRendMaskHead: the weights need a point head; got none")
        head: Any = ConvFCHead  # configurable: takes a config, too
        return {
            "parameter_head": head(cfg, region, output_shape=(point_head.num_params,)),
            "regularizer": cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER,
        }

    @classmethod
    def _point_head_from_config(
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        head = cfg.MODEL.POINT_HEAD
        return _point_head_and_features(cfg, input_shape) | {
            "mask_point_train_num_points": head.TRAIN_NUM_POINTS,
            "mask_point_subdivision_steps": head.SUBDIVISION_STEPS,
            "mask_point_subdivision_num_points": head.SUBDIVISION_NUM_POINTS,
        }

    def forward(self, features: Features, instances: list[Instances]) -> Any:
        """See :meth:`PointRendMaskHead.forward`."""
        boxes = [i.proposal_boxes if self.training else i.pred_boxes for i in instances]
        parameters = self.parameter_head(self._roi_pooler(features, boxes))  # (R, num_params)
        if not self.training:
            return self._subdivision_inference(features, parameters, instances)

        points, labels = self._uniform_sample_train_points(instances)
        fine = self._point_pooler(features, boxes, points)  # (R, C, P)
        logits = self._get_point_logits(fine, points, parameters)  # (R, K, P)
        mean_square = (parameters**2).sum() / max(parameters.numel(), 1)
        return {
            "loss_l2": self.regularizer * mean_square,
            "loss_mask_point": roi_mask_point_loss(logits, instances, labels),
        }

    def _uniform_sample_train_points(
        self, instances: list[Instances]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw ``(R, P, 2)`` points of the proposals' boxes, and read their labels ``(R, P)``."""
        boxes = Boxes.cat([i.proposal_boxes for i in instances]).tensor
        points = point_features.uniform_points(len(boxes), self.mask_point_train_num_points, boxes)
        return points, _labels_at(points, instances)

    def _get_point_logits(
        self,
        fine_grained_features: torch.Tensor,
        point_coords: torch.Tensor,
        parameters: torch.Tensor,
    ) -> torch.Tensor:
        """Predict ``(R, K, P)`` at points; the region is described by its parameters."""
        return self.point_head(fine_grained_features, point_coords, parameters)
