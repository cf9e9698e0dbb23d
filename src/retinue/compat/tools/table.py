"""Which of detectron2's scripts runs what, and what takes the place of the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from retinue.utils.errors import close_names

__all__ = ["REPLACED", "TOOLS", "describe", "find_tool", "run_tool", "why_no_tool"]

TOOLS = {
    "train_net": "train and evaluate what a config file says",
    "plain_train_net": "the same by a plain loop, to start one's own from",
    "lazyconfig_train_net": "train and evaluate what a lazy config (.py) says",
    "analyze_model": "count operations, activations and parameters; print the structure",
    "benchmark": "time data loading, training or inference",
    "visualize_data": "draw annotations, or what the training loader gives",
    "visualize_json_results": "draw results beside annotations",
    "convert_torchvision_to_d2": "rename the weights of a torchvision ResNet",
    "demo": "draw what a model finds in pictures, a video or the webcam",
    "prepare_ade20k_sem_seg": "shift ADE20K's labels so that the ignored one is 255",
    "prepare_cocofied_lvis": "reduce LVIS v0.5 to COCO's categories",
    "prepare_panoptic_fpn": "derive semantic labels from COCO's panoptic ones",
    "prepare_for_tests": "download 100 images of COCO's validation set",
}
"""Scripts of detectron2's tools/, demo/ and datasets/ folders, and what each does."""

REPLACED = {
    "lightning_train_net": "retinue train, or retinue run train_net: the engine does without"
    " PyTorch Lightning",
    "export_model": "torch.export.export on retinue.export.TracingAdapter: Caffe2 is gone from"
    " PyTorch, TorchScript is on its way out",
}
"""Scripts that are not carried over, and what to use instead."""


def _plain(name: str) -> str:
    """Return ``convert_torchvision_to_d2`` for ``tools/convert-torchvision-to-d2.py``."""
    return name.rpartition("/")[2].removesuffix(".py").removesuffix(".sh").replace("-", "_")


def find_tool(name: str) -> str | None:
    """Return the tool that a name stands for, or None.

    >>> find_tool("tools/convert-torchvision-to-d2.py"), find_tool("my_script.py")
    ('convert_torchvision_to_d2', None)
    """
    plain = _plain(name)
    return plain if plain in TOOLS else None


def why_no_tool(name: str) -> str:
    """Say what takes a tool's place, or which one may be meant."""
    plain = _plain(name)
    if plain in REPLACED:
        return f"{plain} is not carried over; use {REPLACED[plain]}"
    near = close_names(plain, TOOLS)
    hint = f"; did you mean {near[0]}?" if near else ": `retinue run --list`"
    return f"there is no file {name!r}, and no tool of that name{hint}"


def describe() -> str:
    """Return the table for people."""
    width = max(map(len, TOOLS))
    lines = [f"{name:<{width}}  {text}" for name, text in TOOLS.items()]
    lines += [f"{name:<{width}}  (not carried over) {text}" for name, text in REPLACED.items()]
    return "\n".join(lines)


def run_tool(name: str, arguments: Sequence[str]) -> None:
    """Run a tool with its command line."""
    sys.argv = [f"retinue run {name}", *arguments]  # as usage and examples show it
    import_module(f"retinue.compat.tools.{name}").main()
