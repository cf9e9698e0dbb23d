"""Helpers for tests of models: small inputs, and comparing what models return."""

from __future__ import annotations

import functools
import io
import os
import tempfile
import unittest
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from retinue.config import CfgNode, LazyConfig, instantiate
from retinue.structures import Boxes, Instances, ROIMasks
from retinue.utils import env
from retinue.utils.errors import InputError
from retinue.utils.torch_version_utils import min_torch_version

__all__ = [
    "assert_instances_allclose",
    "convert_scripted_instances",
    "get_model_no_weights",
    "get_sample_coco_image",
    "has_dynamic_axes",
    "random_boxes",
    "register_custom_op_onnx_export",
    "reload_lazy_config",
    "reload_script_model",
    "skipIfOnCPUCI",
    "skipIfUnsupportedMinOpsetVersion",
    "skipIfUnsupportedMinTorchVersion",
    "unregister_custom_op_onnx_export",
]

skipIfOnCPUCI = unittest.skipIf(
    bool(env.read("CI")) and not torch.cuda.is_available(),
    "takes too long on a CPU for continuous integration",
)


def get_model_no_weights(config_path: str) -> nn.Module:
    """Build a model of the zoo with initial weights, on the CPU if there is no GPU."""
    from retinue import model_zoo
    from retinue.modeling import build_model

    cfg = model_zoo.get_config(config_path)
    if not isinstance(cfg, CfgNode):
        return cast(nn.Module, instantiate(cfg.model))
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return cast(nn.Module, build_model(cfg))


def random_boxes(
    num_boxes: int, max_coord: float = 100, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Make ``(num_boxes, 4)`` boxes within ``max_coord`` pixels, sides at least 1 pixel long."""
    half = (torch.rand(num_boxes, 4, device=device) * (max_coord / 2)).clamp(min=1.0)
    corner, size = half.split(2, dim=1)
    return torch.cat([corner, corner + size], dim=1)


def get_sample_coco_image(tensor: bool = True) -> torch.Tensor | np.ndarray:
    """Return a picture of 480 by 640 pixels: COCO's where it is installed, else a generated one.

    Args:
        tensor: ``(3, H, W)`` as a tensor, else ``(H, W, 3)`` as an array; uint8, BGR.
    """
    from retinue.data import DatasetCatalog
    from retinue.data.datasets.shapes import draw_scene
    from retinue.data.detection_utils import read_image

    try:
        image = read_image(DatasetCatalog.get("coco_2017_val_100")[0]["file_name"], format="BGR")
    except OSError:
        image = draw_scene(0, 0, height=480, width=640).image[:, :, ::-1]
    image = np.ascontiguousarray(image)
    return torch.from_numpy(image.transpose(2, 0, 1).copy()) if tensor else image


def convert_scripted_instances(instances: Any) -> Instances:
    """Make ordinary ``Instances`` of what a scripted model of detectron2 returns.

    Raises:
        InputError: If it has no ``image_size``.
    """
    if not hasattr(instances, "image_size"):
        raise InputError(f"expected an Instances object; got {type(instances).__name__}")
    values = {name: getattr(instances, f"_{name}", None) for name in instances._field_names}
    return Instances(instances.image_size, **{k: v for k, v in values.items() if v is not None})


def assert_instances_allclose(
    input: Any, other: Any, *, rtol: float = 1e-5, msg: str = "", size_as_tensor: bool = False
) -> None:
    """Assert that two ``Instances`` have the same fields and nearly the same values.

    Args:
        input, other: what to compare.
        rtol: relative to the largest value of a field; to 100 pixels for boxes and masks.
        msg: put before the error.
        size_as_tensor: whether image sizes may be tensors.

    Raises:
        AssertionError: If they differ.
        ValueError: If a field's type can't be compared.
    """
    a, b = (
        x if isinstance(x, Instances) else convert_scripted_instances(x) for x in (input, other)
    )
    where = f"{msg.rstrip()}: " if msg else "Instances: "
    sizes = [tuple(map(int, x.image_size)) if size_as_tensor else x.image_size for x in (a, b)]
    _expect(sizes[0] == sizes[1], f"{where}image sizes are {sizes[0]} and {sizes[1]}")
    names = [sorted(x.get_fields()) for x in (a, b)]
    _expect(names[0] == names[1], f"{where}fields are {names[0]} and {names[1]}")
    for name in names[0]:
        _expect(_is_close(a.get(name), b.get(name), rtol), f"{where}field {name!r} differs")


def _expect(is_so: bool, message: str) -> None:
    if not is_so:
        raise AssertionError(message)


def _is_close(a: Any, b: Any, rtol: float) -> bool:
    if isinstance(a, Boxes | ROIMasks):
        return torch.allclose(a.tensor, b.tensor, atol=100 * rtol)
    if not isinstance(a, torch.Tensor):
        raise ValueError(f"values of type {type(a).__name__} can't be compared")
    if not a.is_floating_point() or a.numel() == 0:
        return torch.equal(a, b)
    return torch.allclose(a, b, atol=a.abs().max().item() * rtol)


def reload_script_model(module: Any) -> Any:
    """Save a TorchScript module and load it again."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def reload_lazy_config(cfg: Any) -> Any:
    """Save a lazy config and load it again."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.yaml")
        LazyConfig.save(cfg, path)
        return LazyConfig.load(path)


def has_dynamic_axes(onnx_model: Any) -> bool:
    """Say whether no input or output of an ONNX model has an axis named by a number."""
    values = (*onnx_model.graph.input, *onnx_model.graph.output)
    dims = [dim.dim_param for value in values for dim in value.type.tensor_type.shape.dim]
    return not any(name.isnumeric() for name in dims)


def register_custom_op_onnx_export(
    opname: str, symbolic_fn: Callable[..., Any], opset_version: int, min_version: str
) -> None:
    """Tell PyTorch's older ONNX exporter how to write an operator that it doesn't know."""
    if not min_torch_version(min_version):
        torch.onnx.register_custom_op_symbolic(opname, symbolic_fn, opset_version)  # type: ignore[attr-defined, unused-ignore]


def unregister_custom_op_onnx_export(opname: str, opset_version: int, min_version: str) -> None:
    """Undo ``register_custom_op_onnx_export``."""
    if not min_torch_version(min_version):
        torch.onnx.unregister_custom_op_symbolic(opname, opset_version)  # type: ignore[attr-defined, unused-ignore]


def skipIfUnsupportedMinOpsetVersion(
    min_opset_version: int, current_opset_version: int | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Skip a test method if the ONNX operator set, ``self.opset_version`` by default, is older."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def test(self: Any, *args: Any, **kwargs: Any) -> Any:
            version = current_opset_version
            version = self.opset_version if version is None else version
            if version < min_opset_version:
                raise unittest.SkipTest(f"needs ONNX operator set {min_opset_version}")
            return function(self, *args, **kwargs)

        return test

    return decorate


def skipIfUnsupportedMinTorchVersion(min_version: str) -> Any:
    """Skip a test if PyTorch is older than ``min_version``."""
    return unittest.skipIf(
        not min_torch_version(min_version),
        f"needs PyTorch {min_version}; this is {torch.__version__}",
    )
