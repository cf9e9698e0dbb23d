"""Test-time augmentation: predict on several versions of an image, and merge what was found.

Shapes
    A versions of the image; D detections, all versions together; K classes; M side of a mask.

Units
    Boxes of a version are pixels of that version; merged ones are pixels of the original image,
    whose size is ``height`` and ``width`` of the input.

Reading order: DatasetMapperTTA makes the versions; GeneralizedRCNNWithTTA._inference_one_image
detects boxes on each, merges them, and predicts masks of the merged boxes on each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from retinue.config import configurable
from retinue.data.detection_utils import read_image
from retinue.data.transforms import (
    HFlipTransform,
    NoOpTransform,
    RandomFlip,
    ResizeShortestEdge,
    ResizeTransform,
    TransformList,
    apply_augmentations,
)
from retinue.modeling.meta_arch import GeneralizedRCNN
from retinue.modeling.postprocessing import detector_postprocess
from retinue.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["DatasetMapperTTA", "GeneralizedRCNNWithTTA"]

MIN_SCORE = 1e-8  # of merged detections: each version has applied the model's threshold


class DatasetMapperTTA:
    """Makes versions of an input: each size, as it is and mirrored.

    Args:
        min_sizes: lengths of the shorter side, in pixels.
        max_size: the most that the longer side may have.
        flip: whether to mirror, too.
    """

    @configurable
    def __init__(self, min_sizes: Sequence[int], max_size: int, flip: bool) -> None:
        self.min_sizes = min_sizes
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        aug = cfg.TEST.AUG
        return {"min_sizes": aug.MIN_SIZES, "max_size": aug.MAX_SIZE, "flip": aug.FLIP}

    def __call__(self, dataset_dict: dict[str, Any]) -> list[dict[str, Any]]:
        """Make the versions.

        Args:
            dataset_dict: a model input with ``image`` ``(C, H, W)``, ``height`` and ``width``.

        Returns:
            Copies with other images, and the way there from the original image as ``transforms``.
        """
        image = dataset_dict["image"].permute(1, 2, 0).numpy()
        original_hw = (dataset_dict["height"], dataset_dict["width"])
        if image.shape[:2] == original_hw:
            to_input: Any = NoOpTransform()
        else:
            to_input = ResizeTransform(*original_hw, *image.shape[:2])

        versions = []
        for size in self.min_sizes:
            resize = ResizeShortestEdge(size, self.max_size)
            for steps in [[resize], [resize, RandomFlip(prob=1.0)]][: 2 if self.flip else 1]:
                pixels, transforms = apply_augmentations(steps, np.copy(image))
                version = {k: copy.deepcopy(v) for k, v in dataset_dict.items() if k != "image"}
                version["image"] = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
                version["transforms"] = to_input + transforms
                versions.append(version)
        return versions


class GeneralizedRCNNWithTTA(nn.Module):
    """A Faster or Mask R-CNN that predicts with test-time augmentation; called as the model is.

    Args:
        cfg: the model's config.
        model: the model, in evaluation mode.
        tta_mapper: makes the versions of an input; ``DatasetMapperTTA(cfg)`` if None.
        batch_size: versions that go through the model together.

    Raises:
        InputError: For a model of another kind, with keypoints, or with proposals from a file.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        tta_mapper: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None,
        batch_size: int = 3,
    ) -> None:
        super().__init__()
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        if not isinstance(model, GeneralizedRCNN):
            raise InputError(
                f"GeneralizedRCNNWithTTA: needs a GeneralizedRCNN; got {type(model).__name__};"
                f" set TEST.AUG.ENABLED to False, or MODEL.META_ARCHITECTURE (which is"
                f" {cfg.MODEL.META_ARCHITECTURE}) to GeneralizedRCNN"
            )
        for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
            if cfg.MODEL[key]:
                raise InputError(
                    f"GeneralizedRCNNWithTTA: MODEL.{key} can't be merged between versions of an"
                    " image; set TEST.AUG.ENABLED to False"
                )
        self.cfg = cfg.clone()
        self.model: Any = model
        self.tta_mapper: Any = tta_mapper
        if tta_mapper is None:
            self.tta_mapper = DatasetMapperTTA(cfg)  # type: ignore[call-arg] # from a config
        self.batch_size = batch_size

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predict, as ``GeneralizedRCNN.forward`` does; an input may be a file name alone."""
        return [self._inference_one_image(self._read(item)) for item in batched_inputs]

    def _read(self, item: dict[str, Any]) -> dict[str, Any]:
        item = dict(item)
        if "image" not in item:
            pixels = read_image(item.pop("file_name"), self.model.input_format)
            item["image"] = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        if "height" not in item and "width" not in item:
            item["height"], item["width"] = item["image"].shape[1:]
        return item

    def _inference_one_image(self, input: dict[str, Any]) -> dict[str, Any]:
        size_hw = (input["height"], input["width"])
        versions, tfms = self._get_augmented_inputs(input)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            boxes, scores, classes = self._get_augmented_boxes(versions, tfms)
        merged = self._merge_detections(boxes, scores, classes, size_hw)
        if self.cfg.MODEL.MASK_ON:
            detected = self._rescale_detected_boxes(versions, merged, tfms)
            outputs = self._batch_inference(versions, detected)
            merged.pred_masks = self._reduce_pred_masks(outputs, tfms)
            merged = detector_postprocess(merged, *size_hw)
        return {"instances": merged}

    def _get_augmented_inputs(
        self, input: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], list[TransformList]]:
        """Return the versions, and the transforms that made them."""
        versions = self.tta_mapper(input)
        return versions, [version.pop("transforms") for version in versions]

    @contextmanager
    def _turn_off_roi_heads(self, attrs: Sequence[str]) -> Iterator[None]:
        """Within the block, set those of the switches that ``model.roi_heads`` has to False."""
        heads = self.model.roi_heads
        before = {name: getattr(heads, name) for name in attrs if hasattr(heads, name)}
        try:
            for name in before:
                setattr(heads, name, False)
            yield
        finally:
            for name, value in before.items():
                setattr(heads, name, value)

    def _batch_inference(
        self,
        batched_inputs: Sequence[dict[str, Any]],
        detected_instances: Sequence[Instances] | None = None,
    ) -> list[Instances]:
        """Predict in batches of ``batch_size``, without postprocessing."""
        outputs: list[Instances] = []
        for start in range(0, len(batched_inputs), self.batch_size):
            part = slice(start, start + self.batch_size)
            detected = None if detected_instances is None else detected_instances[part]
            outputs += self.model.inference(batched_inputs[part], detected, do_postprocess=False)
        return outputs

    def _get_augmented_boxes(
        self, augmented_inputs: Sequence[dict[str, Any]], tfms: Sequence[TransformList]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Detect on all versions: boxes ``(D, 4)`` in the original image, scores, classes."""
        outputs = self._batch_inference(augmented_inputs)
        boxes = [
            _apply_box(tfm.inverse(), output.pred_boxes.tensor)
            for output, tfm in zip(outputs, tfms, strict=True)
        ]
        return (
            torch.cat(boxes),
            torch.cat([output.scores for output in outputs]),
            torch.cat([output.pred_classes for output in outputs]),
        )

    def _merge_detections(
        self,
        all_boxes: torch.Tensor,
        all_scores: torch.Tensor | Sequence[torch.Tensor],
        all_classes: torch.Tensor | Sequence[torch.Tensor],
        shape_hw: tuple[int, int],
    ) -> Instances:
        """Keep the best of overlapping detections of a class."""
        scores = torch.as_tensor(all_scores, device=all_boxes.device)
        classes = torch.as_tensor(all_classes, device=all_boxes.device)
        # One column more: the background, which is expected last.
        table = scores.new_zeros(len(scores), self.cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1)
        table[torch.arange(len(scores), device=table.device), classes] = scores
        merged, _ = fast_rcnn_inference_single_image(
            all_boxes,
            table,
            shape_hw,
            MIN_SCORE,
            self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            self.cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        return merged

    def _rescale_detected_boxes(
        self,
        augmented_inputs: Sequence[dict[str, Any]],
        merged_instances: Instances,
        tfms: Sequence[TransformList],
    ) -> list[Instances]:
        """Return the merged detections as they are on each version."""
        return [
            Instances(
                version["image"].shape[1:3],
                pred_boxes=Boxes(_apply_box(tfm, merged_instances.pred_boxes.tensor)),
                pred_classes=merged_instances.pred_classes,
                scores=merged_instances.scores,
            )
            for version, tfm in zip(augmented_inputs, tfms, strict=True)
        ]

    def _reduce_pred_masks(
        self, outputs: Sequence[Instances], tfms: Sequence[TransformList]
    ) -> torch.Tensor:
        """Average ``(D, 1, M, M)`` masks over versions; size doesn't matter to them, mirrors do."""
        masks = []
        for output, tfm in zip(outputs, tfms, strict=True):
            is_mirrored = any(isinstance(step, HFlipTransform) for step in tfm.transforms)
            masks.append(output.pred_masks.flip(dims=[3]) if is_mirrored else output.pred_masks)
        return torch.stack(masks).mean(dim=0)


def _apply_box(transform: TransformList, boxes: torch.Tensor) -> torch.Tensor:
    """Transform ``(N, 4)`` boxes by a transform that works on arrays."""
    moved = transform.apply_box(boxes.cpu().numpy())
    return torch.from_numpy(moved).to(boxes.device, boxes.dtype)
