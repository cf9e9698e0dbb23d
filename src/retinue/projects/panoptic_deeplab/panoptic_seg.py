"""The model: label maps from one head, centres and votes for them from another.

Shapes
    N images; C channels; K classes; H, W rows and columns of the padded batch; h, w those asked
    for; s stride, in pixels, that the heads predict at; I instances.

Reading order: PanopticDeepLab.forward; the heads are decoders of DeepLabV3+ with predictors of
their own; post_processing puts their outputs together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.data import MetadataCatalog
from retinue.layers import ShapeSpec
from retinue.modeling import build_backbone, build_sem_seg_head
from retinue.modeling.config_fit import pick_features
from retinue.modeling.meta_arch.inputs import (
    ImageDicts,
    collect,
    output_size,
    register_pixel_statistics,
)
from retinue.modeling.postprocessing import sem_seg_postprocess
from retinue.projects.deeplab.loss import make_pixel_loss
from retinue.projects.deeplab.semantic_seg import (
    DeepLabV3PlusHead,
    enlarge,
    make_fusion,
    make_predictor,
    training_size,
)
from retinue.projects.panoptic_deeplab.post_processing import get_panoptic_segmentation
from retinue.structures import BitMasks, ImageList, Instances
from retinue.utils.errors import InputError
from retinue.utils.registry import Registry

__all__ = [
    "INS_EMBED_BRANCHES_REGISTRY",
    "PanopticDeepLab",
    "PanopticDeepLabInsEmbedHead",
    "PanopticDeepLabSemSegHead",
    "build_ins_embed_branch",
]

INS_EMBED_BRANCHES_REGISTRY = Registry(
    "INS_EMBED_BRANCHES",
    {
        "PanopticDeepLabInsEmbedHead": (
            "retinue.projects.panoptic_deeplab.panoptic_seg:PanopticDeepLabInsEmbedHead"
        )
    },
    key="MODEL.INS_EMBED_HEAD.NAME",
)
VOID = -1
Norm = str | Callable[[int], nn.Module]
Features = Mapping[str, torch.Tensor]
Losses = dict[str, torch.Tensor]


def build_ins_embed_branch(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """Build the head that ``cfg.MODEL.INS_EMBED_HEAD.NAME`` names."""
    return INS_EMBED_BRANCHES_REGISTRY.get(cfg.MODEL.INS_EMBED_HEAD.NAME)(cfg, input_shape)


class PanopticDeepLab(nn.Module):
    """A backbone, a head for labels and a head for instances.

    Args:
        backbone: maps images to feature maps by name.
        sem_seg_head: like :class:`PanopticDeepLabSemSegHead`.
        ins_embed_head: like :class:`PanopticDeepLabInsEmbedHead`.
        pixel_mean: what is subtracted from each channel of an image.
        pixel_std: what each channel is then divided by.
        meta: metadata of the dataset, for ``thing_dataset_id_to_contiguous_id`` and
            ``label_divisor``; read in inference.
        stuff_area: see :func:`~.post_processing.get_panoptic_segmentation`.
        threshold: likewise.
        nms_kernel: likewise.
        top_k: likewise.
        predict_instances: give ``instances`` beside the panoptic map.
        size_divisibility: what height and width of the padded batch are divisible by; the
            backbone's where it is not positive.
        benchmark_network_speed: return nothing in inference, to time the network alone.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor
    backbone: Any
    sem_seg_head: Any

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        sem_seg_head: nn.Module,
        ins_embed_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        meta: Any,
        stuff_area: int = 2048,
        threshold: float = 0.1,
        nms_kernel: int = 7,
        top_k: int = 200,
        predict_instances: bool = True,
        size_divisibility: int = -1,
        benchmark_network_speed: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.ins_embed_head = ins_embed_head
        register_pixel_statistics(self, pixel_mean, pixel_std)
        self.meta = meta
        self.stuff_area = stuff_area
        self.threshold = threshold
        self.nms_kernel = nms_kernel
        self.top_k = top_k
        self.predict_instances = predict_instances
        self.size_divisibility = size_divisibility
        self.benchmark_network_speed = benchmark_network_speed

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        own, head = cfg.MODEL.PANOPTIC_DEEPLAB, cfg.MODEL.SEM_SEG_HEAD
        if head.USE_DEPTHWISE_SEPARABLE_CONV != own.USE_DEPTHWISE_SEPARABLE_CONV:
            raise InputError(
                "MODEL.PANOPTIC_DEEPLAB.USE_DEPTHWISE_SEPARABLE_CONV must be"
                " MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV; got"
                f" {own.USE_DEPTHWISE_SEPARABLE_CONV} and {head.USE_DEPTHWISE_SEPARABLE_CONV}"
            )
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "ins_embed_head": build_ins_embed_branch(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "meta": MetadataCatalog.get(cfg.DATASETS.TRAIN[0]),
            "stuff_area": own.STUFF_AREA,
            "threshold": own.CENTER_THRESHOLD,
            "nms_kernel": own.NMS_KERNEL,
            "top_k": own.TOP_K_INSTANCE,
            "predict_instances": own.PREDICT_INSTANCES,
            "size_divisibility": own.SIZE_DIVISIBILITY,
            "benchmark_network_speed": own.BENCHMARK_NETWORK_SPEED,
        }

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.pixel_mean.device

    @property
    def use_depthwise_separable_conv(self) -> bool:
        """Whether the heads are made of such convolutions."""
        return self.sem_seg_head.use_depthwise_separable_conv

    def forward(self, batched_inputs: ImageDicts) -> Losses | list[dict[str, Any]]:
        """Compute losses in training, else label maps, panoptic maps and instances.

        Args:
            batched_inputs: a dict for each image: ``image`` ``(C, h, w)``; in training what
                :class:`~.target_generator.PanopticDeepLabTargetGenerator` makes; ``height`` and
                ``width`` of the output.

        Returns:
            losses by name; or for each image ``sem_seg`` ``(K, height, width)`` logits,
            ``panoptic_seg``, ids ``(height, width)`` and None (the class of an id is
            ``id // label_divisor``, -1 is void), and ``instances`` where there are any.

        Raises:
            InputError: If an input is missing or has a wrong shape.
        """
        images = [
            (image - self.pixel_mean) / self.pixel_std
            for image in collect(batched_inputs, "image", self.device)
        ]
        batch = self._stack(images)
        features = self.backbone(batch.tensor)
        if self.training:
            return self._losses(features, batched_inputs)

        logits, _ = self.sem_seg_head(features)  # (N, K, H, W)
        centers, offsets, _, _ = self.ins_embed_head(features)  # (N, 1, H, W), (N, 2, H, W)
        if self.benchmark_network_speed:
            return []
        results = []
        for i, (one, size_hw) in enumerate(zip(batched_inputs, batch.image_sizes, strict=True)):
            maps = [
                sem_seg_postprocess(x[i], size_hw, *output_size(one, size_hw))
                for x in (logits, centers, offsets)
            ]
            results.append(self._combine(*maps))
        return results

    def _stack(self, maps: list[torch.Tensor], pad_value: float = 0) -> ImageList:
        """Pad to one size that the heads can divide."""
        divisor = self.size_divisibility
        divisor = divisor if divisor > 0 else self.backbone.size_divisibility
        return ImageList.from_tensors(maps, divisor, pad_value)

    def _losses(self, features: Features, inputs: ImageDicts) -> Losses:
        def stack(key: str, pad_value: float = 0) -> torch.Tensor:
            return self._stack(collect(inputs, key, self.device), pad_value).tensor

        labels = stack("sem_seg", self.sem_seg_head.ignore_value)  # (N, H, W)
        label_weights = stack("sem_seg_weights") if "sem_seg_weights" in inputs[0] else None
        center = stack("center")[:, None]  # (N, 1, H, W)
        center_weights = stack("center_weights")  # (N, 1, H, W)
        offset = stack("offset")  # (N, 2, H, W)
        offset_weights = stack("offset_weights")  # (N, 1, H, W)

        _, losses = self.sem_seg_head(features, labels, label_weights)
        _, _, center_losses, offset_losses = self.ins_embed_head(
            features, center, center_weights, offset, offset_weights
        )
        return losses | center_losses | offset_losses

    def _combine(
        self, logits: torch.Tensor, center: torch.Tensor, offset: torch.Tensor
    ) -> dict[str, Any]:
        """Put together ``(K, h, w)`` logits, a ``(1, h, w)`` heat map and ``(2, h, w)`` offsets."""
        things = set(self.meta.thing_dataset_id_to_contiguous_id.values())
        panoptic, _ = get_panoptic_segmentation(
            logits.argmax(dim=0, keepdim=True),
            center,
            offset,
            thing_ids=things,
            label_divisor=self.meta.label_divisor,
            stuff_area=self.stuff_area,
            void_label=VOID,
            threshold=self.threshold,
            nms_kernel=self.nms_kernel,
            top_k=self.top_k,
        )
        ids = panoptic[0]
        result: dict[str, Any] = {"sem_seg": logits, "panoptic_seg": (ids, None)}
        if self.predict_instances:
            divisor = self.meta.label_divisor
            found = [i for i in ids.unique().tolist() if i != VOID and i // divisor in things]
            if found:
                result["instances"] = _instances(ids, found, divisor, logits.softmax(dim=0), center)
        return result


def _instances(
    ids: torch.Tensor,
    found: Sequence[int],
    label_divisor: int,
    probabilities: torch.Tensor,
    center: torch.Tensor,
) -> Instances:
    """Describe the instances of a panoptic map.

    The score is the mean probability of the class over the mask, times the heat at the mask's
    centre of gravity.

    Args:
        ids: ``(h, w)`` panoptic ids.
        found: ids of the instances.
        label_divisor: see :func:`~.post_processing.merge_semantic_and_instance`.
        probabilities: ``(K, h, w)``.
        center: ``(1, h, w)`` heat map.
    """
    masks = torch.stack([ids == i for i in found])  # (I, h, w)
    labels = torch.tensor([i // label_divisor for i in found], device=ids.device)
    scores = []
    for mask, label in zip(masks, labels.tolist(), strict=True):
        y, x = mask.nonzero().to(center.dtype).mean(dim=0).long().tolist()
        scores.append(probabilities[label][mask].mean() * center[0, y, x])
    return Instances(
        (ids.shape[0], ids.shape[1]),
        pred_classes=labels,
        pred_masks=masks,
        scores=torch.stack(scores),
        pred_boxes=BitMasks(masks).get_bounding_boxes(),
    )


class PanopticDeepLabSemSegHead(DeepLabV3PlusHead):
    """A decoder, two more convolutions and a classifier.

    Args:
        input_shape: channels and stride of each feature map, by name.
        decoder_channels: see :class:`DeepLabV3PlusHead`.
        norm: likewise.
        head_channels: channels of the last convolution before the classifier.
        loss_weight: what the loss is multiplied by.
        loss_type: see :func:`retinue.projects.deeplab.loss.make_pixel_loss`.
        loss_top_k: part of the pixels that hard pixel mining keeps.
        ignore_value: label of pixels that are not trained on.
        num_classes: K.
        **kwargs: arguments of :class:`DeepLabV3PlusHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        decoder_channels: Sequence[int],
        norm: Norm,
        head_channels: int,
        loss_weight: float,
        loss_type: str,
        loss_top_k: float,
        ignore_value: int,
        num_classes: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_shape,
            decoder_channels=decoder_channels,
            norm=norm,
            loss_weight=loss_weight,
            loss_type=loss_type,
            ignore_value=ignore_value,
            **kwargs,
        )
        channels = decoder_channels[0]
        self.head = make_fusion(
            channels, channels, head_channels, norm, self.use_depthwise_separable_conv
        )
        self.predictor = make_predictor(head_channels, num_classes)
        self.loss = make_pixel_loss(loss_type, ignore_value, loss_top_k)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        return super().from_config(cfg, input_shape) | {
            "head_channels": head.HEAD_CHANNELS,
            "loss_top_k": head.LOSS_TOP_K,
        }

    def forward(
        self,
        features: Features,
        targets: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, Losses]:
        """Classify every pixel.

        Args:
            features: feature maps by name.
            targets: ``(N, H, W)`` int64 labels, needed in training.
            weights: ``(N, H, W)``, a factor for each pixel in the loss.

        Returns:
            None and the losses in training; else logits ``(N, K, H, W)`` and nothing.
        """
        x = self.layers(features)  # (N, K, H / s, W / s)
        if self.training:
            return None, self.losses(x, targets, weights)
        return enlarge(x, self.common_stride), {}

    def layers(self, features: Features) -> torch.Tensor:
        """Map feature maps to logits ``(N, K, H / s, W / s)``."""
        return self.predictor(self.head(super().layers(features)))

    def losses(
        self, predictions: torch.Tensor, targets: Any, weights: torch.Tensor | None = None
    ) -> Losses:
        """Compare logits ``(N, K, H / s, W / s)`` with labels ``(N, H, W)``, at full size."""
        loss = self.loss(enlarge(predictions, self.common_stride), targets, weights)
        return {"loss_sem_seg": loss * self.loss_weight}


class PanopticDeepLabInsEmbedHead(DeepLabV3PlusHead):
    """A decoder that predicts a heat map of centres, and for each pixel where its centre is.

    Args:
        input_shape: channels and stride of each feature map, by name.
        decoder_channels: see :class:`DeepLabV3PlusHead`.
        norm: likewise.
        head_channels: channels of the last convolution before each predictor.
        center_loss_weight: what the loss of the heat map is multiplied by.
        offset_loss_weight: what the loss of the offsets is multiplied by.
        **kwargs: arguments of :class:`DeepLabV3PlusHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        decoder_channels: Sequence[int],
        norm: Norm,
        head_channels: int,
        center_loss_weight: float,
        offset_loss_weight: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, decoder_channels=decoder_channels, norm=norm, **kwargs)
        channels = decoder_channels[0]
        separable = self.use_depthwise_separable_conv
        self.center_loss_weight = center_loss_weight
        self.offset_loss_weight = offset_loss_weight
        self.center_head = make_fusion(channels, channels, head_channels, norm, False)
        self.center_predictor = make_predictor(head_channels, 1)
        self.offset_head = make_fusion(channels, channels, head_channels, norm, separable)
        self.offset_predictor = make_predictor(head_channels, 2)
        self.center_loss = nn.MSELoss(reduction="none")
        self.offset_loss = nn.L1Loss(reduction="none")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.INS_EMBED_HEAD
        finer = len(head.IN_FEATURES) - 1
        return {
            "input_shape": pick_features(
                "MODEL.INS_EMBED_HEAD.IN_FEATURES", head.IN_FEATURES, input_shape
            ),
            "project_channels": head.PROJECT_CHANNELS,
            "aspp_dilations": head.ASPP_DILATIONS,
            "aspp_dropout": head.ASPP_DROPOUT,
            "decoder_channels": [head.CONVS_DIM] * finer + [head.ASPP_CHANNELS],
            "common_stride": head.COMMON_STRIDE,
            "norm": head.NORM,
            "train_size": training_size(cfg),
            "head_channels": head.HEAD_CHANNELS,
            "center_loss_weight": head.CENTER_LOSS_WEIGHT,
            "offset_loss_weight": head.OFFSET_LOSS_WEIGHT,
            "use_depthwise_separable_conv": cfg.MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV,
        }

    def forward(
        self,
        features: Features,
        center_targets: torch.Tensor | None = None,
        center_weights: torch.Tensor | None = None,
        offset_targets: torch.Tensor | None = None,
        offset_weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, Losses, Losses]:
        """Predict centres and offsets.

        Args:
            features: feature maps by name.
            center_targets: ``(N, 1, H, W)`` heat maps, needed in training, as all that follow.
            center_weights: ``(N, 1, H, W)``.
            offset_targets: ``(N, 2, H, W)``, y first, in pixels.
            offset_weights: ``(N, 1, H, W)``.

        Returns:
            None twice and the losses of both in training; else heat maps ``(N, 1, H, W)``, offsets
            ``(N, 2, H, W)`` and nothing twice.
        """
        center, offset = self.layers(features)
        if self.training:
            return (
                None,
                None,
                self.center_losses(center, center_targets, center_weights),
                self.offset_losses(offset, offset_targets, offset_weights),
            )
        stride = self.common_stride
        return enlarge(center, stride), enlarge(offset, stride) * stride, {}, {}

    def layers(self, features: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Map feature maps to heat ``(N, 1, H / s, W / s)``, offsets ``(N, 2, H / s, W / s)``."""
        x = super().layers(features)
        center = self.center_predictor(self.center_head(x))
        return center, self.offset_predictor(self.offset_head(x))

    def center_losses(self, predictions: torch.Tensor, targets: Any, weights: Any) -> Losses:
        """Weighted mean of the squared error of heat maps, at full size."""
        errors = self.center_loss(enlarge(predictions, self.common_stride), targets)
        return {"loss_center": _weighted_mean(errors, weights) * self.center_loss_weight}

    def offset_losses(self, predictions: torch.Tensor, targets: Any, weights: Any) -> Losses:
        """Weighted mean of the absolute error of offsets, at full size; y and x are added."""
        stride = self.common_stride
        errors = self.offset_loss(enlarge(predictions, stride) * stride, targets)
        return {"loss_offset": _weighted_mean(errors, weights) * self.offset_loss_weight}


def _weighted_mean(errors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Add up errors times weights, and divide by the sum of weights; 0 if there are none."""
    total = weights.sum()
    return (errors * weights).sum() / torch.where(total > 0, total, 1)
