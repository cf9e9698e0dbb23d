"""Build the whole model that a config describes, on a device that is there."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import torch
from torch import nn

from retinue.modeling.catalog import META_ARCH_REGISTRY
from retinue.modeling.config_fit import check_fit
from retinue.modeling.layout import takes_channels_last
from retinue.utils.errors import InputError

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["META_ARCH_REGISTRY", "DeviceError", "build_model", "usable_device"]


class DeviceError(InputError, RuntimeError):
    """A device that this machine doesn't have."""


def build_model(cfg: CfgNode) -> nn.Module:
    """Build ``cfg.MODEL.META_ARCHITECTURE`` with random weights, on ``cfg.MODEL.DEVICE``.

    Raises:
        UnknownNameError: If a part that the config names doesn't exist.
        InputError: If parts don't fit each other, see ``check_fit``.
        DeviceError: If the device doesn't exist, see ``usable_device``.
    """
    check_fit(cfg)
    device = usable_device(cfg.MODEL.DEVICE)
    model: nn.Module = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    if takes_channels_last(model):
        # Such weights make convolutions run, and keep their results, in the order in which they
        # are fastest; the numbers, shapes and names stay.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def usable_device(name: str | torch.device) -> torch.device:
    """Return the device called ``name``, or what stands in for it on this machine.

    Where there is no CUDA, ``"cuda"`` means the GPU of a Mac, or else the CPU; a warning says so
    once.

    Raises:
        DeviceError: For ``"cuda:N"`` where there are not that many CUDA devices, and for what is no
            device at all.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            f"MODEL.DEVICE: {name!r} is no device; expected 'cpu', 'cuda', 'cuda:1', 'mps', ..."
        ) from error
    if device.type != "cuda":
        return device
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise DeviceError(
            f"MODEL.DEVICE: {name} was asked for, but this machine has"
            f" {torch.cuda.device_count()} CUDA devices; name another, or 'cpu'"
        )
    if torch.cuda.is_available():
        return device
    stand_in = "mps" if torch.backends.mps.is_available() else "cpu"
    _say_once(f"MODEL.DEVICE: no CUDA device here, so the model runs on {stand_in!r}.")
    return torch.device(stand_in)


@functools.cache
def _say_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)
