"""``retinue run convert-torchvision-to-d2 r50.pth r50.pkl``: a torchvision ResNet for detectors.

Not needed for retinue, which reads torchvision's files as they are. The config that goes with the
result: ``PIXEL_MEAN [123.675, 116.280, 103.530]``, ``PIXEL_STD [58.395, 57.120, 57.375]``,
``RESNETS.STRIDE_IN_1X1 False``, ``INPUT.FORMAT RGB``.
"""

from __future__ import annotations

import argparse
import pickle
import re
from typing import Any

import torch

from retinue.utils.file_io import atomic_write

__all__ = ["detector_name", "main"]


def detector_name(name: str) -> str:
    """Return what a parameter of torchvision's ResNets is called in ours.

    >>> detector_name("layer1.0.bn2.weight"), detector_name("layer4.0.downsample.1.bias")
    ('res2.0.conv2.norm.weight', 'res5.0.shortcut.norm.bias')
    >>> detector_name("conv1.weight")
    'stem.conv1.weight'
    """
    name, num_stages = re.subn(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
    if not num_stages:
        name = f"stem.{name}"
    name = re.sub(r"\bbn(\d)", r"conv\1.norm", name)
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Rename the weights of a torchvision ResNet.")
    parser.add_argument("input", help="the .pth file of a ResNet from torchvision")
    parser.add_argument("output", help="the .pkl file to write")
    args = parser.parse_args()
    state: dict[str, Any] = torch.load(args.input, map_location="cpu", weights_only=True)
    model = {}
    for name, value in state.items():
        print(name, "->", detector_name(name))
        model[detector_name(name)] = value.detach().numpy()
    content = {"model": model, "__author__": "torchvision", "matching_heuristics": True}
    with atomic_write(args.output, "wb") as file:
        pickle.dump(content, file)
