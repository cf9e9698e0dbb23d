"""What is left of exporting to TorchScript.

PyTorch has given TorchScript up for ``torch.export``, and so has this library: its models use what
TorchScript's compiler does not understand. A model that someone else scripted or traced can be
looked into with ``dump_torchscript_IR``.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

import torch

from retinue.config import CfgNode
from retinue.utils.file_io import PathManager, atomic_write

__all__ = ["dump_torchscript_IR", "scripting_with_instances"]

STABLE_ONNX_OPSET_VERSION = 11

INSTEAD = (
    "is not carried over, since PyTorch gave TorchScript up for torch.export: wrap the model in"
    " retinue.export.TracingAdapter and give it to torch.export.export, or to"
    " torch.onnx.export(dynamo=True)"
)


def scripting_with_instances(model: Any, fields: Any) -> NoReturn:
    """Raise: models are exported by ``torch.export``.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(f"scripting_with_instances: TorchScript {INSTEAD}")


export_torchscript_with_instances = scripting_with_instances


def dump_torchscript_IR(model: Any, dir: str) -> None:
    """Write the code and the graph of a TorchScript module or function to text files.

    Args:
        model: scripted or traced.
        dir: a folder; gets ``model_ts_code.txt``, ``model_ts_IR.txt``, ``model_ts_IR_inlined.txt``
            and, for a module, ``model.txt``.
    """
    dir = os.path.expanduser(dir)
    PathManager.mkdirs(dir)
    is_module = isinstance(model, torch.jit.ScriptModule)
    texts = {
        "model_ts_code": _code(model) if is_module else model.code,
        "model_ts_IR": _graph(model) if is_module else str(model.graph),
        "model_ts_IR_inlined": str(model.inlined_graph),
    }
    if is_module:
        texts["model"] = str(model)
    for name, text in texts.items():
        with atomic_write(os.path.join(dir, f"{name}.txt"), "w") as file:
            file.write(text)


def _methods(module: Any) -> list[tuple[str, Any]]:
    """List the methods of a TorchScript module and of its submodules, with their names."""
    return [
        (f"{prefix}.{name}".lstrip("."), part._c._get_method(name))
        for prefix, part in module.named_modules()
        if isinstance(part, torch.jit.ScriptModule)
        for name in part._c._method_names()
    ]


def _code(module: Any) -> str:
    return "\n".join(f"# {name}\n{method.code}" for name, method in _methods(module))


def _graph(module: Any) -> str:
    return "\n".join(f"# {name}\n{method.graph}" for name, method in _methods(module))


def add_export_config(cfg: CfgNode) -> CfgNode:
    """Add the keys that old configs set for Caffe2 export; nothing reads them."""
    was_frozen = cfg.is_frozen()
    cfg.defrost()
    cfg.EXPORT_CAFFE2 = CfgNode({"USE_HEATMAP_MAX_KEYPOINT": False})
    if was_frozen:
        cfg.freeze()
    return cfg
