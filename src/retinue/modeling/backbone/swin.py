"""Swin: a vision transformer that attends within windows, which shift from block to block.

Shapes
    N images; H, W rows and columns of tokens; C channels, doubled from stage to stage; T tokens of
    a window; B windows of all images.

Reading order: SwinTransformer.forward runs patches through BasicLayers (stages); each holds
SwinTransformerBlocks, every second with shifted windows, and a PatchMerging that halves the size.

Source: Liu et al., "Swin Transformer" (2021), https://arxiv.org/abs/2103.14030.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.utils import _pair
from torch.utils.checkpoint import checkpoint

from retinue.modeling.backbone import utils
from retinue.modeling.backbone.backbone import Backbone
from retinue.modeling.backbone.utils import (
    DropPath,
    Mlp,
    init_transformer_weights,
    stochastic_depth_rates,
    window_unpartition,
)
from retinue.utils.errors import InputError

__all__ = [
    "BasicLayer",
    "Mlp",
    "PatchEmbed",
    "PatchMerging",
    "SwinTransformer",
    "SwinTransformerBlock",
    "WindowAttention",
    "window_partition",
    "window_reverse",
]

MakeNorm = Callable[[int], nn.Module]

# Added to attention logits between tokens that only the shift brought together.
APART = -100.0


def window_partition(x: torch.Tensor, window_size: int) -> torch.Tensor:
    """Cut tokens ``(N, H, W, C)`` into windows ``(B, window_size, window_size, C)``.

    H and W must be multiples of ``window_size``.
    """
    return utils.window_partition(x, window_size)[0]


def window_reverse(windows: torch.Tensor, window_size: int, H: int, W: int) -> torch.Tensor:
    """Put windows together again to tokens ``(N, H, W, C)``; undoes ``window_partition``."""
    return window_unpartition(windows, window_size, (H, W), (H, W))


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias for each relative position.

    Args:
        dim: C.
        window_size: (height, width) of a window, in tokens.
        num_heads: must divide C.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: factor of the logits; by default one over the root of a head's channels.
        attn_drop: dropout rate of attention weights.
        proj_drop: dropout rate of the result.
    """

    relative_position_index: torch.Tensor

    def __init__(
        self,
        dim: int,
        window_size: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.window_size = window_size
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        height, width = window_size
        table = torch.zeros((2 * height - 1) * (2 * width - 1), num_heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.register_buffer("relative_position_index", _relative_positions(height, width))
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)  # in their order
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map windows ``(B, T, C)`` to windows.

        Args:
            x: ``(B, T, C)``, the windows of an image one after the other.
            mask: ``(windows of an image, T, T)``, added to the logits.
        """
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index]  # (T, T, heads)
        bias = bias.permute(2, 0, 1)
        if mask is not None:
            bias = bias + mask[:, None].to(bias.dtype)  # (windows, heads, T, T)
            bias = bias.repeat(len(x) // len(mask), 1, 1, 1)  # (B, heads, T, T)
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=bias.expand(len(x), -1, -1, -1),
            dropout_p=self.attn_drop.p if self.training else 0.0,
            scale=self.scale,
        )
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))


def _relative_positions(height: int, width: int) -> torch.Tensor:
    """Row of the bias table for each pair of tokens of a window, ``(T, T)`` int64."""
    y, x = torch.arange(height * width) // width, torch.arange(height * width) % width
    down, right = y[:, None] - y, x[:, None] - x
    return (down + height - 1) * (2 * width - 1) + right + width - 1


class SwinTransformerBlock(nn.Module):
    """Attention within windows, then an ``Mlp``, each behind a norm and with a shortcut.

    Args:
        dim: C.
        num_heads: of the attention.
        window_size: side of the windows, in tokens.
        shift_size: how far the windows are shifted to the top left, in tokens.
        mlp_ratio: hidden channels of the ``Mlp``, in C.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: factor of the attention logits.
        drop: dropout rate.
        attn_drop: dropout rate of attention weights.
        drop_path: probability of dropping a branch in training.
        act_layer: makes the activation.
        norm_layer: makes a norm from a number of channels.

    Raises:
        InputError: If the shift isn't smaller than the window.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int = 7,
        shift_size: int = 0,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        norm_layer: MakeNorm = nn.LayerNorm,
    ) -> None:
        super().__init__()
        if not 0 <= shift_size < window_size:
            raise InputError(
                f"SwinTransformerBlock: shift_size must be in [0, {window_size}); got {shift_size}"
            )
        self.dim = dim
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift_size = shift_size
        self.mlp_ratio = mlp_ratio
        self.norm1 = norm_layer(dim)
        self.attn = WindowAttention(
            dim,
            window_size=(window_size, window_size),
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=drop,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer, drop=drop)
        self.H: int | None = None  # the stage sets both before it calls
        self.W: int | None = None

    def forward(self, x: torch.Tensor, mask_matrix: torch.Tensor) -> torch.Tensor:
        """Map tokens ``(N, H * W, C)`` to tokens.

        Args:
            x: ``(N, H * W, C)``; ``self.H`` and ``self.W`` say how many rows and columns.
            mask_matrix: ``(windows of an image, T, T)`` for shifted windows.

        Raises:
            InputError: If rows and columns don't fit the number of tokens.
        """
        height, width = self.H or 0, self.W or 0
        if x.shape[1] != height * width:
            raise InputError(
                f"SwinTransformerBlock: got {x.shape[1]} tokens, but H and W are {self.H} and"
                f" {self.W}; set them before the call"
            )
        attended = self._attend(self.norm1(x).unflatten(1, (height, width)), mask_matrix)
        x = x + self.drop_path(attended.flatten(1, 2))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Attend within (shifted) windows of tokens ``(N, H, W, C)``, padded to whole windows."""
        size, shift, (height, width) = self.window_size, self.shift_size, x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        windows, padded_hw = utils.window_partition(x, size)
        out = self.attn(windows.flatten(1, 2), mask if shift else None)
        out = window_unpartition(out.unflatten(1, (size, size)), size, padded_hw, padded_hw)
        if shift:
            out = out.roll((shift, shift), dims=(1, 2))
        return out[:, :height, :width]


class PatchMerging(nn.Module):
    """Join each 2x2 tokens to one of twice the channels.

    Args:
        dim: C.
        norm_layer: makes a norm from a number of channels.
    """

    def __init__(self, dim: int, norm_layer: MakeNorm = nn.LayerNorm) -> None:
        super().__init__()
        self.dim = dim
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(4 * dim)

    def forward(self, x: torch.Tensor, H: int, W: int) -> torch.Tensor:
        """Map tokens ``(N, H * W, C)`` to ``(N, ceil(H / 2) * ceil(W / 2), 2 C)``."""
        if x.shape[1] != H * W:
            raise InputError(f"PatchMerging: got {x.shape[1]} tokens, but H * W is {H} * {W}")
        x = F.pad(x.unflatten(1, (H, W)), (0, 0, 0, W % 2, 0, H % 2))
        pairs = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (N, H/2, y, W/2, x, C)
        # Checkpoints want the four in the order of columns: top left, bottom left, top right, ...
        merged = pairs.permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(1, 2)
        return self.reduction(self.norm(merged))


class BasicLayer(nn.Module):
    """A stage: blocks of one size, every second with shifted windows.

    Args:
        dim: C.
        depth: number of blocks.
        num_heads: of each attention.
        window_size: side of the windows, in tokens.
        mlp_ratio: hidden channels of each ``Mlp``, in C.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: factor of the attention logits.
        drop: dropout rate.
        attn_drop: dropout rate of attention weights.
        drop_path: probability of dropping a branch in training, one for all or for each block.
        norm_layer: makes a norm from a number of channels.
        downsample: makes what halves the size behind the blocks, see ``PatchMerging``.
        use_checkpoint: whether to compute blocks again in the backward pass, to save memory.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float | Sequence[float] = 0.0,
        norm_layer: MakeNorm = nn.LayerNorm,
        downsample: Callable[..., nn.Module] | None = None,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift_size = window_size // 2
        self.depth = depth
        self.use_checkpoint = use_checkpoint
        drop_paths = [drop_path] * depth if isinstance(drop_path, float | int) else drop_path
        self.blocks = nn.ModuleList(
            SwinTransformerBlock(
                dim=dim,
                num_heads=num_heads,
                window_size=window_size,
                shift_size=self.shift_size if i % 2 else 0,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop,
                attn_drop=attn_drop,
                drop_path=rate,
                norm_layer=norm_layer,
            )
            for i, rate in enumerate(drop_paths)
        )
        self.downsample = None if downsample is None else downsample(dim=dim, norm_layer=norm_layer)

    def forward(
        self, x: torch.Tensor, H: int, W: int
    ) -> tuple[torch.Tensor, int, int, torch.Tensor, int, int]:
        """Run the stage on tokens ``(N, H * W, C)``.

        Returns:
            the tokens, H and W; and the tokens, H and W for the next stage.
        """
        mask = self._mask(H, W, x.device)
        recompute = self.use_checkpoint and torch.is_grad_enabled()
        block: Any
        for block in self.blocks:
            block.H, block.W = H, W
            x = checkpoint(block, x, mask, use_reentrant=False) if recompute else block(x, mask)
        if self.downsample is None:
            return x, H, W, x, H, W
        return x, H, W, self.downsample(x, H, W), (H + 1) // 2, (W + 1) // 2

    def _mask(self, height: int, width: int, device: torch.device) -> torch.Tensor:
        """Keep apart what only the shift brought into one window: ``(windows, T, T)``.

        A shifted map consists of four parts: the last ``shift_size`` rows and columns came from the
        other end. The padding behind the last window belongs to them.
        """
        size, shift = self.window_size, self.shift_size
        parts = []
        for length in (height, width):
            padded = length + -length % size
            place = torch.arange(padded, device=device)
            parts.append((place >= padded - size).int() + (place >= padded - shift).int())
        part = parts[0][:, None] * 3 + parts[1]  # (H, W), padded
        tokens = window_partition(part[None, :, :, None], size).flatten(1)  # (windows, T)
        return APART * (tokens[:, :, None] != tokens[:, None]).float()


class PatchEmbed(nn.Module):
    """Turn image patches into tokens by a convolution, padding the image to whole patches.

    Args:
        patch_size: side of a patch, or (height, width), in pixels.
        in_chans: channels of the images.
        embed_dim: C.
        norm_layer: makes a norm from a number of channels.
    """

    def __init__(
        self,
        patch_size: int | tuple[int, int] = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: MakeNorm | None = None,
    ) -> None:
        super().__init__()
        self.patch_size = _pair(patch_size)
        self.in_chans = in_chans
        self.embed_dim = embed_dim
        self.proj = nn.Conv2d(in_chans, embed_dim, self.patch_size, stride=self.patch_size)
        self.norm = None if norm_layer is None else norm_layer(embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images ``(N, in_chans, height, width)`` to ``(N, C, H, W)``."""
        rows, columns = self.patch_size
        x = self.proj(F.pad(x, (0, -x.shape[3] % columns, 0, -x.shape[2] % rows)))
        if self.norm is not None:
            x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x


class SwinTransformer(Backbone):
    """Stages of windowed attention with the feature maps p0, p1, ... of stride 4, 8, ...

    Args:
        pretrain_img_size: side of the images that ``ape`` has embeddings for, or (height, width).
        patch_size: side of a patch, or (height, width), in pixels.
        in_chans: channels of the images.
        embed_dim: C of the first stage.
        depths: number of blocks of each stage.
        num_heads: of each stage.
        window_size: side of the windows, in tokens.
        mlp_ratio: hidden channels of each ``Mlp``, in C.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: factor of the attention logits.
        drop_rate: dropout rate.
        attn_drop_rate: dropout rate of attention weights.
        drop_path_rate: probability of dropping a branch in the last block; falls to 0 at the first.
        norm_layer: makes a norm from a number of channels.
        ape: whether each place has an embedding.
        patch_norm: whether a norm follows the patches.
        out_indices: stages whose outputs are returned.
        frozen_stages: 0 freezes the patches, 1 also ``ape``, k also the first k - 1 stages.
        use_checkpoint: whether to compute blocks again in the backward pass, to save memory.

    Raises:
        InputError: If ``num_heads`` or ``out_indices`` are those of another number of stages.
    """

    def __init__(
        self,
        pretrain_img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        norm_layer: MakeNorm = nn.LayerNorm,
        ape: bool = False,
        patch_norm: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if len(num_heads) != len(depths) or not set(out_indices) <= set(range(len(depths))):
            raise InputError(
                f"SwinTransformer: {len(depths)} stages (depths={list(depths)}) need as many"
                f" num_heads, and out_indices below {len(depths)}; got {list(num_heads)} and"
                f" {list(out_indices)}"
            )
        self.ape, self.pretrain_img_size = ape, pretrain_img_size
        self.embed_dim, self.patch_norm = embed_dim, patch_norm
        self.frozen_stages, self.out_indices = frozen_stages, out_indices
        self.num_layers = len(depths)
        self.num_features = [embed_dim * 2**i for i in range(len(depths))]

        self.patch_embed = PatchEmbed(
            patch_size, in_chans, embed_dim, norm_layer if patch_norm else None
        )
        if ape:
            sides = zip(_pair(pretrain_img_size), _pair(patch_size), strict=True)
            places = torch.zeros(1, embed_dim, *(image // patch for image, patch in sides))
            self.absolute_pos_embed = nn.Parameter(nn.init.trunc_normal_(places, std=0.02))
        self.pos_drop = nn.Dropout(drop_rate)
        rates = iter(stochastic_depth_rates(drop_path_rate, sum(depths)))
        self.layers = nn.ModuleList(
            BasicLayer(
                dim=self.num_features[i],
                depth=depth,
                num_heads=num_heads[i],
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop_rate,
                attn_drop=attn_drop_rate,
                drop_path=[next(rates) for _ in range(depth)],
                norm_layer=norm_layer,
                downsample=PatchMerging if i < len(depths) - 1 else None,
                use_checkpoint=use_checkpoint,
            )
            for i, depth in enumerate(depths)
        )
        for i in out_indices:
            self.add_module(f"norm{i}", norm_layer(self.num_features[i]))
        self._out_features = [f"p{i}" for i in out_indices]
        self._out_feature_channels = {f"p{i}": self.num_features[i] for i in out_indices}
        self._out_feature_strides = {f"p{i}": 4 * 2**i for i in out_indices}
        self.apply(self._init_weights)
        self._freeze_stages()

    def _init_weights(self, m: nn.Module) -> None:
        init_transformer_weights(m)

    def _freeze_stages(self) -> None:
        """Stop the training of what ``frozen_stages`` says."""
        frozen: list[nn.Module] = []
        if self.frozen_stages >= 0:
            frozen.append(self.patch_embed)
        if self.frozen_stages >= 1 and self.ape:
            self.absolute_pos_embed.requires_grad_(False)
        if self.frozen_stages >= 2:
            frozen += [self.pos_drop, *self.layers[: self.frozen_stages - 1]]
        for module in frozen:
            module.eval().requires_grad_(False)

    @property
    def size_divisibility(self) -> int:
        """Images of other sizes are padded; multiples of 32 pixels make whole tokens throughout."""
        return 32

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, in_chans, height, width)`` to feature maps by name, finest first."""
        x = self.patch_embed(x)  # (N, C, H, W)
        height, width = x.shape[2:]
        if self.ape:
            x = x + F.interpolate(self.absolute_pos_embed, size=(height, width), mode="bicubic")
        x = self.pos_drop(x.flatten(2).transpose(1, 2))  # (N, H * W, C)
        outputs = {}
        for i, layer in enumerate(self.layers):
            stage_hw = (height, width)
            out, _, _, x, height, width = layer(x, height, width)
            if i in self.out_indices:
                tokens = getattr(self, f"norm{i}")(out).unflatten(1, stage_hw)
                outputs[f"p{i}"] = tokens.permute(0, 3, 1, 2).contiguous()
        return outputs
