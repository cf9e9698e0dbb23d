"""ViTDet: a plain vision transformer, and a pyramid made from its last feature map.

Shapes
    N images; H, W rows and columns of tokens (pixels divided by the patch size); C channels.

Reading order: ViT.forward runs blocks over tokens; most blocks attend within windows, a few over
the whole image; SimpleFeaturePyramid makes p2 to p6 of the result.

Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (2022),
https://arxiv.org/abs/2203.16527.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from retinue.layers import CNNBlockBase, Conv2d, get_norm, weight_init
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.backbone.fpn import _assert_strides_are_log2_contiguous
from retinue.modeling.backbone.utils import (
    DropPath,
    Mlp,
    PatchEmbed,
    attention,
    get_abs_pos,
    init_transformer_weights,
    stochastic_depth_rates,
    window_partition,
    window_unpartition,
)
from retinue.utils.errors import InputError, unknown_name

__all__ = ["SimpleFeaturePyramid", "ViT", "get_vit_lr_decay_rate"]

logger = logging.getLogger(__name__)

MakeNorm = Callable[[int], nn.Module]


class Attention(nn.Module):
    """Multi-head attention of all tokens to all tokens, with relative positions.

    Args:
        dim: C.
        num_heads: must divide C.
        qkv_bias: whether queries, keys and values have biases.
        use_rel_pos: whether distances in rows and columns count.
        rel_pos_zero_init: whether they count nothing at first.
        input_size: (height, width) in tokens that the table of positions is made for.
    """

    rel_pos_h: nn.Parameter
    rel_pos_w: nn.Parameter

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if dim % num_heads or (use_rel_pos and input_size is None):
            raise InputError(
                f"Attention: dim={dim} must be a multiple of num_heads={num_heads}, and use_rel_pos"
                f" needs input_size; got {input_size}"
            )
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.use_rel_pos = use_rel_pos
        if use_rel_pos and input_size is not None:
            for name, size in zip(("rel_pos_h", "rel_pos_w"), input_size, strict=True):
                table = nn.Parameter(torch.zeros(2 * size - 1, dim // num_heads))
                if not rel_pos_zero_init:
                    nn.init.trunc_normal_(table, std=0.02)
                self.register_parameter(name, table)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens ``(N, H, W, C)`` to tokens."""
        num, height, width, _ = x.shape
        qkv = self.qkv(x).view(num, height * width, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2)  # (N * heads, H * W, D) each
        size = (height, width)
        rel_pos = (self.rel_pos_h, self.rel_pos_w) if self.use_rel_pos else None
        out = attention(q, k, v, rel_pos, size, size).view(num, self.num_heads, height, width, -1)
        return self.proj(out.permute(0, 2, 3, 1, 4).flatten(3))


class ResBottleneckBlock(CNNBlockBase):
    """A residual block of 1x1, 3x3 and 1x1 convolutions that changes nothing at first.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, as many.
        bottleneck_channels: channels of the 3x3 convolution.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module.
        act_layer: makes the activations.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bottleneck_channels: int,
        norm: str | MakeNorm = "LN",
        act_layer: Callable[[], nn.Module] = nn.GELU,
    ) -> None:
        super().__init__(in_channels, out_channels, 1)
        width = bottleneck_channels
        self.conv1 = Conv2d(in_channels, width, 1, bias=False)
        self.norm1 = cast(Any, get_norm(norm, width))
        self.act1 = act_layer()
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = cast(Any, get_norm(norm, width))
        self.act2 = act_layer()
        self.conv3 = Conv2d(width, out_channels, 1, bias=False)
        self.norm3 = cast(Any, get_norm(norm, out_channels))
        for conv in (self.conv1, self.conv2, self.conv3):
            weight_init.c2_msra_fill(conv)
        nn.init.zeros_(self.norm3.weight)  # the branch is silent until trained

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.act1(self.norm1(self.conv1(x)))
        out = self.act2(self.norm2(self.conv2(out)))
        return x + self.norm3(self.conv3(out))


class Block(nn.Module):
    """Attention, then an ``Mlp``, each behind a norm and with a shortcut.

    Args:
        dim: C.
        num_heads: of the attention.
        mlp_ratio: hidden channels of the ``Mlp``, in C.
        qkv_bias: whether queries, keys and values have biases.
        drop_path: probability of dropping a branch in training.
        norm_layer: makes a norm from a number of channels.
        act_layer: makes the activation.
        use_rel_pos: whether distances in rows and columns count.
        rel_pos_zero_init: whether they count nothing at first.
        window_size: side of the windows to attend within, in tokens; 0 for the whole image.
        use_residual_block: whether a ``ResBottleneckBlock`` follows.
        input_size: (height, width) in tokens that the table of positions is made for.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_layer: MakeNorm = nn.LayerNorm,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        use_residual_block: bool = False,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = Attention(
            dim,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            use_rel_pos=use_rel_pos,
            rel_pos_zero_init=rel_pos_zero_init,
            input_size=(window_size, window_size) if window_size else input_size,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer)
        self.window_size = window_size
        self.use_residual_block = use_residual_block
        if use_residual_block:
            self.residual = ResBottleneckBlock(dim, dim, dim // 2, act_layer=act_layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens ``(N, H, W, C)`` to tokens."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.use_residual_block:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        if self.window_size == 0:
            return self.attn(x)
        windows, padded_hw = window_partition(x, self.window_size)
        hw = (x.shape[1], x.shape[2])
        return window_unpartition(self.attn(windows), self.window_size, padded_hw, hw)


class ViT(Backbone):
    """A plain vision transformer with one feature map.

    Args:
        img_size: side of the images that tables of positions are made for, in pixels.
        patch_size: side of a patch, which becomes a token.
        in_chans: channels of the images.
        embed_dim: C.
        depth: number of blocks.
        num_heads: of each attention.
        mlp_ratio: hidden channels of each ``Mlp``, in C.
        qkv_bias: whether queries, keys and values have biases.
        drop_path_rate: probability of dropping a branch in the last block; falls to 0 at the first.
        norm_layer: makes a norm from a number of channels.
        act_layer: makes the activations.
        use_abs_pos: whether each place has an embedding.
        use_rel_pos: whether distances in rows and columns count in attention.
        rel_pos_zero_init: whether they count nothing at first.
        window_size: side of the windows, in tokens.
        window_block_indexes: blocks that attend within windows.
        residual_block_indexes: blocks with convolutions behind them.
        use_act_checkpoint: whether to compute blocks again in the backward pass, to save memory.
        pretrain_img_size: side of the images that ``use_abs_pos`` has embeddings for.
        pretrain_use_cls_token: whether those embeddings begin with that of a class token.
        out_feature: name of the feature map.
    """

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: MakeNorm = nn.LayerNorm,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        use_abs_pos: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        window_block_indexes: Sequence[int] = (),
        residual_block_indexes: Sequence[int] = (),
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_feature: str = "last_feat",
    ) -> None:
        super().__init__()
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.use_act_checkpoint = use_act_checkpoint
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            num_places = (pretrain_img_size // patch_size) ** 2 + int(pretrain_use_cls_token)
            self.pos_embed = nn.Parameter(torch.zeros(1, num_places, embed_dim))
        self.patch_embed = PatchEmbed(
            (patch_size, patch_size), (patch_size, patch_size), (0, 0), in_chans, embed_dim
        )
        self.blocks = nn.ModuleList()
        for i, drop_path in enumerate(stochastic_depth_rates(drop_path_rate, depth)):
            block = Block(
                dim=embed_dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                drop_path=drop_path,
                act_layer=act_layer,
                norm_layer=norm_layer,
                input_size=(img_size // patch_size, img_size // patch_size),
                rel_pos_zero_init=rel_pos_zero_init,
                use_rel_pos=use_rel_pos,
                use_residual_block=i in residual_block_indexes,
                window_size=window_size if i in window_block_indexes else 0,
            )
            self.blocks.append(block)
        self._out_features = [out_feature]
        self._out_feature_channels = {out_feature: embed_dim}
        self._out_feature_strides = {out_feature: patch_size}
        if self.pos_embed is not None:  # after what is made above, in detectron2's order of draws
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(self._init_weights)

    def _init_weights(self, m: nn.Module) -> None:
        init_transformer_weights(m)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, in_chans, height, width)`` to ``{out_feature: (N, C, H, W)}``."""
        x = self.patch_embed(x)  # (N, H, W, C)
        if self.pos_embed is not None:
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, x.shape[1:3])
        recompute = self.use_act_checkpoint and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return {self._out_features[0]: x.permute(0, 3, 1, 2)}


class SimpleFeaturePyramid(Backbone):
    """A pyramid from one feature map: each level is a scaled version of it.

    Args:
        net: the backbone that the feature map comes from.
        in_feature: the feature map.
        out_channels: channels of every level.
        scale_factors: size of each level relative to the feature map, finest first: any of 4, 2, 1
            and 0.5.
        top_block: makes levels above the last one, as in ``FPN``.
        norm: a name that ``get_norm`` knows, or a callable from channels to a module; without one,
            the convolutions have biases.
        square_pad: if above 0, batches are padded to squares of that many pixels.

    Raises:
        InputError: If ``net`` is no ``Backbone`` or the levels don't double.
        NotImplementedError: For another scale.
    """

    def __init__(
        self,
        net: Backbone,
        in_feature: str,
        out_channels: int,
        scale_factors: Sequence[float],
        top_block: Any = None,
        norm: str | MakeNorm = "LN",
        square_pad: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(net, Backbone):
            raise InputError(
                f"SimpleFeaturePyramid: net must be a Backbone; got {type(net).__name__}"
            )
        shapes: dict[str, Any] = net.output_shape()
        if in_feature not in shapes:
            raise unknown_name("SimpleFeaturePyramid input feature", in_feature, shapes)
        source = shapes[in_feature]
        strides = [int(source.stride / scale) for scale in scale_factors]
        _assert_strides_are_log2_contiguous(strides)
        self._levels = [stride.bit_length() - 1 for stride in strides]
        for level, scale in zip(self._levels, scale_factors, strict=True):
            layers, channels = _scaling_layers(scale, source.channels, norm)
            for kernel_size in (1, 3):
                layers.append(
                    Conv2d(
                        channels,
                        out_channels,
                        kernel_size=kernel_size,
                        padding=kernel_size // 2,
                        bias=norm == "",
                        norm=get_norm(norm, out_channels),
                    )
                )
                channels = out_channels
            self.add_module(f"simfp_{level}", nn.Sequential(*layers))
        self.net = net
        self.in_feature = in_feature
        self.scale_factors = scale_factors
        self.top_block = top_block

        last = self._levels[-1] + (0 if top_block is None else top_block.num_levels)
        self._out_feature_strides = {f"p{k}": 2**k for k in range(self._levels[0], last + 1)}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        self._square_pad = square_pad

    @property
    def stages(self) -> list[nn.Module]:
        """The layers of each level, finest first."""
        return [getattr(self, f"simfp_{k}") for k in self._levels]

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The size of square batches, in pixels; 0 for none."""
        return {"square_size": self._square_pad}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, in_chans, height, width)`` to levels by name, finest first."""
        features = self.net(x)
        levels = [stage(features[self.in_feature]) for stage in self.stages]
        if self.top_block is not None:
            top = features.get(self.top_block.in_feature)
            if top is None:
                top = levels[self._out_features.index(self.top_block.in_feature)]
            levels += self.top_block(top)
        return dict(zip(self._out_features, levels, strict=True))


def _scaling_layers(scale: float, channels: int, norm: str | MakeNorm) -> tuple[list[Any], int]:
    """Make the layers that scale a feature map, and say how many channels they give."""

    def doubling(num_in: int) -> nn.Module:
        return nn.ConvTranspose2d(num_in, num_in // 2, kernel_size=2, stride=2)

    half = channels // 2
    if scale == 4:
        return [doubling(channels), get_norm(norm, half), nn.GELU(), doubling(half)], half // 2
    if scale == 2:
        return [doubling(channels)], half
    if scale == 1:
        return [], channels
    if scale == 0.5:
        return [nn.MaxPool2d(kernel_size=2, stride=2)], channels
    raise NotImplementedError(f"SimpleFeaturePyramid: a scale must be 4, 2, 1 or 0.5; got {scale}")


def get_vit_lr_decay_rate(name: str, lr_decay_rate: float = 1.0, num_layers: int = 12) -> float:
    """Factor of the learning rate of a parameter: smaller the nearer to the image it is.

    Args:
        name: of the parameter in the whole model; what isn't under ``backbone`` gets 1.
        lr_decay_rate: factor from one block to the one before.
        num_layers: number of blocks.

    Example:
        >>> get_vit_lr_decay_rate("backbone.net.blocks.11.norm1.weight", 0.5, 12)
        0.5
        >>> get_vit_lr_decay_rate("roi_heads.box_head.fc1.weight", 0.5, 12)
        1.0
    """
    layer = num_layers + 1
    if name.startswith("backbone"):
        if ".pos_embed" in name or ".patch_embed" in name:
            layer = 0
        elif ".blocks." in name and ".residual." not in name:
            layer = 1 + int(name.split(".blocks.")[1].split(".")[0])
    return lr_decay_rate ** (num_layers + 1 - layer)
