"""Backbones and detectors of mmdetection 2, in the form of this library.

Shapes
    N images; C channels; H, W rows and columns of the padded batch; h, w those of one image; I
    instances of an image.

Modules are taken as they are. Where a config dict of mmdetection is given, mmdet and mmcv must be
installed; nothing else here needs them, except the masks of mmdetection in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from retinue.layers import ShapeSpec
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.meta_arch.inputs import (
    ImageDicts,
    collect,
    image_batch,
    register_pixel_statistics,
)
from retinue.structures import BitMasks, Boxes, Instances
from retinue.utils.errors import InputError
from retinue.utils.events import log_scalars

__all__ = ["MMDetBackbone", "MMDetDetector"]


def _build(kind: str, part: nn.Module | Mapping[str, Any]) -> Any:
    """Return a module as it is; make it, if it is a config dict of mmdetection."""
    if not isinstance(part, Mapping):
        return part
    try:
        import mmdet.models
        from mmcv.utils import ConfigDict
    except ImportError as error:
        raise ImportError(
            f"a config dict of mmdetection for the {kind} needs mmdet 2 and mmcv 1;"
            " install them, or give a module"
        ) from error
    from omegaconf import DictConfig, OmegaConf

    plain = OmegaConf.to_container(part, resolve=True) if isinstance(part, DictConfig) else part
    return getattr(mmdet.models, f"build_{kind}")(ConfigDict(plain))


class MMDetBackbone(Backbone):
    """A backbone of mmdetection, and a neck, whose outputs get names.

    Args:
        backbone: maps ``(N, C, H, W)`` to a list of feature maps; or a config dict of one.
        neck: maps that list to another; or a config dict of one; None for none.
        output_shapes: channels and stride of each feature map.
        output_names: of each feature map; by default ``"out0"``, ``"out1"``, ...

    Raises:
        InputError: If there are not as many names as shapes.
    """

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        neck: nn.Module | Mapping[str, Any] | None = None,
        *,
        output_shapes: Sequence[ShapeSpec],
        output_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        names = output_names or [f"out{i}" for i in range(len(output_shapes))]
        if len(names) != len(output_shapes):
            raise InputError(
                f"MMDetBackbone: {len(output_shapes)} output_shapes need as many output_names; got"
                f" {list(names)}"
            )
        self._shapes = dict(zip(names, output_shapes, strict=True))
        self.backbone = _build("backbone", backbone)
        self.neck = None if neck is None else _build("neck", neck)
        # mmdetection fills weights, and freezes, only when told to.
        parts = self.neck if isinstance(self.neck, nn.Sequential) else [self.neck]
        for part in (self.backbone, *parts):
            if part is not None:
                part.init_weights()
        self.train()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, C, H, W)`` to feature maps by name.

        Raises:
            InputError: If there are not as many feature maps as shapes.
        """
        outputs = self.backbone(x)
        if self.neck is not None:
            outputs = self.neck(outputs)
        if not isinstance(outputs, list | tuple) or len(outputs) != len(self._shapes):
            got = len(outputs) if isinstance(outputs, list | tuple) else type(outputs).__name__
            raise InputError(
                f"MMDetBackbone: expected a list of {len(self._shapes)} feature maps, one for each"
                f" of output_shapes; got {got}"
            )
        return dict(zip(self._shapes, outputs, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each feature map, by name."""
        return dict(self._shapes)


class MMDetDetector(nn.Module):
    """A detector of mmdetection with the inputs and outputs of ``GeneralizedRCNN``.

    Args:
        detector: has ``forward_train`` and ``simple_test``; or a config dict of one.
        size_divisibility: batches are padded to a multiple of it, in pixels.
        pixel_mean: what is subtracted from each channel of an image.
        pixel_std: what each channel is then divided by.

    Raises:
        InputError: If the statistics differ in length.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor
    padding_constraints: Mapping[str, int] = {}

    def __init__(
        self,
        detector: nn.Module | Mapping[str, Any],
        *,
        size_divisibility: int = 32,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        register_pixel_statistics(self, pixel_mean, pixel_std)
        self.size_divisibility = size_divisibility
        self.detector = _build("detector", detector)
        self.detector.init_weights()

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: ImageDicts) -> dict[str, torch.Tensor] | list[dict[str, Any]]:
        """Compute losses in training, else detections; as ``GeneralizedRCNN.forward``.

        Raises:
            InputError: If an input is missing or wrong, or only some ask for an output size.
        """
        images = image_batch(batched_inputs, self, self.pixel_mean, self.pixel_std)
        metas = [_meta(one, images.tensor.shape[-2:]) for one in batched_inputs]
        if self.training:
            return self._losses(
                images.tensor, metas, collect(batched_inputs, "instances", self.device)
            )
        rescale = {"height" in one for one in batched_inputs}
        if len(rescale) != 1:
            raise InputError(
                "MMDetDetector: give 'height' and 'width' of the output for all images, or for none"
            )
        results = self.detector.simple_test(images.tensor, metas, rescale=rescale.pop())
        return [
            {"instances": _to_instances(result, meta["ori_shape"][:2])}
            for result, meta in zip(results, metas, strict=True)
        ]

    def _losses(
        self, images: torch.Tensor, metas: list[dict[str, Any]], targets: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """Average each loss; what isn't called a loss is reported instead."""
        masks = (
            {"gt_masks": [_to_mmdet_masks(x) for x in targets]}
            if targets[0].has("gt_masks")
            else {}
        )
        outputs = self.detector.forward_train(
            images,
            metas,
            [x.gt_boxes.tensor for x in targets],
            [x.gt_classes for x in targets],
            **masks,
        )
        values = {}
        for name, value in outputs.items():
            if not isinstance(value, torch.Tensor | list):
                raise TypeError(
                    f"MMDetDetector: {name} must be a tensor or a list of them; got"
                    f" {type(value).__name__}"
                )
            parts = [value] if isinstance(value, torch.Tensor) else value
            values[name] = torch.stack([part.mean() for part in parts]).sum()
        log_scalars({k: v.detach() for k, v in values.items() if "loss" not in k})
        return {k: v for k, v in values.items() if "loss" in k}


def _meta(one: dict[str, Any], padded_hw: Sequence[int]) -> dict[str, Any]:
    """Describe an image in the words of mmdetection; shapes are (height, width, channels)."""
    channels, height, width = one["image"].shape
    meta: dict[str, Any] = {
        "img_shape": (height, width, channels),
        "ori_shape": (height, width, channels),
        "pad_shape": (*padded_hw, channels),
        "scale_factor": 1.0,
        "flip": False,
    }
    if "height" in one:
        scale_xy = [width / one["width"], height / one["height"]]
        meta["ori_shape"] = (one["height"], one["width"], channels)
        meta["scale_factor"] = np.array(scale_xy * 2, dtype=np.float32)
    return meta


def _to_mmdet_masks(target: Instances) -> Any:
    from mmdet.core import BitmapMasks, PolygonMasks

    masks = target.gt_masks
    if isinstance(masks, BitMasks):
        return BitmapMasks(masks.tensor.cpu().numpy(), *target.image_size)
    return PolygonMasks(masks.polygons, *target.image_size)


def _to_instances(result: Any, size_hw: tuple[int, int]) -> Instances:
    """Turn ``(I_k, 5)`` boxes and scores of each class k, maybe with masks, into ``Instances``."""
    per_class, masks = result if isinstance(result, tuple) else (result, None)
    rows = torch.from_numpy(np.concatenate(per_class)).reshape(-1, 5)
    counts = torch.tensor([len(boxes) for boxes in per_class])
    found = Instances(size_hw)
    found.pred_boxes = Boxes(rows[:, :4])
    found.scores = rows[:, 4]
    found.pred_classes = torch.arange(len(per_class)).repeat_interleave(counts)
    if masks is not None and len(rows) > 0:
        masks = masks[0] if isinstance(masks, tuple) else masks  # beside scores of masks
        flat = [torch.as_tensor(mask) for of_class in masks for mask in of_class]
        found.pred_masks = torch.stack(flat)
    return found
