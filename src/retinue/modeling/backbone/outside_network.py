"""What is known of a network from outside, and how it is found out.

Shapes
    N images; C channels; T frames; H, W rows and columns.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from retinue.utils.errors import InputError

__all__ = [
    "NUM_FRAMES",
    "Choose",
    "Maps",
    "Network",
    "import_library",
    "last_of_each_stride",
    "probe",
]

Choose = Callable[[Sequence[int]], list[int]]  # from the strides there are to those wanted
Maps = Callable[[nn.Module, torch.Tensor], list[torch.Tensor]]

NUM_FRAMES = 16  # of a clip to probe with; networks for video are made for 16 and more


@dataclass
class Network:
    """A network and its feature maps, finest first.

    Attributes:
        net: the network.
        draft: the whole network on the meta device, in evaluation mode: shapes without numbers.
        draft_maps: computes all of its feature maps.
        draft_strides: of these, in pixels.
        maps: computes the feature maps, ``(N, C, H, W)`` or ``(N, C, T, H, W)`` each.
        strides: of each map, in pixels.
        channels: of each map.
        mean: of each channel in the images that its weights were trained on, RGB in [0, 1].
        std: likewise.
        fixed_side: of the only images that it takes, in pixels; 0 if it takes any.
        is_clip: whether it takes clips.
        temporal_strides: of each map, in frames; empty without clips.
    """

    net: nn.Module
    draft: nn.Module
    draft_maps: Maps
    draft_strides: Sequence[int]
    maps: Maps
    strides: list[int]
    channels: list[int]
    mean: Sequence[float]
    std: Sequence[float]
    fixed_side: int = 0
    is_clip: bool = False
    temporal_strides: Sequence[int] = ()


def import_library(name: str) -> ModuleType:
    """Import a library that backbones come from.

    Raises:
        ImportError: If it isn't there, naming the extra; or if it is there and broken.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"a backbone {name}:NAME needs {error.name}: pip install 'retinue[{name}]'"
        ) from error
    except Exception as error:  # its compiled part was made for another PyTorch
        raise ImportError(
            f"{name} is installed but cannot be imported ({error}); install the torchvision that"
            f" belongs to PyTorch {torch.__version__}"
        ) from error


def probe(
    maps: Callable[[torch.Tensor], list[Any]], in_channels: int, *, native: int, is_clip: bool
) -> tuple[int, list[Any], int]:
    """Run a network on the meta device to learn the shapes of its maps.

    Args:
        maps: computes the feature maps.
        in_channels: channels of an image.
        native: side of the images that it was made for, in pixels.
        is_clip: whether it takes clips.

    Returns:
        Side of the image that it ran on; the maps; and that side again if it takes no other, or 0.

    Raises:
        InputError: If it runs on none.
    """
    found, failures = [], []
    for side in dict.fromkeys((256, 224, native)):
        size = (1, in_channels, *((NUM_FRAMES,) if is_clip else ()), side, side)
        try:
            with torch.no_grad():
                found.append((side, maps(torch.empty(size, device="meta"))))
        except Exception as error:  # whatever the network raises for a size that it doesn't take
            failures.append(error)
            continue
        if side == 256:
            break
    if not found:
        raise InputError(f"it failed on an image of {native} x {native}: {failures[-1]}")
    side, outputs = found[0]
    return side, outputs, side if len(found) == 1 and failures else 0


def names_behind(
    network: Network, image_size: Sequence[int], is_meant: Callable[[int], bool]
) -> set[str]:
    """Return the names of the parameters that maps depend on.

    Args:
        network: the network, whose draft is differentiated.
        image_size: ``(C, H, W)`` or ``(C, T, H, W)`` that it takes.
        is_meant: tells of a stride whether maps of it count.
    """
    names, parameters = zip(*network.draft.named_parameters(), strict=True)
    with torch.enable_grad():
        maps = network.draft_maps(network.draft, torch.empty(1, *image_size, device="meta"))
        meant = [m for m, s in zip(maps, network.draft_strides, strict=True) if is_meant(s)]
        if not meant:
            return set()
        grads = torch.autograd.grad([m.sum() for m in meant], parameters, allow_unused=True)
    return {name for name, grad in zip(names, grads, strict=True) if grad is not None}


def last_of_each_stride(strides: Sequence[int]) -> dict[int, int]:
    """Return the index of the last map of each stride, by stride, finest first.

    >>> last_of_each_stride([2, 4, 4, 8])
    {2: 0, 4: 2, 8: 3}
    """
    return dict(sorted((stride, index) for index, stride in enumerate(strides)))
