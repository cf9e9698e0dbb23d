"""The model: windows at every place, each with a class, a box and a mask.

Shapes
    N images; L levels; A windows a place; M windows of an image, level by level, place by place; K
    classes; F windows that hold an object; S side of a mask; H, W rows and columns of a level.

Reading order: TensorMask.forward; get_ground_truth and losses in training, inference otherwise.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import batched_nms, paste_masks_in_image
from retinue.layers.losses import sigmoid_focal_loss_star, smooth_l1_loss
from retinue.modeling import build_backbone
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.config_fit import check_features
from retinue.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from retinue.modeling.meta_arch.inputs import (
    ImageDicts,
    collect,
    image_batch,
    output_size,
    register_pixel_statistics,
)
from retinue.projects.tensormask.anchors import TensorMaskAnchorGenerator, assign_windows
from retinue.projects.tensormask.head import TensorMaskHead
from retinue.structures import Boxes, ImageList, Instances

__all__ = [
    "TensorMask",
    "TensorMaskAnchorGenerator",
    "TensorMaskHead",
    "permute_all_cls_and_box_to_N_HWA_K_and_concat",
]

PerLevel = list[torch.Tensor]


def permute_all_cls_and_box_to_N_HWA_K_and_concat(
    pred_logits: PerLevel, pred_anchor_deltas: PerLevel, num_classes: int = 80
) -> tuple[torch.Tensor, torch.Tensor]:
    """Put the predictions of all levels and images below each other: ``(N M, K)``, ``(N M, 4)``."""
    logits = torch.cat([permute_to_N_HWA_K(x, num_classes) for x in pred_logits], dim=1)
    deltas = torch.cat([permute_to_N_HWA_K(x, 4) for x in pred_anchor_deltas], dim=1)
    return logits.flatten(end_dim=1), deltas.flatten(end_dim=1)


class TensorMask(nn.Module):
    """A backbone, windows, and a head that predicts for each.

    Args:
        backbone: maps images to feature maps by name.
        head: like :class:`~.head.TensorMaskHead`.
        anchor_generator: like :class:`~.anchors.TensorMaskAnchorGenerator`.
        box2box_transform: deltas between windows and boxes.
        in_features: feature maps that are used, finest first.
        num_classes: K.
        mask_sizes: S of each window, on the finest level.
        min_anchor_size: side of the smallest window, a stride less, in pixels.
        pixel_mean: what is subtracted from each channel of an image.
        pixel_std: what each channel is then divided by.
        focal_loss_alpha: of the focal loss of classes.
        focal_loss_gamma: likewise.
        mask_on: predict masks.
        mask_loss_weight: what the loss of masks is multiplied by.
        mask_pos_weight: weight of cells inside the object in it.
        bipyramid_on: masks of level l are 2**l times as large.
        score_threshold: least score of a detection.
        topk_candidates: most candidates of an image before overlapping ones are dropped.
        nms_threshold: detections of a class that overlap more are one.
        detections_im: most detections of an image.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor
    backbone: Any

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        head: nn.Module,
        anchor_generator: nn.Module,
        box2box_transform: Box2BoxTransform,
        in_features: Sequence[str],
        num_classes: int,
        mask_sizes: Sequence[int],
        min_anchor_size: float,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        focal_loss_alpha: float = 0.3,
        focal_loss_gamma: float = 3.0,
        mask_on: bool = True,
        mask_loss_weight: float = 2.0,
        mask_pos_weight: float = 1.5,
        bipyramid_on: bool = True,
        score_threshold: float = 0.05,
        topk_candidates: int = 6000,
        nms_threshold: float = 0.5,
        detections_im: int = 100,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.anchor_generator = anchor_generator
        self.head = head
        self.box2box_transform = box2box_transform
        register_pixel_statistics(self, pixel_mean, pixel_std)
        self.in_features = in_features
        self.num_levels = len(in_features)
        self.num_anchors = len(mask_sizes)
        self.num_classes = num_classes
        self.mask_sizes = mask_sizes
        self.min_anchor_size = min_anchor_size
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.mask_on = mask_on
        self.mask_loss_weight = mask_loss_weight
        self.mask_pos_weight = mask_pos_weight
        self.bipyramid_on = bipyramid_on
        self.score_threshold = score_threshold
        self.topk_candidates = topk_candidates
        self.nms_threshold = nms_threshold
        self.detections_im = detections_im

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        own, smallest = cfg.MODEL.TENSOR_MASK, cfg.MODEL.ANCHOR_GENERATOR.SIZES[0]
        backbone = build_backbone(cfg)
        by_name = backbone.output_shape()
        check_features("MODEL.TENSOR_MASK.IN_FEATURES", own.IN_FEATURES, by_name)
        shapes = [by_name[f] for f in own.IN_FEATURES]
        make_anchors: Any = TensorMaskAnchorGenerator  # configurable: take a config, too
        make_head: Any = TensorMaskHead
        anchor_generator = make_anchors(cfg, shapes)
        mask_sizes = [size // shapes[0].stride for size in smallest]
        return {
            "backbone": backbone,
            "anchor_generator": anchor_generator,
            "head": make_head(
                cfg, len(shapes), anchor_generator.num_cell_anchors[0], mask_sizes, shapes
            ),
            "box2box_transform": Box2BoxTransform(weights=own.BBOX_REG_WEIGHTS),
            "in_features": own.IN_FEATURES,
            "num_classes": own.NUM_CLASSES,
            "mask_sizes": mask_sizes,
            "min_anchor_size": min(smallest) - shapes[0].stride,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "focal_loss_alpha": own.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": own.FOCAL_LOSS_GAMMA,
            "mask_on": cfg.MODEL.MASK_ON,
            "mask_loss_weight": own.MASK_LOSS_WEIGHT,
            "mask_pos_weight": own.POSITIVE_WEIGHT,
            "bipyramid_on": own.BIPYRAMID_ON,
            "score_threshold": own.SCORE_THRESH_TEST,
            "topk_candidates": own.TOPK_CANDIDATES_TEST,
            "nms_threshold": own.NMS_THRESH_TEST,
            "detections_im": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: ImageDicts) -> ImageList:
        """Normalise, pad and stack the images."""
        return image_batch(batched_inputs, self.backbone, self.pixel_mean, self.pixel_std)

    def forward(self, batched_inputs: ImageDicts) -> Any:
        """Compute losses in training, else detections.

        Args:
            batched_inputs: a dict for each image: ``image`` ``(C, h, w)``; in training
                ``instances`` with ``gt_boxes``, ``gt_classes``, ``gt_masks``; ``height`` and
                ``width`` of the output.

        Returns:
            losses by name; or for each image ``{"instances": Instances}``.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        features = [features[f] for f in self.in_features]
        logits, deltas, masks = self.head(features)
        anchors, unit_lengths, indexes = self.anchor_generator(features)
        if self.training:
            targets = collect(batched_inputs, "instances", self.device)
            truth = self.get_ground_truth(anchors, unit_lengths, indexes, targets)
            return self.losses(*truth, logits, deltas, masks)
        found = self.inference(logits, deltas, masks, anchors, indexes, images)
        return [
            {"instances": _postprocess(boxes, windows, *output_size(one, boxes.image_size))}
            for (boxes, windows), one in zip(found, batched_inputs, strict=True)
        ]

    def _mask_size(self, level: int, anchor: int) -> int:
        return self.mask_sizes[anchor] * (2**level if self.bipyramid_on else 1)

    @torch.no_grad()
    def get_ground_truth(
        self,
        anchors: list[list[Boxes]],
        unit_lengths: list[PerLevel],
        indexes: list[PerLevel],
        targets: Sequence[Instances],
    ) -> tuple[Any, Any, Any, int]:
        """Tell each window what it should find.

        Args:
            anchors: of each image, of each level.
            unit_lengths: strides, likewise.
            indexes: level, image, row, column and anchor of each window, likewise.
            targets: of each image.

        Returns:
            one-hot classes ``(N M, K)`` and ``(N M,)`` whether they count; deltas ``(F, 4)`` and
            ``(N M,)`` which windows these are; masks ``(F', S, S)`` and int64 image, row and column
            ``(F', 3)`` by level and anchor, None where there are none; and F.
        """
        classes, deltas = [], []
        masks: Any = [[[] for _ in range(self.num_anchors)] for _ in range(self.num_levels)]
        places: Any = [[[] for _ in range(self.num_anchors)] for _ in range(self.num_levels)]
        for i, target in enumerate(targets):
            windows = torch.cat([a.tensor for a in anchors[i]])
            labels = torch.full((len(windows),), self.num_classes, device=windows.device)
            classes.append(labels)
            if not len(target):
                continue
            matched, holds_one = assign_windows(
                target.gt_boxes.tensor, windows, torch.cat(unit_lengths[i]), self.min_anchor_size
            )
            matched = matched[holds_one]  # (F_i,) objects
            chosen = windows[holds_one]
            labels[holds_one] = target.gt_classes[matched]
            deltas.append(
                self.box2box_transform.get_deltas(chosen, target.gt_boxes.tensor[matched])
            )
            if not self.mask_on:
                continue
            index = torch.cat(indexes[i])[holds_one]  # (F_i, 5)
            index[:, 1] = i
            for level, anchor in index[:, [0, 4]].unique(dim=0).tolist():
                here = (index[:, 0] == level) & (index[:, 4] == anchor)
                size = self._mask_size(level, anchor)
                truth = target.gt_masks[matched[here]].crop_and_resize(chosen[here], size)
                masks[level][anchor].append(truth.to(windows.device))
                places[level][anchor].append(index[here, 1:4])
        all_classes = torch.cat(classes)
        one_hot = F.one_hot(all_classes, self.num_classes + 1)[:, :-1].to(windows.dtype)
        holds_object = all_classes < self.num_classes
        joined_masks = [[torch.cat(m) if m else None for m in level] for level in masks]
        joined_places = [[torch.cat(p) if p else None for p in level] for level in places]
        return (
            (one_hot, torch.ones_like(holds_object)),
            (torch.cat(deltas) if deltas else None, holds_object),
            (joined_masks, joined_places),
            int(holds_object.sum()),
        )

    def losses(
        self,
        gt_class_info: Any,
        gt_delta_info: Any,
        gt_mask_info: Any,
        num_fg: int,
        pred_logits: PerLevel,
        pred_deltas: PerLevel,
        pred_masks: Any,
    ) -> dict[str, torch.Tensor]:
        """Compute the losses, each divided by the number of windows that hold an object.

        Args:
            gt_class_info: see :meth:`get_ground_truth`, as are the next three.
            gt_delta_info: likewise.
            gt_mask_info: likewise.
            num_fg: likewise.
            pred_logits: see :meth:`TensorMaskHead.forward`, as are the next two.
            pred_deltas: likewise.
            pred_masks: likewise.
        """
        one_hot, counts = gt_class_info
        gt_deltas, holds_object = gt_delta_info
        logits, deltas = permute_all_cls_and_box_to_N_HWA_K_and_concat(
            pred_logits, pred_deltas, self.num_classes
        )
        normalizer = max(num_fg, 1)
        focal = sigmoid_focal_loss_star(
            logits[counts],
            one_hot[counts].to(logits.dtype),
            self.focal_loss_alpha,
            self.focal_loss_gamma,
            "sum",
        )
        boxes = deltas.sum() * 0
        if gt_deltas is not None:
            boxes = smooth_l1_loss(deltas[holds_object], gt_deltas, beta=0.0, reduction="sum")
        losses = {"loss_cls": focal / normalizer, "loss_box_reg": boxes / normalizer}
        if self.mask_on:
            masks = [
                self._mask_loss(pred, truth, places)
                for level in zip(pred_masks, *gt_mask_info, strict=True)
                for pred, truth, places in zip(*level, strict=True)
            ]
            losses["loss_mask"] = torch.stack(masks).sum() / normalizer
        return losses

    def _mask_loss(
        self, pred: torch.Tensor, truth: torch.Tensor | None, places: torch.Tensor | None
    ) -> torch.Tensor:
        """Sum over masks of the mean over cells, for ``(N, S S, H, W)`` of a level and anchor."""
        if truth is None or places is None:
            return pred[0, 0, 0, 0] * 0
        image, row, column = places.unbind(dim=1)
        size = truth.shape[-1]
        logits = pred[image, :, row, column].reshape(-1, size, size)
        loss = F.binary_cross_entropy_with_logits(
            logits,
            truth.to(logits.dtype),
            reduction="sum",
            pos_weight=logits.new_tensor(self.mask_pos_weight),
        )
        return loss * (self.mask_loss_weight / size**2)

    def inference(
        self,
        pred_logits: PerLevel,
        pred_deltas: PerLevel,
        pred_masks: Any,
        anchors: list[list[Boxes]],
        indexes: list[PerLevel],
        images: ImageList,
    ) -> list[Any]:
        """Find the objects of each image; see :meth:`inference_single_image`."""
        logits = torch.cat([permute_to_N_HWA_K(x, self.num_classes) for x in pred_logits], dim=1)
        deltas = torch.cat([permute_to_N_HWA_K(x, 4) for x in pred_deltas], dim=1)
        return [
            self.inference_single_image(
                logits[i],
                deltas[i],
                [[m[i] for m in level] for level in pred_masks] if self.mask_on else None,
                Boxes.cat(anchors[i]),
                torch.cat(indexes[i]),
                size_hw,
            )
            for i, size_hw in enumerate(images.image_sizes)
        ]

    def inference_single_image(
        self,
        pred_logits: torch.Tensor,
        pred_deltas: torch.Tensor,
        pred_masks: Any,
        anchors: Boxes,
        indexes: torch.Tensor,
        image_size: tuple[int, int],
    ) -> tuple[Instances, tuple[list[torch.Tensor], Boxes | None]]:
        """Find the objects of an image.

        Args:
            pred_logits: ``(M, K)``.
            pred_deltas: ``(M, 4)``.
            pred_masks: ``(S S, H, W)`` by level and anchor.
            anchors: the M windows.
            indexes: ``(M, 5)``, see :meth:`get_ground_truth`.
            image_size: (height, width).

        Returns:
            Detections, best first; and of each the mask ``(1, S, S)``, as probabilities, and the
            window that it fills.
        """
        scores = pred_logits.flatten().sigmoid()
        candidates = (scores > self.score_threshold).nonzero().flatten()
        scores, order = scores[candidates].sort(descending=True, stable=True)
        candidates = candidates[order][: self.topk_candidates]
        scores = scores[: self.topk_candidates]
        window, label = candidates // self.num_classes, candidates % self.num_classes
        boxes = self.box2box_transform.apply_deltas(pred_deltas[window], anchors.tensor[window])
        keep = batched_nms(boxes, scores, label, self.nms_threshold)[: self.detections_im]
        found = Instances(
            image_size, pred_boxes=Boxes(boxes[keep]), scores=scores[keep], pred_classes=label[keep]
        )
        if not self.mask_on:
            return found, ([], None)
        masks = []
        for level, _, row, column, anchor in indexes[window[keep]].tolist():
            size = self._mask_size(level, anchor)
            mask = pred_masks[level][anchor][:, row, column]
            masks.append(mask.sigmoid().reshape(1, size, size))
        return found, (masks, Boxes(anchors.tensor[window[keep]]))


def _postprocess(
    found: Instances,
    masks_and_windows: tuple[list[torch.Tensor], Boxes | None],
    height: int,
    width: int,
    mask_threshold: float = 0.5,
) -> Instances:
    """Scale detections to the size asked for, and paste their masks into their windows."""
    masks, windows = masks_and_windows
    scale_x, scale_y = width / found.image_size[1], height / found.image_size[0]
    boxes = found.pred_boxes.clone()
    boxes.scale(scale_x, scale_y)
    boxes.clip((height, width))
    fields = found.get_fields() | {"pred_boxes": boxes}
    kept = boxes.nonempty()
    result = Instances((height, width), **fields)[kept]
    if windows is not None:
        windows = windows.clone()
        windows.scale(scale_x, scale_y)
        masks = [mask for mask, keep in zip(masks, kept.tolist(), strict=True) if keep]
        result.pred_masks = _paste(masks, windows[kept], (height, width), mask_threshold)
    return result


def _paste(
    masks: Sequence[torch.Tensor], windows: Boxes, size_hw: tuple[int, int], threshold: float
) -> torch.Tensor:
    """Paste masks of several sizes: ``(I, height, width)`` bool."""
    pasted = torch.zeros(len(masks), *size_hw, dtype=torch.bool, device=windows.device)
    sizes = torch.tensor([mask.shape[-1] for mask in masks], device=windows.device)
    for size in sizes.unique().tolist():
        of_size = (sizes == size).nonzero().flatten()
        group = torch.cat([masks[i] for i in of_size.tolist()])
        pasted[of_size] = paste_masks_in_image(group, windows[of_size], size_hw, threshold)
    return pasted
