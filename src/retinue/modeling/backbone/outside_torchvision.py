"""torchvision's classification models as backbones, for images and for clips.

Shapes
    N images; C channels; T frames; H, W rows and columns; L tokens.

torchvision's models are chains: an image goes through their children one after another, up to a
head that pools. ``_steps`` lists the chain; the map after the last step of a stride is the feature
map of that stride. The two kinds that are no chain, ViT and MViT, have functions of their own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from retinue.modeling.backbone.outside_network import (
    NUM_FRAMES,
    Choose,
    Maps,
    Network,
    import_library,
    last_of_each_stride,
    probe,
)
from retinue.modeling.backbone.utils import get_abs_pos
from retinue.utils.errors import InputError, unknown_name

__all__ = ["make_network"]

# Children that come after the last feature map, or beside the chain.
_HEADS = {"AuxLogits", "aux1", "aux2", "avgpool", "classifier", "dropout", "fc", "flatten", "head"}
_HEADS |= {"heads", "permute"}
_CHANNELS_LAST = {"SwinTransformer", "SwinTransformer3d"}  # (N, H, W, C) inside
_OWN_INIT = {"googlenet", "inception_v3"}  # warn unless told how to initialise


def make_network(
    name: str,
    choose: Choose,
    *,
    pretrained: bool,
    in_channels: int,
    options: Mapping[str, Any],
) -> Network:
    """Make a classification model of torchvision that returns feature maps.

    Args:
        name: as ``torchvision.models.get_model`` takes it, for images or for video.
        choose: picks strides from those there are.
        pretrained: whether to download its default weights; ``options["weights"]`` names others.
        in_channels: must be 3.
        options: arguments of torchvision's function of that name.

    Raises:
        ImportError: If torchvision is missing.
        UnknownNameError: If it has no such model.
        InputError: If it is no classification model, or doesn't know an option.
    """
    models = import_library("torchvision").models
    is_clip = _is_clip(models, name)
    if in_channels != 3:
        raise InputError(
            f"torchvision:{name} takes images of 3 channels; got {in_channels}; timm's models take"
            " any number"
        )
    options = dict(options)
    weights = options.pop("weights", None) or ("DEFAULT" if pretrained else None)
    if name in _OWN_INIT and weights is None:
        options.setdefault("init_weights", True)
        options.setdefault("transform_input", True)  # as with weights, which are loaded later
    create = functools.partial(models.get_model, name, **options)
    with torch.device("meta"):  # shapes alone, in no time
        try:
            draft: Any = _create(create).eval()
        except TypeError as error:
            raise InputError(f"torchvision:{name}: {error}; options were {options}") from error
    steps = _steps(draft)
    maps = _maps_of(draft, steps)
    native = options.get("image_size", options.get("input_size", 224))
    native = native if isinstance(native, int) else native[0]
    try:
        side, found, fixed_side = probe(
            functools.partial(maps, draft), 3, native=native, is_clip=is_clip
        )
    except InputError as error:
        raise InputError(f"torchvision:{name}: {error}") from error

    all_strides = [_stride(side, m.shape[-1]) for m in found]
    index_of_stride = last_of_each_stride(all_strides)
    strides = choose(list(index_of_stride))
    indices = [index_of_stride[stride] for stride in strides]
    net = _create(create, weights=weights)
    _steps(net)
    used = steps[: max(indices) + 1]
    _drop_unused(net, used)
    expected = models.get_model_weights(name).DEFAULT.transforms()
    return Network(
        net=net,
        draft=draft,
        draft_maps=maps,
        draft_strides=all_strides,
        maps=functools.partial(_pick, _maps_of(net, used), indices),
        strides=strides,
        channels=[found[i].shape[1] for i in indices],
        mean=expected.mean,
        std=expected.std,
        fixed_side=fixed_side,
        is_clip=is_clip,
        temporal_strides=[_stride(NUM_FRAMES, found[i].shape[2]) for i in indices]
        if is_clip
        else (),
    )


def _create(create: Any, weights: Any = None) -> nn.Module:
    """Make a model on the device of the surrounding context."""
    device = torch.get_default_device()
    try:
        net: nn.Module = create(weights=weights)
    except NotImplementedError:  # RegNet computes with tensors how wide it is: not on "meta"
        with torch.device("cpu"):
            net = create(weights=weights)
    return net.to(device)


def _is_clip(models: Any, name: str) -> bool:
    """Tell a model for video from one for images.

    Raises:
        UnknownNameError: If there is no such model.
        InputError: If it is a model for another task.
    """
    if name in models.list_models(module=models.video):
        return True
    images = models.list_models(module=models)
    if name in images:
        return False
    if name in models.list_models():
        raise InputError(
            f"torchvision:{name} is no classification model and has no feature maps of its own;"
            " name the backbone that it is built on, such as torchvision:resnet50"
        )
    known = images + models.list_models(module=models.video)
    raise unknown_name("torchvision model", name, known)


def _stride(side: int, cells: int) -> int:
    """Tell a stride from sizes; networks without padding lose some cells at the borders."""
    if side % cells == 0:
        return side // cells
    return int(2 ** round(math.log2(side / cells)))


def _steps(model: Any) -> list[str]:
    """Name the modules that an image goes through, in order, up to the head."""
    kind = type(model).__name__
    if kind == "DenseNet":
        model.features.add_module("relu5", nn.ReLU())  # a function in its forward
    if kind == "VisionTransformer":
        return ["encoder"]
    if kind == "MViT":
        return [f"blocks.{i}" for i in range(len(model.blocks))]
    steps = []
    for name, child in model.named_children():
        if name in _HEADS:
            continue
        is_chain = isinstance(child, nn.Sequential | nn.ModuleList)
        steps += [f"{name}.{k}" for k, _ in child.named_children()] if is_chain else [name]
    return steps


def _maps_of(model: nn.Module, steps: Sequence[str]) -> Maps:
    """Return the function that computes the map after each step."""
    kind = type(model).__name__
    if kind == "VisionTransformer":
        return _vit_maps
    if kind == "MViT":
        return _mvit_maps
    return functools.partial(_chain_maps, list(steps), kind in _CHANNELS_LAST)


def _pick(maps: Maps, indices: Sequence[int], net: nn.Module, x: torch.Tensor) -> list[Any]:
    outputs = maps(net, x)
    return [outputs[i] for i in indices]


def _chain_maps(
    steps: Sequence[str], channels_last: bool, net: Any, x: torch.Tensor
) -> list[torch.Tensor]:
    if hasattr(net, "_transform_input"):  # GoogLeNet and Inception: other means than torchvision's
        x = net._transform_input(x)
    outputs = []
    for step in steps:
        x = net.get_submodule(step)(x)
        outputs.append(x.movedim(-1, 1) if channels_last else x)
    return outputs


def _vit_maps(net: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Compute the one map of a ViT; its embeddings of positions suit any size of image."""
    x = net.conv_proj(x)  # (N, C, H, W)
    hw = x.shape[-2:]
    places = net.encoder.pos_embedding  # (1, 1 + L, C)
    tokens = x.flatten(2).transpose(1, 2) + get_abs_pos(places, True, hw).flatten(1, 2)
    first = (net.class_token + places[:, :1]).expand(len(x), -1, -1)
    tokens = net.encoder.dropout(torch.cat((first, tokens), dim=1))
    tokens = net.encoder.ln(net.encoder.layers(tokens))  # (N, 1 + L, C)
    return [tokens[:, 1:].transpose(1, 2).unflatten(2, hw)]


def _mvit_maps(net: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Compute the maps after each block of an MViT."""
    x = net.conv_proj(x)  # (N, C, T, H, W)
    thw = x.shape[2:]
    tokens = net.pos_encoding(x.flatten(2).transpose(1, 2))  # (N, 1 + L, C)
    outputs = []
    for block in net.blocks:
        tokens, thw = block(tokens, tuple(thw))
        outputs.append(tokens[:, 1:].transpose(1, 2).unflatten(2, thw))
    if hasattr(net, "norm"):  # it comes after the last block, and is dropped with it
        outputs[-1] = net.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, thw)
    return outputs


def _drop_unused(net: Any, steps: Sequence[str]) -> None:
    """Delete the head, and the steps after the last one used."""
    for name in _HEADS & {name for name, _ in net.named_children()}:
        delattr(net, name)
    kind = type(net).__name__
    if kind == "VisionTransformer":
        return
    if kind == "MViT":
        if len(steps) < len(net.blocks):
            del net.blocks[len(steps) :], net.norm
        return
    for name, child in list(net.named_children()):
        is_chain = isinstance(child, nn.Sequential | nn.ModuleList)
        if not is_chain and name not in steps:
            delattr(net, name)
        for key in [k for k, _ in child.named_children() if is_chain]:
            if f"{name}.{key}" not in steps:
                delattr(child, key)
