"""Panoptic FPN: things by their masks, stuff by its label map, and both in one picture.

Shapes
    N images; I instances of an image; K classes; H, W rows and columns of the padded batch; h, w
    those of the asked output.

Reading order: PanopticFPN adds a semantic head to GeneralizedRCNN and runs both;
combine_semantic_and_instance_outputs merges what they say.

Source: Kirillov et al., "Panoptic Feature Pyramid Networks" (2019),
https://arxiv.org/abs/1901.02446; the merging: Kirillov et al., "Panoptic Segmentation" (2019),
https://arxiv.org/abs/1801.00868.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from retinue.config import configurable
from retinue.modeling.catalog import META_ARCH_REGISTRY
from retinue.modeling.config_fit import check_parts
from retinue.modeling.meta_arch.inputs import ImageDicts, collect, label_maps, output_size
from retinue.modeling.meta_arch.rcnn import GeneralizedRCNN
from retinue.modeling.meta_arch.semantic_seg import build_sem_seg_head
from retinue.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from retinue.structures import Instances
from retinue.utils.errors import InputError

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["META_ARCH_REGISTRY", "PanopticFPN", "combine_semantic_and_instance_outputs"]


class PanopticFPN(GeneralizedRCNN):
    """A ``GeneralizedRCNN`` with masks, and a semantic head on the same backbone.

    Args:
        sem_seg_head: maps feature maps and label maps to logits and losses.
        combine_overlap_thresh: an instance is left out if a greater part of it is already taken.
        combine_stuff_area_thresh: stuff of fewer pixels is left out.
        combine_instances_score_thresh: instances with a lower score are left out.
        **kwargs: as for ``GeneralizedRCNN``.
    """

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: Any,
        combine_overlap_thresh: float = 0.5,
        combine_stuff_area_thresh: float = 4096,
        combine_instances_score_thresh: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_parts(self.backbone, sem_seg_head=sem_seg_head)
        self.combine_instances_score_thresh = combine_instances_score_thresh
        self.combine_overlap_thresh = combine_overlap_thresh
        self.combine_stuff_area_thresh = combine_stuff_area_thresh
        self.sem_seg_head = sem_seg_head

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = super().from_config(cfg)
        combine = cfg.MODEL.PANOPTIC_FPN.COMBINE
        return arguments | {
            "sem_seg_head": build_sem_seg_head(cfg, arguments["backbone"].output_shape()),
            "combine_overlap_thresh": combine.OVERLAP_THRESH,
            "combine_stuff_area_thresh": combine.STUFF_AREA_LIMIT,
            "combine_instances_score_thresh": combine.INSTANCES_CONFIDENCE_THRESH,
        }

    def forward(self, batched_inputs: ImageDicts) -> dict[str, torch.Tensor] | list[dict[str, Any]]:
        """Compute losses in training, else detections, label maps and both combined.

        Args:
            batched_inputs: as for ``GeneralizedRCNN.forward``, and ``sem_seg`` ``(h, w)`` labels in
                training.

        Returns:
            losses by name; or for each image ``instances``, ``sem_seg`` ``(K, h, w)`` logits, and
            ``panoptic_seg``, see ``combine_semantic_and_instance_outputs``.

        Raises:
            InputError: If an input is missing or has a wrong shape.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)  # images.tensor: (N, C, H, W), padded
        features = self.backbone(images.tensor)  # {"p2": (N, D, H/4, W/4), "p3": ...}
        targets = collect(batched_inputs, "instances", self.device)
        labels = label_maps(
            batched_inputs, self.backbone, self.sem_seg_head.ignore_value, self.device
        )  # (N, H, W)

        _, sem_seg_losses = self.sem_seg_head(features, labels)
        proposals, proposal_losses = self.propose(images, features, batched_inputs, targets)
        _, detector_losses = self.roi_heads(images, features, proposals, targets)
        return sem_seg_losses | proposal_losses | detector_losses

    def inference(  # type: ignore[override]  # boxes can't be given, as in detectron2
        self, batched_inputs: ImageDicts, do_postprocess: bool = True
    ) -> Any:
        """Detect objects, label pixels and combine both.

        Args:
            batched_inputs: as for ``forward``.
            do_postprocess: whether to scale results to the asked size and combine them.

        Returns:
            as ``forward``; without ``do_postprocess`` the ``Instances`` of each image and the
            logits ``(N, K, H, W)``, both in pixels of the network input.
        """
        images = self.preprocess_image(batched_inputs)  # images.tensor: (N, C, H, W), padded
        features = self.backbone(images.tensor)  # {"p2": (N, D, H/4, W/4), "p3": ...}
        logits, _ = self.sem_seg_head(features, None)  # (N, K, H, W)
        proposals, _ = self.propose(images, features, batched_inputs)
        detections, _ = self.roi_heads(images, features, proposals, None)
        if not do_postprocess:
            return detections, logits
        per_image = zip(logits, detections, batched_inputs, images.image_sizes, strict=True)
        return [self._combine(*one) for one in per_image]

    def _combine(
        self,
        logits: torch.Tensor,
        detections: Instances,
        inputs: dict[str, Any],
        image_size: tuple[int, int],
    ) -> dict[str, Any]:
        """Scale the results of one image to the asked size and combine them."""
        height, width = output_size(inputs, image_size)
        sem_seg = sem_seg_postprocess(logits, image_size, height, width)  # (K, h, w)
        instances = detector_postprocess(detections, height, width)
        panoptic_seg = combine_semantic_and_instance_outputs(
            instances,
            sem_seg.argmax(dim=0),
            self.combine_overlap_thresh,
            self.combine_stuff_area_thresh,
            self.combine_instances_score_thresh,
        )
        return {"instances": instances, "sem_seg": sem_seg, "panoptic_seg": panoptic_seg}


def combine_semantic_and_instance_outputs(
    instance_results: Instances,
    semantic_results: torch.Tensor,
    overlap_threshold: float,
    stuff_area_thresh: float,
    instances_score_thresh: float,
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """Give every pixel to one instance or one kind of stuff.

    Instances come first, the best score before others; each takes what is still free of its mask,
    or nothing if too much of it is taken. Stuff fills what is left. The rules are those of the
    public panopticapi.

    Args:
        instance_results: I instances with ``pred_masks`` ``(I, h, w)``, ``scores``,
            ``pred_classes``.
        semantic_results: ``(h, w)`` labels; 0 stands for all things and makes no stuff.
        overlap_threshold: an instance is left out if a greater part of it is already taken.
        stuff_area_thresh: stuff of fewer pixels is left out.
        instances_score_thresh: instances with a lower score are left out.

    Returns:
        ``(h, w)`` int32 segment ids, 0 for no segment; and for each segment ``id``,
        ``category_id``, ``isthing``, and ``score`` and ``instance_id`` (its place among the
        instances) of a thing, or ``area`` in pixels of stuff.

    Raises:
        InputError: If masks and labels differ in size.
    """
    masks = instance_results.pred_masks.to(semantic_results.device, torch.bool)
    if masks.shape[1:] != semantic_results.shape:
        raise InputError(
            "combine_semantic_and_instance_outputs: masks and labels must be of one size; got"
            f" {tuple(masks.shape[1:])} and {tuple(semantic_results.shape)}"
        )
    panoptic = torch.zeros_like(semantic_results, dtype=torch.int32)
    segments: list[dict[str, Any]] = []

    order = instance_results.scores.argsort(descending=True, stable=True).tolist()
    scores, classes = instance_results.scores.tolist(), instance_results.pred_classes.tolist()
    areas = masks.flatten(1).sum(dim=1).tolist()
    for i in order:  # one by one: what is free depends on those before
        if scores[i] < instances_score_thresh:
            break
        free = masks[i] & (panoptic == 0)
        taken = areas[i] - int(free.sum())
        if areas[i] == 0 or taken / areas[i] > overlap_threshold:
            continue
        segment = {
            "id": len(segments) + 1,
            "isthing": True,
            "score": scores[i],
            "category_id": classes[i],
            "instance_id": i,
        }
        panoptic[free] = segment["id"]
        segments.append(segment)

    left = torch.where(panoptic == 0, semantic_results, 0)
    for label in semantic_results.unique().tolist():
        here = left == label
        area = int(here.sum())
        if label == 0 or area < stuff_area_thresh:
            continue
        segment = {
            "id": len(segments) + 1,
            "isthing": False,
            "category_id": label,
            "area": area,
        }
        panoptic[here] = segment["id"]
        segments.append(segment)
    return panoptic, segments
