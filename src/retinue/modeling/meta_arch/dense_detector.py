"""What detectors without proposals share: a head that predicts at every place of a pyramid.

Shapes
    N images; L levels; A anchors at each place; R_l = H_l * W_l * A anchors on level l; K numbers
    an anchor: the classes, 4 for a box, ...

Units
    Boxes are in pixels of the network input until postprocessing.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from retinue.layers import batched_nms
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.config_fit import check_features
from retinue.modeling.meta_arch.inputs import (
    ImageDicts,
    collect,
    image_batch,
    output_size,
    register_pixel_statistics,
)
from retinue.modeling.postprocessing import detector_postprocess
from retinue.structures import Boxes, ImageList, Instances

__all__ = ["DenseDetector", "permute_to_N_HWA_K"]


def permute_to_N_HWA_K(tensor: torch.Tensor, K: int) -> torch.Tensor:
    """Turn predictions ``(N, A * K, H, W)`` into ``(N, H * W * A, K)``."""
    return tensor.permute(0, 2, 3, 1).reshape(tensor.shape[0], -1, K)


class DenseDetector(nn.Module):
    """Backbone and head; subclasses say what the predictions mean.

    A subclass writes ``forward_training``, which returns losses, and ``forward_inference``, which
    returns one ``Instances`` an image, both from images, features and predictions.

    Args:
        backbone: maps images to feature maps by name.
        head: maps a list of feature maps to predictions.
        head_in_features: names of the feature maps for the head; by default all, finest first.
        pixel_mean: what is subtracted from each channel of an image.
        pixel_std: what each channel is then divided by.

    Raises:
        UnknownNameError: If the backbone has no such feature map.
        InputError: If the statistics differ in length.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor
    box2box_transform: Any  # subclasses set these
    test_score_thresh: float
    test_topk_candidates: int
    test_nms_thresh: float
    max_detections_per_image: int

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None = None,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        shapes: dict[str, Any] = backbone.output_shape()
        if head_in_features is None:
            head_in_features = sorted(shapes, key=lambda name: shapes[name].stride)
        check_features("head_in_features", head_in_features, shapes, "the model's backbone")
        self.head_in_features = list(head_in_features)
        self._averages: set[str] = set()  # names of attributes that training averages over steps
        register_pixel_statistics(self, pixel_mean, pixel_std)

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: ImageDicts) -> dict[str, torch.Tensor] | list[dict[str, Any]]:
        """Compute losses in training, else detections.

        Args:
            batched_inputs: a dict for each image: ``image`` ``(C, h, w)``; ``instances`` in
                training; ``height`` and ``width`` of the output.

        Returns:
            losses by name; or for each image ``{"instances": Instances}`` with ``pred_boxes``,
            ``scores`` and ``pred_classes``, best first.

        Raises:
            InputError: If an input is missing or has a wrong shape.
        """
        images = self.preprocess_image(batched_inputs)  # images.tensor: (N, C, H, W), padded
        by_name = self.backbone(images.tensor)
        features = [by_name[name] for name in self.head_in_features]  # (N, D, H_l, W_l) each
        predictions = self.head(features)  # a few lists of (N, A * K, H_l, W_l)
        if self.training:
            targets = collect(batched_inputs, "instances", self.device)
            return self.forward_training(images, features, predictions, targets)
        return [
            {"instances": detector_postprocess(result, *output_size(one, size_hw))}
            for result, one, size_hw in zip(
                self.forward_inference(images, features, predictions),
                batched_inputs,
                images.image_sizes,
                strict=True,
            )
        ]

    def forward_training(
        self,
        images: ImageList,
        features: list[torch.Tensor],
        predictions: Sequence[list[torch.Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, torch.Tensor]:
        """Compute the losses, by name."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_training")

    def forward_inference(
        self,
        images: ImageList,
        features: list[torch.Tensor],
        predictions: Sequence[list[torch.Tensor]],
    ) -> list[Instances]:
        """Return the detections of each image, in pixels of the network input."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_inference")

    def preprocess_image(self, batched_inputs: ImageDicts) -> ImageList:
        """Normalise, pad and stack the images."""
        return image_batch(batched_inputs, self.backbone, self.pixel_mean, self.pixel_std)

    def _move_to_current_device(self, x: Any) -> Any:
        """Bring a tensor or structure of the inputs to the device of the model."""
        return x.to(self.device)

    def visualize_training(self, batched_inputs: ImageDicts, results: list[Instances]) -> None:
        """Put a picture of the first image, its objects and detections, into the storage.

        Args:
            batched_inputs: as for ``forward``.
            results: detections of each image, in pixels of the network input.
        """
        put_picture = importlib.import_module("retinue.visualization.training").put_picture
        put_picture(batched_inputs, results, getattr(self, "input_format", None), stacked=True)

    def _transpose_dense_predictions(
        self, predictions: Sequence[list[torch.Tensor]], dims_per_anchor: Sequence[int]
    ) -> list[list[torch.Tensor]]:
        """Bring each kind of prediction into the form ``(N, R_l, K)``, K from the second list."""
        return [
            [permute_to_N_HWA_K(x, num) for x in levels]
            for levels, num in zip(predictions, dims_per_anchor, strict=True)
        ]

    def _ema_update(
        self, name: str, value: Any, initial_value: float, momentum: float = 0.9
    ) -> Any:
        """Move the attribute ``name`` towards ``value`` and return it.

        With a tensor as ``value`` the average stays on the device: nothing waits for it. Averaging
        the number of objects steadies losses that are divided by it.
        """
        old = getattr(self, name, initial_value)
        if isinstance(old, torch.Tensor) and isinstance(value, torch.Tensor):
            old = old.to(value)  # the model may have moved
        new = old * momentum + value * (1 - momentum)
        setattr(self, name, new)
        self._averages.add(name)
        return new

    def training_state(self) -> dict[str, Any]:
        """Return the running averages: training goes on from them, but they are no weights."""
        return {name: getattr(self, name) for name in sorted(self._averages)}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Take over running averages."""
        for name, value in state.items():
            setattr(self, name, value)
            self._averages.add(name)

    def _decode_per_level_predictions(
        self,
        anchors: Boxes,
        pred_scores: torch.Tensor,
        pred_deltas: torch.Tensor,
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """Decode the best (anchor, class) pairs of one level of one image.

        Args:
            anchors: R_l boxes.
            pred_scores: ``(R_l, K)`` in [0, 1].
            pred_deltas: ``(R_l, 4)``.
            score_thresh: pairs at or below it are dropped.
            topk_candidates: how many remain at most.
            image_size: (height, width).
        """
        pairs = (pred_scores > score_thresh).nonzero()  # rows: anchor, class
        scores = pred_scores[pairs[:, 0], pairs[:, 1]]
        scores, best = scores.topk(min(len(scores), topk_candidates))
        anchor, label = pairs[best].unbind(dim=1)
        boxes = self.box2box_transform.apply_deltas(pred_deltas[anchor], anchors.tensor[anchor])
        return Instances(image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=label)

    def _decode_multi_level_predictions(
        self,
        anchors: list[Boxes],
        pred_scores: list[torch.Tensor],
        pred_deltas: list[torch.Tensor],
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """Decode the best pairs of every level of one image, level after level."""
        levels = zip(anchors, pred_scores, pred_deltas, strict=True)
        return Instances.cat(
            [
                self._decode_per_level_predictions(
                    *level, score_thresh, topk_candidates, image_size
                )
                for level in levels
            ]
        )

    def inference_single_image(
        self,
        anchors: list[Boxes],
        box_cls: list[torch.Tensor],
        box_delta: list[torch.Tensor],
        image_size: tuple[int, int],
    ) -> Instances:
        """Choose the detections of one image, best first.

        Args:
            anchors: of each level.
            box_cls: for each level ``(R_l, K)`` scores in [0, 1].
            box_delta: for each level ``(R_l, 4)``.
            image_size: (height, width).
        """
        found = self._decode_multi_level_predictions(
            anchors,
            box_cls,
            box_delta,
            self.test_score_thresh,
            self.test_topk_candidates,
            image_size,
        )
        keep = batched_nms(  # boxes suppress only boxes of their class
            found.pred_boxes.tensor, found.scores, found.pred_classes, self.test_nms_thresh
        )
        return found[keep[: self.max_detections_per_image]]
