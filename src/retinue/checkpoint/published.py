"""Weights by name: ``torchvision://resnet50`` and ``timm://resnet50.a1_in1k``.

Neither package has to be there: torchvision's published files are in the table below, and timm's
lie on the Hugging Face hub under the model's name.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import IO, Any

from retinue.utils.errors import InputError, unknown_name
from retinue.utils.file_io import PathHandler, PathManager

__all__ = ["TIMM_HOST", "TORCHVISION_HOST", "TimmHandler", "TorchvisionHandler"]

TORCHVISION_HOST = "https://download.pytorch.org/models/"
TIMM_HOST = "https://huggingface.co/timm/"

# Model -> files, oldest version first; a file's name ends in the start of its SHA-256.
TORCHVISION_FILES: Mapping[str, tuple[str, ...]] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (
        "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": ("fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",),
    "fasterrcnn_resnet50_fpn": ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",),
    "fasterrcnn_resnet50_fpn_v2": ("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",),
    "fcos_resnet50_fpn": ("fcos_resnet50_fpn_coco-99b0c9b7.pth",),
    "keypointrcnn_resnet50_fpn": ("keypointrcnn_resnet50_fpn_coco-fc266e95.pth",),
    "maskrcnn_resnet50_fpn": ("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",),
    "maskrcnn_resnet50_fpn_v2": ("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",),
    "resnet101": (
        "resnet101-63fe2227.pth",
        "resnet101-cd907fc2.pth",
    ),
    "resnet152": (
        "resnet152-394f9c45.pth",
        "resnet152-f82ba261.pth",
    ),
    "resnet18": ("resnet18-f37072fd.pth",),
    "resnet34": ("resnet34-b627a593.pth",),
    "resnet50": (
        "resnet50-0676ba61.pth",
        "resnet50-11ad3fa6.pth",
    ),
    "resnext101_32x8d": (
        "resnext101_32x8d-8ba56ff5.pth",
        "resnext101_32x8d-110c445d.pth",
    ),
    "resnext101_64x4d": ("resnext101_64x4d-173b62eb.pth",),
    "resnext50_32x4d": (
        "resnext50_32x4d-7cdf4587.pth",
        "resnext50_32x4d-1a0047aa.pth",
    ),
    "retinanet_resnet50_fpn": ("retinanet_resnet50_fpn_coco-eeacb38b.pth",),
    "retinanet_resnet50_fpn_v2": ("retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",),
    "wide_resnet101_2": (
        "wide_resnet101_2-32ee1156.pth",
        "wide_resnet101_2-d733dc28.pth",
    ),
    "wide_resnet50_2": (
        "wide_resnet50_2-95faca4d.pth",
        "wide_resnet50_2-9ba9bcbe.pth",
    ),
}


def torchvision_address(name: str) -> str:
    """Return where weights of torchvision lie.

    Args:
        name: a model, for its newest weights; a model and a version, such as ``resnet50/V1`` or
            ``resnet50/IMAGENET1K_V1``; a member of torchvision's enumerations, such as
            ``ResNet50_Weights.IMAGENET1K_V1``; or a file's name.

    Raises:
        UnknownNameError: (a ``KeyError``) For another name, if torchvision isn't there to ask.
    """
    if name.endswith((".pth", ".pt")):
        return TORCHVISION_HOST + name
    model, _, version = name.replace("_Weights.", "/").partition("/")
    by_folded = {re.sub("[^a-z0-9]", "", known.lower()): known for known in TORCHVISION_FILES}
    known = by_folded.get(re.sub("[^a-z0-9]", "", model.lower()), "")
    if known:
        return TORCHVISION_HOST + _version(known, version)
    try:
        models = importlib.import_module("torchvision.models")
        weights = models.get_model_weights(model)
        return str((weights[version] if version else weights.DEFAULT).url)
    except (ImportError, ValueError, KeyError) as error:
        raise unknown_name("model of torchvision", model, TORCHVISION_FILES) from error


def _version(model: str, version: str) -> str:
    files = TORCHVISION_FILES[model]
    if not version or version == "DEFAULT":
        return files[-1]
    number = re.search(r"V(\d)$", version)
    if number is None or not 1 <= int(number[1]) <= len(files):
        raise unknown_name(
            f"weights of {model}", version, [f"V{n}" for n, _ in enumerate(files, start=1)]
        )
    return files[int(number[1]) - 1]


def timm_address(name: str) -> str:
    """Return where weights of timm lie: a model's name with the tag of its training.

    Raises:
        InputError: Without a tag, if timm isn't there to ask for the newest.
    """
    if not re.fullmatch(r"\w+(\.\w+)?", name):
        raise InputError(f"timm://{name}: expected MODEL.TAG, such as resnet50.a1_in1k")
    if "." not in name:
        try:
            tag = importlib.import_module("timm.models").get_pretrained_cfg(name).tag
        except (ImportError, AttributeError, RuntimeError) as error:
            raise InputError(
                f"timm://{name}: which training of it? Name its tag, such as {name}.a1_in1k; or"
                " pip install 'timm', which knows the newest"
            ) from error
        name = f"{name}.{tag}"
    return f"{TIMM_HOST}{name}/resolve/main/model.safetensors"


class _NamedHandler(PathHandler):
    PREFIX = ""

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _address(self, name: str) -> str:
        raise NotImplementedError

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        address = self._address(path.removeprefix(self.PREFIX))
        return PathManager.get_local_path(address, force=force, **kwargs)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        return PathManager.open(self._get_local_path(path), mode, buffering=buffering, **kwargs)


class TorchvisionHandler(_NamedHandler):
    """``torchvision://``: weights that torchvision publishes, by model."""

    PREFIX = "torchvision://"

    def _address(self, name: str) -> str:
        return torchvision_address(name)


class TimmHandler(_NamedHandler):
    """``timm://``: weights that timm publishes, by model and tag."""

    PREFIX = "timm://"

    def _address(self, name: str) -> str:
        return timm_address(name)
