"""Models that look at regions: propose boxes, then classify and refine each.

Shapes
    N images; C channels; H, W rows and columns of the padded batch; D channels of a feature map.

Units
    Boxes are in pixels: of the network input between the parts, of the asked size in the output.

Reading order: GeneralizedRCNN.forward for training, .inference for detection; each part is a module
of its own, which can be called alone: preprocess_image, backbone, propose, roi_heads.

Source: Ren et al., "Faster R-CNN" (2015), https://arxiv.org/abs/1506.01497.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retinue.config import configurable
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.backbone.build import build_backbone
from retinue.modeling.catalog import META_ARCH_REGISTRY
from retinue.modeling.config_fit import check_parts
from retinue.modeling.meta_arch.inputs import (
    ImageDicts,
    collect,
    image_batch,
    output_size,
    register_pixel_statistics,
)
from retinue.modeling.postprocessing import detector_postprocess
from retinue.modeling.proposal_generator.build import build_proposal_generator
from retinue.modeling.roi_heads.roi_heads import build_roi_heads
from retinue.structures import ImageList, Instances
from retinue.utils.errors import InputError

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["META_ARCH_REGISTRY", "GeneralizedRCNN", "ProposalNetwork"]


class GeneralizedRCNN(nn.Module):
    """Backbone, proposals, heads on regions: Fast, Faster, Mask, Keypoint and Cascade R-CNN.

    Args:
        backbone: maps images to feature maps by name.
        proposal_generator: proposes boxes; None if proposals come with the inputs.
        roi_heads: turn feature maps and proposals into detections, or into losses.
        pixel_mean: what is subtracted from each channel of an image.
        pixel_std: what each channel is then divided by.
        input_format: order of the channels, such as ``"BGR"``; told to whoever draws.
        vis_period: every how many iterations a hook draws pictures; 0 for never.

    Raises:
        InputError: If the statistics differ in length, or drawing is asked for without a format.
        UnknownNameError: If a part takes a feature map that the backbone doesn't give.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor
    roi_heads: Any

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: Any,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ) -> None:
        super().__init__()
        if vis_period > 0 and input_format is None:
            raise InputError("GeneralizedRCNN: vis_period needs input_format, such as 'BGR'")
        check_parts(backbone, proposal_generator=proposal_generator, roi_heads=roi_heads)
        register_pixel_statistics(self, pixel_mean, pixel_std)
        self.input_format, self.vis_period = input_format, vis_period
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = ProposalNetwork.from_config(cfg)
        shapes = arguments["backbone"].output_shape()
        return arguments | {
            "roi_heads": build_roi_heads(cfg, shapes),
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
        }

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: ImageDicts) -> dict[str, torch.Tensor] | list[dict[str, Any]]:
        """Compute losses in training, else detections.

        Args:
            batched_inputs: a dict for each image: ``image`` ``(C, h, w)``; ``instances`` in
                training; ``proposals`` if there is no proposal generator; ``height`` and
                ``width`` of the output.

        Returns:
            losses by name; or for each image ``{"instances": Instances}`` with ``pred_boxes``,
            ``scores``, ``pred_classes``, and ``pred_masks`` or ``pred_keypoints``.

        Raises:
            InputError: If an input is missing or has a wrong shape.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)  # images.tensor: (N, C, H, W), padded
        features = self.backbone(images.tensor)  # {"p2": (N, D, H/4, W/4), "p3": ...}
        targets = collect(batched_inputs, "instances", self.device)  # one Instances an image

        proposals, proposal_losses = self.propose(images, features, batched_inputs, targets)
        _, detector_losses = self.roi_heads(images, features, proposals, targets)
        return detector_losses | proposal_losses

    def propose(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        batched_inputs: ImageDicts,
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """Return the proposals of each image and, with ``targets`` in training, their losses."""
        if self.proposal_generator is None:
            return collect(batched_inputs, "proposals", self.device), {}
        return self.proposal_generator(images, features, targets)

    def inference(
        self,
        batched_inputs: ImageDicts,
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[Any]:
        """Detect objects; or predict masks and keypoints of objects whose boxes are known.

        Args:
            batched_inputs: as for ``forward``.
            detected_instances: if given, one an image with ``pred_boxes`` and ``pred_classes``, in
                pixels of the network input: boxes are not detected again.
            do_postprocess: whether to scale results to the asked size.

        Returns:
            as ``forward``; without ``do_postprocess``, the ``Instances`` of each image, in pixels
            of the network input.

        Raises:
            InputError: If the model is in training mode, or an input is wrong.
        """
        if self.training:
            raise InputError("GeneralizedRCNN.inference: call model.eval() first")
        images = self.preprocess_image(batched_inputs)  # images.tensor: (N, C, H, W), padded
        features = self.backbone(images.tensor)  # {"p2": (N, D, H/4, W/4), "p3": ...}

        if detected_instances is None:
            proposals, _ = self.propose(images, features, batched_inputs)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            known = [x.to(self.device) for x in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, known)

        if not do_postprocess:
            return results
        return self._postprocess(results, batched_inputs, images.image_sizes)

    def preprocess_image(self, batched_inputs: ImageDicts) -> ImageList:
        """Normalise, pad and stack the images."""
        return image_batch(batched_inputs, self.backbone, self.pixel_mean, self.pixel_std)

    def _move_to_current_device(self, x: Any) -> Any:
        """Bring a tensor or structure of the inputs to the device of the model."""
        return x.to(self.device)

    def visualize_training(self, batched_inputs: ImageDicts, proposals: list[Instances]) -> None:
        """Put a picture of the first image, its objects and proposals, into the storage.

        For training loops of your own; ``DefaultTrainer`` has a hook for pictures.
        """
        put_picture = importlib.import_module("retinue.visualization.training").put_picture
        put_picture(batched_inputs, proposals, self.input_format)

    @staticmethod
    def _postprocess(
        instances: list[Instances],
        batched_inputs: ImageDicts,
        image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Instances]]:
        """Scale the results of each image to the size that its input asks for."""
        return [
            {"instances": detector_postprocess(result, *output_size(one, size_hw))}
            for result, one, size_hw in zip(instances, batched_inputs, image_sizes, strict=True)
        ]


class ProposalNetwork(nn.Module):
    """Backbone and proposals, nothing else: the first half of Faster R-CNN.

    Args:
        backbone: maps images to feature maps by name.
        proposal_generator: proposes boxes.
        pixel_mean: what is subtracted from each channel of an image.
        pixel_std: what each channel is then divided by.

    Raises:
        InputError: If the statistics differ in length.
        UnknownNameError: If the generator takes a feature map that the backbone doesn't give.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        check_parts(backbone, proposal_generator=proposal_generator)
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        register_pixel_statistics(self, pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        return {
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
        }

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: ImageDicts) -> dict[str, torch.Tensor] | list[dict[str, Any]]:
        """Compute losses in training, else proposals.

        Args:
            batched_inputs: as for ``GeneralizedRCNN.forward``.

        Returns:
            losses by name; or for each image ``{"proposals": Instances}`` with ``proposal_boxes``
            and ``objectness_logits``, best first.

        Raises:
            InputError: If an input is missing or has a wrong shape.
        """
        images = image_batch(batched_inputs, self.backbone, self.pixel_mean, self.pixel_std)
        features = self.backbone(images.tensor)  # {"p2": (N, D, H/4, W/4), "p3": ...}
        if self.training:
            targets = collect(batched_inputs, "instances", self.device)
            _, losses = self.proposal_generator(images, features, targets)
            return losses
        proposals, _ = self.proposal_generator(images, features, None)
        return [
            {"proposals": detector_postprocess(result, *output_size(one, size_hw))}
            for result, one, size_hw in zip(
                proposals, batched_inputs, images.image_sizes, strict=True
            )
        ]

    def _move_to_current_device(self, x: Any) -> Any:
        """Bring a tensor or structure of the inputs to the device of the model."""
        return x.to(self.device)
