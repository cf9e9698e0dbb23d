"""timm's models as backbones: its own feature extraction, asked for by stride.

Wightman, "PyTorch Image Models" (2019), https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from retinue.modeling.backbone.outside_network import (
    Choose,
    Network,
    import_library,
    last_of_each_stride,
    probe,
)
from retinue.utils.errors import InputError, unknown_name

__all__ = ["make_network"]

# Options by which transformers made for one size take any, where their class has them.
_ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}


def make_network(
    name: str,
    choose: Choose,
    *,
    pretrained: bool,
    in_channels: int,
    options: Mapping[str, Any],
) -> Network:
    """Make a model of timm that returns feature maps.

    Args:
        name: as ``timm.create_model`` takes it, also with a tag or from a hub.
        choose: picks strides from those there are.
        pretrained: whether to download weights.
        in_channels: channels of the images.
        options: arguments of ``timm.create_model``.

    Raises:
        ImportError: If timm is missing.
        UnknownNameError: If it has no such model.
        InputError: If the model has no feature maps, or doesn't know an option.
        RuntimeError: If the weights can't be had.
    """
    timm = import_library("timm")
    if "/" not in name and not timm.is_model(name):  # with a slash, it is from a hub
        hint = "timm.list_models('*name*') lists them"
        raise unknown_name("timm model", name, timm.list_models(), hint, max_listed=0)
    create = functools.partial(timm.create_model, name, in_chans=in_channels)
    options = _any_size(create, name, options) | dict(options)
    with torch.device("meta"):  # shapes alone, in no time
        draft: Any = _features(create, name, options)
    info = draft.feature_info
    draft.eval()
    expected = getattr(draft, "pretrained_cfg", None) or getattr(draft, "default_cfg", {})
    native = expected.get("input_size", (3, 224, 224))[-1]
    try:
        _, _, fixed_side = probe(draft, in_channels, native=native, is_clip=False)
    except InputError as error:
        raise InputError(f"timm:{name}: {error}") from error

    index_of_stride = last_of_each_stride(info.reduction())
    strides = choose(list(index_of_stride))
    indices = [info.out_indices[index_of_stride[stride]] for stride in strides]
    channels = dict(zip(info.out_indices, info.channels(), strict=True))
    options = options | {"out_indices": indices}
    net = _weighted(create, name, pretrained, options)
    return Network(
        net=net,
        draft=draft,
        draft_maps=_maps,
        draft_strides=info.reduction(),
        maps=_channels_last_maps if getattr(net, "output_fmt", "") == "NHWC" else _maps,
        strides=strides,
        channels=[channels[index] for index in indices],
        mean=expected.get("mean", (0.485, 0.456, 0.406)),
        std=expected.get("std", (0.229, 0.224, 0.225)),
        fixed_side=fixed_side,
    )


def _any_size(create: Any, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the option that frees a model from one image size, if it knows one."""
    with torch.device("meta"):
        try:
            model_class = type(create(**options))
        except Exception as error:  # whatever timm raises
            raise InputError(f"timm:{name}: {error}; options were {dict(options)}") from error
    known = inspect.signature(model_class).parameters
    return {key: value for key, value in _ANY_SIZE.items() if key in known}


def _features(create: Any, name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        net: nn.Module = create(features_only=True, **options)
    except Exception as error:  # whatever timm raises
        raise InputError(
            f"timm:{name} has no feature maps: timm cannot build it with features_only=True"
            f" ({error}); choose another model"
        ) from error
    return net


def _weighted(create: Any, name: str, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    try:
        net: nn.Module = create(features_only=True, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        raise RuntimeError(
            f"timm:{name}: its pretrained weights cannot be loaded ({error}); without"
            " pretrained=True no download is tried, as for a model whose checkpoint is loaded later"
        ) from error
    return net


def _maps(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    return list(net(x))


def _channels_last_maps(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    return [m.permute(0, 3, 1, 2) for m in net(x)]
