"""What detectors without region heads share: torchvision's form of targets and results."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from retinue.modeling.meta_arch.dense_detector import DenseDetector
from retinue.structures import Instances
from retinue.torchvision.names import take_torchvision_names
from retinue.torchvision.transform import GeneralizedRCNNTransform, check_targets

__all__ = ["TargetsAndDicts"]


class TargetsAndDicts(DenseDetector):
    """Lets a dense detector take lists of images and target dicts, and return dicts."""

    takes_torchvision_names = True
    loss_names: ClassVar[Mapping[str, str]]
    """Our name of each loss -> torchvision's."""
    num_classes: int
    transform: GeneralizedRCNNTransform

    def _take_torchvision_form(self, transform: GeneralizedRCNNTransform) -> None:
        self.transform = transform
        take_torchvision_names(self, "backbone.body.fpn.")

    def forward(  # type: ignore[override]
        self,
        images: Sequence[torch.Tensor],
        targets: Sequence[Mapping[str, torch.Tensor]] | None = None,
    ) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """Compute losses in training, else detections.

        Args:
            images: ``(C, H, W)`` each, RGB floats in [0, 1], of any size.
            targets: in training, per image ``boxes`` ``(M, 4)`` in pixels and ``labels`` ``(M,)``.

        Returns:
            the losses ``classification``, ``bbox_regression`` and those of the kind of model; or
            per image ``boxes``, ``labels`` and ``scores``, best first.

        Raises:
            InputError: If an image or target is missing or wrong.
        """
        if self.training:
            check_targets(targets, len(images), ["boxes", "labels"], self.num_classes)
        batch, truths = self.transform(images, targets if self.training else None)
        by_name = self.backbone(batch.tensor)
        features = [by_name[name] for name in self.head_in_features]  # (N, C, H, W) each
        predictions = self.head(features)
        if truths is not None:
            losses = self.forward_training(batch, features, predictions, truths)
            return {theirs: losses[ours] for ours, theirs in self.loss_names.items()}
        detections = self.forward_inference(batch, features, predictions)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        return self.transform.postprocess(detections, sizes, keep_empty=True)

    def _decode_per_level_predictions(self, *args: Any) -> Instances:
        """Decode the best pairs of one level of one image; boxes are clipped before suppression."""
        found = super()._decode_per_level_predictions(*args)
        found.pred_boxes.clip(found.image_size)
        return found
