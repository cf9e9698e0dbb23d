"""ROI heads with a branch for DensePose.

Shapes
    N images; R regions, all images together; C channels; S side of a pooled region.

Reading order: DensePoseROIHeads._forward_densepose, from features to losses or predictions.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.layers import Conv2d, ShapeSpec, get_norm
from retinue.layers.weight_init import c2_msra_fill
from retinue.modeling.catalog import ROI_HEADS_REGISTRY
from retinue.modeling.poolers import ROIPooler
from retinue.modeling.roi_heads.base import Features
from retinue.modeling.roi_heads.roi_heads import StandardROIHeads, select_foreground_proposals
from retinue.projects.densepose.modeling.build import (
    build_densepose_data_filter,
    build_densepose_embedder,
    build_densepose_head,
    build_densepose_losses,
    build_densepose_predictor,
)
from retinue.projects.densepose.modeling.inference import densepose_inference
from retinue.structures import ImageList, Instances

__all__ = ["ROI_HEADS_REGISTRY", "Decoder", "DensePoseROIHeads"]


class Decoder(nn.Module):
    """Merges the levels of a pyramid into one map at the stride of the finest.

    Kirillov et al., "Panoptic Feature Pyramid Networks" (2019), section 3.1,
    https://arxiv.org/abs/1901.02446.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD.DECODER_...``.
        input_shape: channels and stride of each level, by name.
        in_features: the levels to merge.
    """

    def __init__(
        self, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec], in_features: Sequence[str]
    ) -> None:
        super().__init__()
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        dim, norm = head.DECODER_CONV_DIMS, head.DECODER_NORM
        self.in_features = in_features
        self.common_stride = head.DECODER_COMMON_STRIDE
        self.scale_heads: list[nn.Sequential] = []  # the modules lie below the levels' names
        for name in in_features:
            dim_in, stride = input_shape[name].channels or 0, input_shape[name].stride or 1
            doublings = int(math.log2(stride / self.common_stride))
            layers: list[nn.Module] = []
            for k in range(max(doublings, 1)):
                conv = Conv2d(
                    dim if k else dim_in,
                    dim,
                    3,
                    padding=1,
                    bias=not norm,
                    norm=get_norm(norm, dim),
                    activation=F.relu,
                )
                c2_msra_fill(conv)
                layers.append(conv)
                if stride != self.common_stride:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.scale_heads.append(nn.Sequential(*layers))
            self.add_module(name, self.scale_heads[-1])
        self.predictor = Conv2d(dim, head.DECODER_NUM_CLASSES, 1)
        c2_msra_fill(self.predictor)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map the levels ``(N, C, H_k, W_k)`` to ``(N, D, H, W)``."""
        names = self.in_features
        levels = [getattr(self, name)(x) for name, x in zip(names, features, strict=True)]
        return self.predictor(sum(levels[1:], start=levels[0]))


class DensePoseROIHeads(StandardROIHeads):
    """:class:`StandardROIHeads` with a branch that says where on a body each pixel lies.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD``; without ``MODEL.DENSEPOSE_ON`` there is no branch.
        input_shape: channels and stride of each feature map, by name.
    """

    def __init__(self, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> None:
        super().__init__(cfg, input_shape)  # type: ignore[call-arg, arg-type]
        self._init_densepose_head(cfg, input_shape)

    def _init_densepose_head(self, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> None:
        self.densepose_on = cfg.MODEL.DENSEPOSE_ON
        if not self.densepose_on:
            return
        head = cfg.MODEL.ROI_DENSEPOSE_HEAD
        names = self.in_features
        channels = input_shape[names[0]].channels or 0
        self.use_decoder = head.DECODER_ON
        self.densepose_data_filter = build_densepose_data_filter(cfg)
        if self.use_decoder:
            self.decoder = Decoder(cfg, input_shape, names)
            channels, names = head.DECODER_NUM_CLASSES, names[:1]
        self.densepose_pooler = ROIPooler(
            output_size=head.POOLER_RESOLUTION,
            scales=tuple(1.0 / (input_shape[name].stride or 1) for name in names),
            sampling_ratio=head.POOLER_SAMPLING_RATIO,
            pooler_type=head.POOLER_TYPE,
        )
        self.densepose_head: Any = build_densepose_head(cfg, channels)
        features: int = self.densepose_head.n_out_channels  # type: ignore[assignment]
        self.densepose_predictor = build_densepose_predictor(cfg, features)
        self.densepose_losses = build_densepose_losses(cfg)
        self.embedder = build_densepose_embedder(cfg)

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """See :meth:`ROIHeads.forward`."""
        instances, losses = super().forward(images, features, proposals, targets)
        if self.training:
            losses.update(self._forward_densepose(features, instances))
        return instances, losses

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
        """Add ``pred_densepose``, and masks and keypoints, to detections whose boxes are known."""
        instances = super().forward_with_given_boxes(features, instances)
        return self._forward_densepose(features, instances)

    def _forward_densepose(self, features: Features, instances: list[Instances]) -> Any:
        """Return losses in training, the detections with ``pred_densepose`` otherwise."""
        if not self.densepose_on:
            return {} if self.training else instances
        maps = [features[name] for name in self.in_features]
        if self.training:
            objects, _ = select_foreground_proposals(instances, self.num_classes)
            maps, objects = self.densepose_data_filter(maps, objects)
            predictions = self._predict(maps, [i.proposal_boxes for i in objects])
            return self.densepose_losses(objects, predictions, embedder=self.embedder)
        if any(map(len, instances)):
            predictions = self._predict(maps, [i.pred_boxes for i in instances])
            densepose_inference(predictions, instances)
        return instances

    def _predict(self, maps: list[torch.Tensor], boxes: list[Any]) -> Any:
        if self.use_decoder:
            maps = [self.decoder(maps)]  # (N, D, H, W)
        x = self.densepose_pooler(maps, boxes)  # (R, C, S, S)
        return self.densepose_predictor(self.densepose_head(x))
