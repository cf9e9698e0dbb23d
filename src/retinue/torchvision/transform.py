"""From a list of images and target dicts to a batch, and from detections to result dicts.

Shapes
    C channels; H, W rows and columns of an image as given, h, w as the network sees it; M objects
    of an image; K keypoints of an object.

Units
    Images are floats in [0, 1]. Boxes are x0, y0, x1, y1 in pixels.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.layers import paste_masks_in_image
from retinue.modeling.postprocessing import detector_postprocess
from retinue.structures import BitMasks, Boxes, ImageList, Instances, Keypoints
from retinue.utils.errors import InputError

__all__ = ["GeneralizedRCNNTransform", "check_targets"]

Target = Mapping[str, torch.Tensor]


class GeneralizedRCNNTransform(nn.Module):
    """Resize images with their targets, normalise, pad to a batch; and scale results back.

    Args:
        min_size: the shorter side gets this many pixels; of several numbers, one at random in
            training and the last in inference.
        max_size: unless the longer side would exceed this.
        image_mean: what is subtracted from each channel.
        image_std: what each channel is then divided by.
        size_divisible: height and width of the batch are multiples of it.
        fixed_size: ``(width, height)`` that every image is resized to instead.
    """

    def __init__(
        self,
        min_size: int | Sequence[int],
        max_size: int,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        size_divisible: int = 32,
        fixed_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.min_size = (min_size,) if isinstance(min_size, int) else tuple(min_size)
        self.max_size = max_size
        self.image_mean = image_mean
        self.image_std = image_std
        self.size_divisible = size_divisible
        self.fixed_size = fixed_size

    def forward(
        self, images: Sequence[torch.Tensor], targets: Sequence[Target] | None = None
    ) -> tuple[ImageList, list[Instances] | None]:
        """Make a batch.

        Args:
            images: ``(C, H, W)`` each.
            targets: per image ``boxes``, ``labels`` and what else there is; see
                :func:`check_targets`.

        Returns:
            The padded batch; and per image ``gt_boxes``, ``gt_classes``, ``gt_masks``,
            ``gt_keypoints`` in pixels of it, None without targets.

        Raises:
            InputError: If an image is no float tensor of this shape.
        """
        resized, truths = [], []
        for index, image in enumerate(images):
            self._check_image(index, image)
            size = self._size(image.shape[-2:])
            mean, std = (
                torch.as_tensor(x, dtype=image.dtype, device=image.device)[:, None, None]
                for x in (self.image_mean, self.image_std)
            )
            image = F.interpolate(((image - mean) / std)[None], size, mode="bilinear")[0]
            resized.append(image)
            if targets is not None:
                truths.append(_to_instances(targets[index], images[index].shape[-2:], size))
        batch = ImageList.from_tensors(resized, self.size_divisible)
        return batch, truths if targets is not None else None

    def _size(self, size_hw: Sequence[int]) -> tuple[int, int]:
        """Choose the (height, width) that an image is resized to."""
        if self.fixed_size is not None:
            return self.fixed_size[1], self.fixed_size[0]
        height, width = size_hw
        short = random.choice(self.min_size) if self.training else self.min_size[-1]
        scale = min(short / min(height, width), self.max_size / max(height, width))
        return max(1, int(height * scale)), max(1, int(width * scale))

    def _check_image(self, index: int, image: Any) -> None:
        where = f"model input: image {index}"
        if not isinstance(image, torch.Tensor):
            raise InputError(f"{where} must be a tensor (C, H, W); got {type(image).__name__}")
        if image.dim() != 3 or image.shape[0] not in (1, len(self.image_mean)) or 0 in image.shape:
            raise InputError(
                f"{where} must have shape ({len(self.image_mean)}, H, W), a channel for each"
                f" image_mean; got {tuple(image.shape)}"
            )
        if not image.is_floating_point():
            raise InputError(
                f"{where} must be floats in [0, 1]; got {image.dtype}; write `image / 255`"
            )

    def postprocess(
        self,
        results: Sequence[Instances],
        sizes: Sequence[tuple[int, int]],
        *,
        keep_empty: bool = False,
    ) -> list[dict[str, torch.Tensor]]:
        """Scale detections to the images as given.

        Args:
            results: per image, in pixels of the network input.
            sizes: ``(height, width)`` of each image as given.
            keep_empty: keep boxes that end up without area, as torchvision does where boxes are
                all there is.

        Returns:
            Per image ``boxes`` ``(M, 4)``, ``labels`` ``(M,)``, ``scores`` ``(M,)``; with a mask
            branch ``masks`` ``(M, 1, H, W)`` in [0, 1]; with a keypoint branch ``keypoints``
            ``(M, K, 3)`` (x, y, 1) and ``keypoints_scores`` ``(M, K)`` logits.
        """
        to_dict = _boxes_to_dict if keep_empty else _to_dict
        return [to_dict(r, size) for r, size in zip(results, sizes, strict=True)]


def _to_instances(target: Target, old_hw: Sequence[int], new_hw: tuple[int, int]) -> Instances:
    scale_xy = torch.tensor([new_hw[1] / old_hw[1], new_hw[0] / old_hw[0]])
    boxes = target["boxes"]
    truth = Instances(
        new_hw,
        gt_boxes=Boxes(boxes * scale_xy.repeat(2).to(boxes.device)),
        gt_classes=target["labels"].long(),
    )
    if "masks" in target:
        masks = target["masks"][:, None].float()
        masks = F.interpolate(masks, new_hw) if len(masks) else masks.new_zeros(0, 1, *new_hw)
        truth.gt_masks = BitMasks(masks[:, 0] > 0.5)
    if "keypoints" in target:
        xy, visibility = target["keypoints"].float().split((2, 1), dim=2)
        xy = xy * scale_xy.to(xy.device)
        truth.gt_keypoints = Keypoints(torch.cat((xy, visibility), dim=2))
    return truth


def _boxes_to_dict(result: Instances, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    boxes = result.pred_boxes.clone()
    boxes.scale(size[1] / result.image_size[1], size[0] / result.image_size[0])
    boxes.clip(size)
    return {"boxes": boxes.tensor, "labels": result.pred_classes, "scores": result.scores}


def _to_dict(result: Instances, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    result = Instances(result.image_size, **result.get_fields())
    if result.has("pred_masks"):  # torchvision hands out probabilities: paste without threshold
        result.cells = result.pred_masks[:, 0]
        result.remove("pred_masks")
    result = detector_postprocess(result, *size)
    out = {
        "boxes": result.pred_boxes.tensor,
        "labels": result.pred_classes,
        "scores": result.scores,
    }
    if result.has("cells"):
        pixels = paste_masks_in_image(result.cells, result.pred_boxes, size, threshold=-1)
        out["masks"] = pixels[:, None].float() / 255
    if result.has("pred_keypoints"):
        xy, logit = result.pred_keypoints.split((2, 1), dim=2)
        out["keypoints"] = torch.cat((xy, torch.ones_like(logit)), dim=2)
        out["keypoints_scores"] = logit[:, :, 0]
    return out


def check_targets(
    targets: Any, num_images: int, fields: Sequence[str], num_classes: int | None
) -> None:
    """Check the targets of a batch before anything is computed from them.

    Args:
        targets: per image a dict: ``boxes`` ``(M, 4)`` float, ``labels`` ``(M,)`` int64 from 1 on,
            ``masks`` ``(M, H, W)``, ``keypoints`` ``(M, K, 3)``.
        num_images: how many there must be.
        fields: what each dict must have.
        num_classes: labels are below it; None if nobody knows.

    Raises:
        InputError: If something is missing, has another shape, or a box has no area.
    """
    if not isinstance(targets, Sequence) or len(targets) != num_images:
        got = f"{len(targets)}" if isinstance(targets, Sequence) else repr(targets)
        raise InputError(
            f"targets: training needs a list of {num_images} dicts, one an image; got {got}"
        )
    for index, target in enumerate(targets):
        missing = [name for name in fields if name not in target]
        if missing:
            raise InputError(
                f"targets[{index}]: {missing} missing; the dict has {sorted(target)}; an image"
                " without objects has boxes of shape (0, 4) and empty labels"
            )
        _check_target(f"targets[{index}]", target, num_classes)


def _check_target(where: str, target: Target, num_classes: int | None) -> None:
    boxes, labels = target["boxes"], target["labels"]
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise InputError(f"{where}: boxes must have shape (M, 4); got {tuple(boxes.shape)}")
    for name in ("labels", "masks", "keypoints"):
        if name in target and len(target[name]) != len(boxes):
            raise InputError(
                f"{where}: {name} must have {len(boxes)} entries, as boxes has;"
                f" got {len(target[name])}"
            )
    is_flat = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
    is_other = (labels < 1) if num_classes is None else (labels < 1) | (labels >= num_classes)
    if not (is_flat.any() | is_other.any()):  # one wait for the device
        return
    if is_flat.any():
        first = int(is_flat.nonzero()[0])
        raise InputError(
            f"{where}: boxes are x0, y0, x1, y1 and must have an area; box {first} is"
            f" {boxes[first].tolist()}, as are {int(is_flat.sum()) - 1} more; remove them, or"
            " convert (x, y, width, height) first"
        )
    first = int(is_other.nonzero()[0])
    known = "1 on" if num_classes is None else f"1 to {num_classes - 1}"
    raise InputError(
        f"{where}: labels go from {known}, 0 is background; label {first} is {int(labels[first])};"
        " num_classes counts the background, too"
    )
