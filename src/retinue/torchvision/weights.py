"""Weights that torchvision's authors published, by torchvision's names.

``maskrcnn_resnet50_fpn(weights="DEFAULT")`` downloads them, so does
``weights=MaskRCNN_ResNet50_FPN_Weights.COCO_V1``; torchvision's own members are taken, too.
"""

import enum
import functools
import os
import re
from typing import Any

import numpy as np
import torch

from retinue.utils.errors import InputError, unknown_name

__all__ = [
    "FCOS_ResNet50_FPN_Weights",
    "FasterRCNN_ResNet50_FPN_Weights",
    "KeypointRCNN_ResNet50_FPN_Weights",
    "MaskRCNN_ResNet50_FPN_Weights",
    "RetinaNet_ResNet50_FPN_Weights",
    "address_of_weights",
    "to_float_image",
]

_HOST = "https://download.pytorch.org/models"


def to_float_image(image: Any) -> torch.Tensor:
    """Turn a PIL image, or a uint8 tensor ``(C, H, W)``, into floats in [0, 1]."""
    if not isinstance(image, torch.Tensor):
        image = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return image if image.is_floating_point() else image.float() / 255


@functools.cache
def _coco_names() -> list[str]:
    """Return the names of COCO's classes by their numbers, gaps and background included."""
    from retinue.data.datasets.builtin_meta import COCO_CATEGORIES

    names = {row["id"]: row["name"] for row in COCO_CATEGORIES}
    return ["__background__", *(names.get(number, "N/A") for number in range(1, 91))]


class _Weights(enum.Enum):
    """Weights of a model; a member's value is the name of its file."""

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{_HOST}/{self.value}"

    @property
    def meta(self) -> dict[str, Any]:
        """What the labels mean, under ``categories``."""
        return {"categories": _coco_names()}

    def transforms(self) -> Any:
        """Return the function that makes model input of an image."""
        return to_float_image


class FasterRCNN_ResNet50_FPN_Weights(_Weights):
    """Of :func:`fasterrcnn_resnet50_fpn`."""

    COCO_V1 = "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    DEFAULT = COCO_V1


class MaskRCNN_ResNet50_FPN_Weights(_Weights):
    """Of :func:`maskrcnn_resnet50_fpn`."""

    COCO_V1 = "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"
    DEFAULT = COCO_V1


class KeypointRCNN_ResNet50_FPN_Weights(_Weights):
    """Of :func:`keypointrcnn_resnet50_fpn`."""

    COCO_LEGACY = "keypointrcnn_resnet50_fpn_coco-9f466800.pth"
    COCO_V1 = "keypointrcnn_resnet50_fpn_coco-fc266e95.pth"
    DEFAULT = COCO_V1

    @property
    def meta(self) -> dict[str, Any]:
        """What labels and keypoints mean, under ``categories`` and ``keypoint_names``."""
        from retinue.data.datasets.builtin_meta import COCO_PERSON_KEYPOINT_NAMES

        return {
            "categories": ["no person", "person"],
            "keypoint_names": list(COCO_PERSON_KEYPOINT_NAMES),
        }


class RetinaNet_ResNet50_FPN_Weights(_Weights):
    """Of :func:`retinanet_resnet50_fpn`."""

    COCO_V1 = "retinanet_resnet50_fpn_coco-eeacb38b.pth"
    DEFAULT = COCO_V1


class FCOS_ResNet50_FPN_Weights(_Weights):
    """Of :func:`fcos_resnet50_fpn`."""

    COCO_V1 = "fcos_resnet50_fpn_coco-99b0c9b7.pth"
    DEFAULT = COCO_V1


class ResNetWeights(_Weights):
    """Of backbones trained on ImageNet, by depth."""

    RESNET18_IMAGENET1K_V1 = "resnet18-f37072fd.pth"
    RESNET34_IMAGENET1K_V1 = "resnet34-b627a593.pth"
    RESNET50_IMAGENET1K_V1 = "resnet50-0676ba61.pth"
    RESNET50_IMAGENET1K_V2 = "resnet50-11ad3fa6.pth"
    RESNET101_IMAGENET1K_V1 = "resnet101-63fe2227.pth"
    RESNET101_IMAGENET1K_V2 = "resnet101-cd907fc2.pth"
    RESNET152_IMAGENET1K_V1 = "resnet152-394f9c45.pth"
    RESNET152_IMAGENET1K_V2 = "resnet152-f82ba261.pth"


def address_of_weights(weights: Any, known: type[_Weights], prefix: str = "") -> str:
    """Return the file or address that ``weights`` stands for.

    Args:
        weights: a file or address; the name of a member, ``"DEFAULT"`` or ``"COCO_V1"``; or a
            member itself, ours or torchvision's.
        known: the members.
        prefix: what their names begin with beyond that.

    Raises:
        UnknownNameError: If it looks like the name of a member, but is none.
        InputError: If it is none of these.
    """
    if isinstance(getattr(weights, "url", None), str):
        return str(weights.url)
    if not isinstance(weights, str):
        raise InputError(
            "weights must be a checkpoint's file or address, or a name such as 'DEFAULT'; got"
            f" {weights!r}"
        )
    names = [n.removeprefix(prefix) for n in known.__members__ if n.startswith(prefix)]
    name = weights.rpartition(".")[2]  # also "MaskRCNN_ResNet50_FPN_Weights.COCO_V1"
    if name == "DEFAULT" and "DEFAULT" not in names:
        name = max(names)
    if name in names:
        return known[prefix + name].url
    if re.fullmatch(r"(\w+\.)?[A-Z][A-Z0-9_]*", weights) and not os.path.exists(weights):
        raise unknown_name("weights", weights, [*names, "DEFAULT"])
    return weights
