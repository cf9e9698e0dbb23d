"""RegNet: residual networks whose widths and depths follow one straight line.

Shapes
    N images; C channels; H, W rows and columns. The stem is called "stem", the stages s1, s2, ...

Reading order: RegNet turns four numbers into widths and depths; AnyNet strings stem and stages
together; ResBottleneckBlock is the block of RegNetX and, with SE, of RegNetY. Module names are
those of checkpoints: ``s1.b1.f.a_bn.weight``.

Source: Radosavovic et al., "Designing Network Design Spaces" (2020),
https://arxiv.org/abs/2003.13678; training: Dollár et al. (2021), https://arxiv.org/abs/2103.06877.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from retinue.layers import CNNBlockBase, ShapeSpec, get_norm
from retinue.modeling.backbone.backbone import Backbone
from retinue.utils.errors import InputError, expect_shape

__all__ = [
    "AnyNet",
    "RegNet",
    "ResBasicBlock",
    "ResBottleneckBlock",
    "ResStem",
    "SimpleStem",
    "VanillaBlock",
]

Norm = str | Callable[[int], nn.Module]
MakeActivation = Callable[[], nn.Module]


def conv2d(
    w_in: int, w_out: int, k: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """Make a ``k x k`` convolution that keeps the size at stride 1; ``k`` is odd."""
    return nn.Conv2d(w_in, w_out, k, stride, padding=_half(k), groups=groups, bias=bias)


def gap2d() -> nn.AdaptiveAvgPool2d:
    """Make a pooling of the whole image to its mean."""
    return nn.AdaptiveAvgPool2d((1, 1))


def pool2d(k: int, *, stride: int = 1) -> nn.MaxPool2d:
    """Make a ``k x k`` max pooling that keeps the size at stride 1; ``k`` is odd."""
    return nn.MaxPool2d(k, stride, padding=_half(k))


def _half(k: int) -> int:
    if k % 2 == 0:
        raise InputError(f"regnet: kernels must have an odd size, to keep the centre; got {k}")
    return k // 2


def init_weights(m: nn.Module) -> None:
    """Fill one layer with the initial weights of the paper; for ``Module.apply``."""
    if isinstance(m, nn.Conv2d):
        fan_out = math.prod(m.kernel_size) * m.out_channels
        nn.init.normal_(m.weight, std=math.sqrt(2.0 / fan_out))
    elif isinstance(m, nn.BatchNorm2d):
        nn.init.ones_(m.weight)
        nn.init.zeros_(m.bias)
    elif isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, std=0.01)
        nn.init.zeros_(m.bias)


def _add_layer(
    module: nn.Module,
    name: str,
    conv: nn.Conv2d,
    norm: Norm,
    activation_class: MakeActivation | None = None,
) -> None:
    """Append a convolution, its norm and its activation, named as in checkpoints."""
    module.add_module(name, conv)
    module.add_module(f"{name}_bn", get_norm(norm, conv.out_channels))
    if activation_class is not None:
        module.add_module(f"{name}_af", activation_class())


def _in_sequence(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run the children of a module one after the other."""
    for layer in module.children():
        x = layer(x)
    return x


class ResStem(CNNBlockBase):
    """A 7x7 convolution and a max pooling, each of stride 2.

    Args:
        w_in: channels of the images.
        w_out: channels of the output.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
        activation_class: makes the activation.
    """

    def __init__(self, w_in: int, w_out: int, norm: Norm, activation_class: MakeActivation) -> None:
        super().__init__(w_in, w_out, 4)
        layers = {"conv": conv2d(w_in, w_out, 7, stride=2), "bn": get_norm(norm, w_out)}
        for name, layer in {
            **layers,
            "af": activation_class(),
            "pool": pool2d(3, stride=2),
        }.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _in_sequence(self, x)


class SimpleStem(CNNBlockBase):
    """A 3x3 convolution of stride 2; arguments as for ``ResStem``."""

    def __init__(self, w_in: int, w_out: int, norm: Norm, activation_class: MakeActivation) -> None:
        super().__init__(w_in, w_out, 2)
        self.conv = conv2d(w_in, w_out, 3, stride=2)
        self.bn = get_norm(norm, w_out)
        self.af = activation_class()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _in_sequence(self, x)


class SE(nn.Module):
    """Squeeze and excitation: weigh each channel by what the whole image holds.

    Source: Hu et al. (2018), https://arxiv.org/abs/1709.01507.

    Args:
        w_in: channels.
        w_se: hidden channels.
        activation_class: makes the hidden activation.
    """

    def __init__(self, w_in: int, w_se: int, activation_class: MakeActivation) -> None:
        super().__init__()
        squeeze, excite = (conv2d(*dims, 1, bias=True) for dims in ((w_in, w_se), (w_se, w_in)))
        self.avg_pool = gap2d()
        self.f_ex = nn.Sequential(squeeze, activation_class(), excite, nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.f_ex(self.avg_pool(x))


class VanillaBlock(CNNBlockBase):
    """Two 3x3 convolutions without a shortcut.

    Args:
        w_in: channels of the input.
        w_out: channels of the output.
        stride: of the first convolution.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
        activation_class: makes the activations.
        _params: not used; other blocks need them.
    """

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: MakeActivation,
        _params: dict[str, Any],
    ) -> None:
        super().__init__(w_in, w_out, stride)
        _add_layer(self, "a", conv2d(w_in, w_out, 3, stride=stride), norm, activation_class)
        _add_layer(self, "b", conv2d(w_out, w_out, 3), norm, activation_class)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _in_sequence(self, x)


class BasicTransform(nn.Module):
    """The branch of a ``ResBasicBlock``: two 3x3 convolutions, no activation at the end."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: MakeActivation,
        _params: dict[str, Any],
    ) -> None:
        super().__init__()
        _add_layer(self, "a", conv2d(w_in, w_out, 3, stride=stride), norm, activation_class)
        _add_layer(self, "b", conv2d(w_out, w_out, 3), norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _in_sequence(self, x)


class BottleneckTransform(nn.Module):
    """The branch of a ``ResBottleneckBlock``: 1x1, grouped 3x3 (and SE), 1x1 convolutions.

    Args:
        w_in: channels of the input.
        w_out: channels of the output.
        stride: of the 3x3 convolution.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
        activation_class: makes the activations.
        params: ``bot_mul``, channels of the 3x3 convolution in ``w_out``; ``group_w``, channels of
            a group; ``se_r``, hidden channels of SE in ``w_in``, 0 for none.
    """

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: MakeActivation,
        params: dict[str, Any],
    ) -> None:
        super().__init__()
        width = round(w_out * params["bot_mul"])
        grouped = conv2d(width, width, 3, stride=stride, groups=width // params["group_w"])
        _add_layer(self, "a", conv2d(w_in, width, 1), norm, activation_class)
        _add_layer(self, "b", grouped, norm, activation_class)
        squeezed = round(w_in * params["se_r"])
        self.se = SE(width, squeezed, activation_class) if squeezed else None
        _add_layer(self, "c", conv2d(width, w_out, 1), norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _in_sequence(self, x)


class _ResidualBlock(CNNBlockBase):
    """A branch ``f`` and a shortcut, which is projected where the shape changes."""

    transform: Callable[..., nn.Module]

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: MakeActivation,
        params: dict[str, Any],
    ) -> None:
        super().__init__(w_in, w_out, stride)
        is_projected = w_in != w_out or stride != 1
        self.proj = conv2d(w_in, w_out, 1, stride=stride) if is_projected else None
        self.bn = get_norm(norm, w_out) if is_projected else None
        self.f = type(self).transform(w_in, w_out, stride, norm, activation_class, params)
        self.af = activation_class()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        if self.proj is not None and self.bn is not None:
            shortcut = self.bn(self.proj(x))
        return self.af(shortcut + self.f(x))


class ResBasicBlock(_ResidualBlock):
    """A residual block of two 3x3 convolutions; arguments as for ``BasicTransform``."""

    transform = BasicTransform


class ResBottleneckBlock(_ResidualBlock):
    """A residual block with a bottleneck; arguments as for ``BottleneckTransform``."""

    transform = BottleneckTransform


class AnyStage(nn.Module):
    """``d`` blocks named b1, b2, ...; the first has the stride and changes the width."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        d: int,
        block_class: Callable[..., CNNBlockBase],
        norm: Norm,
        activation_class: MakeActivation,
        params: dict[str, Any],
    ) -> None:
        super().__init__()
        for i in range(d):
            first = (w_in, w_out, stride) if i == 0 else (w_out, w_out, 1)
            self.add_module(f"b{i + 1}", block_class(*first, norm, activation_class, params))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _in_sequence(self, x)


class AnyNet(Backbone):
    """A stem and stages of any depths and widths.

    Args:
        stem_class: makes the stem from channels in, channels out, norm and activation.
        stem_width: channels of the stem.
        block_class: makes a block from channels in, channels out, stride, norm, activation and a
            dict of ``bot_mul``, ``group_w``, ``se_r``, see ``BottleneckTransform``.
        depths: number of blocks of each stage.
        widths: channels of each stage.
        group_widths: channels of a group of each stage's grouped convolutions.
        strides: of each stage.
        bottleneck_ratios: channels of each stage's bottlenecks, in its width.
        se_ratio: hidden channels of SE, in a block's input channels; 0 for none.
        activation_class: makes the activations.
        freeze_at: how many stages to freeze, see ``freeze``.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
        out_features: which outputs ``forward`` returns: ``"stem"``, ``"s1"``, ...; by default the
            last one.

    Raises:
        InputError: If an output is asked for that there isn't, or numbers of stages differ.
    """

    def __init__(
        self,
        *,
        stem_class: Callable[..., CNNBlockBase],
        stem_width: int,
        block_class: Callable[..., CNNBlockBase],
        depths: Sequence[int],
        widths: Sequence[int],
        group_widths: Sequence[int],
        strides: Sequence[int],
        bottleneck_ratios: Sequence[float],
        se_ratio: float,
        activation_class: MakeActivation,
        freeze_at: int = 0,
        norm: Norm = "BN",
        out_features: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        per_stage = (depths, widths, group_widths, strides, bottleneck_ratios)
        if len({len(values) for values in per_stage}) != 1:
            raise InputError(
                "AnyNet: depths, widths, group_widths, strides and bottleneck_ratios need one value"
                f" a stage; got {[len(values) for values in per_stage]} values"
            )
        self.stem: CNNBlockBase = stem_class(3, stem_width, norm, activation_class)
        self._out_feature_channels = {"stem": self.stem.out_channels}
        self._out_feature_strides = {"stem": self.stem.stride}
        channels, stride = stem_width, self.stem.stride
        for i, (depth, width, group_width, stage_stride, ratio) in enumerate(
            zip(*per_stage, strict=True)
        ):
            params = {"bot_mul": ratio, "group_w": group_width, "se_r": se_ratio}
            stage = AnyStage(
                channels, width, stage_stride, depth, block_class, norm, activation_class, params
            )
            self.add_module(f"s{i + 1}", stage)
            channels, stride = width, stride * stage_stride
            self._out_feature_channels[f"s{i + 1}"] = channels
            self._out_feature_strides[f"s{i + 1}"] = stride
        self.apply(init_weights)

        outputs = list(self._out_feature_channels)
        self._out_features = outputs[-1:] if out_features is None else list(out_features)
        if not self._out_features or not set(self._out_features) <= set(outputs):
            raise InputError(
                f"AnyNet: out_features must name some of {outputs}; got {self._out_features}"
            )
        self.freeze(freeze_at)

    @property
    def stages_and_names(self) -> list[tuple[nn.Module, str]]:
        """The stages, finest first, each with its name."""
        names = [name for name in self._out_feature_channels if name != "stem"]
        return [(getattr(self, name), name) for name in names]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, 3, H, W)`` to the feature maps named by ``out_features``."""
        expect_shape("AnyNet: x", x, ("N", "C", "H", "W"))
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for stage, name in self.stages_and_names:
            x = outputs[name] = stage(x)
        return {name: outputs[name] for name in self._out_features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each output."""
        return super().output_shape()

    def freeze(self, freeze_at: int = 0) -> AnyNet:
        """Freeze the first ``freeze_at`` stages: 1 is the stem, 2 the stem and s1, and so on.

        Frozen are the parameters, and norms become ``FrozenBatchNorm2d``.
        """
        if freeze_at >= 1:
            self.stem.freeze()
        for stage, _ in self.stages_and_names[: max(freeze_at - 1, 0)]:
            block: Any
            for block in stage.children():
                block.freeze()
        return self


def adjust_block_compatibility(
    ws: Sequence[int], bs: Sequence[float], gs: Sequence[int]
) -> tuple[list[int], list[float], list[int]]:
    """Round widths so that the channels of bottlenecks divide into groups.

    Args:
        ws: width of each stage.
        bs: channels of the bottlenecks, in widths.
        gs: channels of a group.

    Returns:
        the widths, ``bs`` unchanged, and the channels of a group, at most those of the bottleneck.

    Raises:
        InputError: If there are not as many of each, or one isn't positive.
    """
    if not len(ws) == len(bs) == len(gs) or min((*ws, *bs, *gs), default=1) <= 0:
        raise InputError(
            "adjust_block_compatibility: widths, ratios and group widths must be positive, one of"
            f" each a stage; got {list(ws)}, {list(bs)}, {list(gs)}"
        )
    widths, group_widths = [], []
    for width, ratio, group in zip(ws, bs, gs, strict=True):
        inner = int(max(1, width * ratio))
        group = int(min(group, inner))
        unit = math.lcm(group, int(ratio)) if ratio > 1 else group
        inner = max(unit, round(inner / unit) * unit)
        widths.append(int(inner / ratio))
        group_widths.append(group)
    return widths, list(bs), group_widths


def generate_regnet_parameters(
    w_a: float, w_0: int, w_m: float, d: int, q: int = 8
) -> tuple[list[int], list[int], int, float, list[int], list[float]]:
    """Turn the line of block widths into stages, section 3.3 of the paper.

    Args:
        w_a: slope, in channels a block.
        w_0: width of the first block.
        w_m: factor between the widths of stages.
        d: number of blocks.
        q: widths are multiples of this.

    Returns:
        width and depth of each stage; number of stages, and the one that the last block's width
        would have; width of each block after and before rounding.

    Raises:
        InputError: If a number is out of its range.
    """
    if w_a < 0 or w_0 <= 0 or w_m <= 1 or w_0 % q:
        raise InputError(
            "generate_regnet_parameters: w_a >= 0, w_0 > 0 and a multiple of q, and w_m > 1 are"
            f" needed; got w_a={w_a}, w_0={w_0}, w_m={w_m}, q={q}"
        )
    on_line = w_0 + w_a * np.arange(d)
    exponent = np.round(np.log(on_line / w_0) / np.log(w_m))
    rounded = np.round(w_0 * w_m**exponent / q).astype(int) * q
    widths, depths = np.unique(rounded, return_counts=True)
    num_possible = exponent.max() + 1
    return (
        widths.tolist(),
        depths.tolist(),
        len(widths),
        num_possible,
        rounded.tolist(),
        on_line.tolist(),
    )


class RegNet(AnyNet):
    """An ``AnyNet`` whose widths grow along a line.

    Args:
        stem_class: as for ``AnyNet``.
        stem_width: channels of the stem.
        block_class: as for ``AnyNet``.
        depth: number of blocks.
        w_a: by how many channels the width grows from block to block, before rounding.
        w_0: width of the first block.
        w_m: factor between the widths of stages.
        group_width: channels of a group of the grouped convolutions.
        stride: of each stage.
        bottleneck_ratio: channels of the bottlenecks, in the stage's width.
        se_ratio: hidden channels of SE, in a block's input channels; 0 for none.
        activation_class: makes the activations; by default ReLU.
        freeze_at: how many stages to freeze.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
        out_features: which outputs ``forward`` returns; by default the last one.
    """

    def __init__(
        self,
        *,
        stem_class: Callable[..., CNNBlockBase],
        stem_width: int,
        block_class: Callable[..., CNNBlockBase],
        depth: int,
        w_a: float,
        w_0: int,
        w_m: float,
        group_width: int,
        stride: int = 2,
        bottleneck_ratio: float = 1.0,
        se_ratio: float = 0.0,
        activation_class: MakeActivation | None = None,
        freeze_at: int = 0,
        norm: Norm = "BN",
        out_features: Sequence[str] | None = None,
    ) -> None:
        widths, depths, num_stages, *_ = generate_regnet_parameters(w_a, w_0, w_m, depth)
        widths, ratios, group_widths = adjust_block_compatibility(
            widths, [bottleneck_ratio] * num_stages, [group_width] * num_stages
        )
        super().__init__(
            stem_class=stem_class,
            stem_width=stem_width,
            block_class=block_class,
            depths=depths,
            widths=widths,
            group_widths=group_widths,
            strides=[stride] * num_stages,
            bottleneck_ratios=ratios,
            se_ratio=se_ratio,
            activation_class=activation_class or (lambda: nn.ReLU(inplace=True)),
            freeze_at=freeze_at,
            norm=norm,
            out_features=out_features,
        )
