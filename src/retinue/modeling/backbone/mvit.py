"""MViTv2: a vision transformer that pools queries, keys and values, in four stages.

Shapes
    N images; H, W rows and columns of tokens; C channels; D channels of a head. Stage k (2 to 5)
    has stride 2**k pixels, and twice the channels and heads of the one before.

Reading order: MViT builds and runs MultiScaleBlocks; each holds a MultiScaleAttention, which pools
tokens before it attends.

Source: Li et al., "MViTv2: Improved Multiscale Vision Transformers" (2022),
https://arxiv.org/abs/2112.01526.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from retinue.modeling.backbone.backbone import Backbone
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
from retinue.utils.errors import InputError

__all__ = ["MViT"]

logger = logging.getLogger(__name__)

MakeNorm = Callable[[int], nn.Module]


def attention_pool(x: torch.Tensor, pool: nn.Module, norm: nn.Module | None = None) -> torch.Tensor:
    """Apply a pooling of images to tokens ``(B, H, W, C)``, and a norm behind it."""
    x = pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return x if norm is None else norm(x)


class MultiScaleAttention(nn.Module):
    """Multi-head attention on pooled queries, keys and values.

    Args:
        dim: channels of the input.
        dim_out: channels of the output; a multiple of ``num_heads``.
        num_heads: number of heads.
        qkv_bias: whether queries, keys and values have biases.
        norm_layer: makes a norm from a number of channels.
        pool_kernel: (rows, columns) of the poolings, which are convolutions of each channel.
        stride_q: stride of the pooling of queries.
        stride_kv: stride of the pooling of keys and values.
        residual_pooling: whether the pooled queries are added to the result.
        window_size: side of the windows to attend within, in tokens before pooling; 0 for the
            whole image.
        use_rel_pos: whether distances in rows and columns count.
        rel_pos_zero_init: whether they count nothing at first.
        input_size: (height, width) in tokens that the table of positions is made for; a square.
    """

    pool_q: nn.Module
    pool_k: nn.Module
    pool_v: nn.Module
    norm_q: nn.Module
    norm_k: nn.Module
    norm_v: nn.Module
    rel_pos_h: nn.Parameter
    rel_pos_w: nn.Parameter

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        qkv_bias: bool = True,
        norm_layer: MakeNorm = nn.LayerNorm,
        pool_kernel: tuple[int, int] = (3, 3),
        stride_q: int = 1,
        stride_kv: int = 1,
        residual_pooling: bool = True,
        window_size: int = 0,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        head_dim = dim_out // num_heads
        self.num_heads, self.scale = num_heads, head_dim**-0.5
        self.qkv = nn.Linear(dim, dim_out * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim_out, dim_out)
        for name, stride in (("q", stride_q), ("k", stride_kv), ("v", stride_kv)):
            pool = nn.Conv2d(
                head_dim,
                head_dim,
                pool_kernel,
                stride=stride,
                padding=(pool_kernel[0] // 2, pool_kernel[1] // 2),
                groups=head_dim,
                bias=False,
            )
            self.add_module(f"pool_{name}", pool)
            self.add_module(f"norm_{name}", norm_layer(head_dim))
        self.window_size = window_size
        self.q_win_size = window_size // stride_q
        self.kv_win_size = window_size // stride_kv
        self.residual_pooling = residual_pooling
        self.use_rel_pos = use_rel_pos
        if use_rel_pos:
            if input_size is None or input_size[0] != input_size[1]:
                raise InputError(
                    f"MultiScaleAttention: use_rel_pos needs input_size, a square; got {input_size}"
                )
            num_distances = 2 * (input_size[0] // min(stride_q, stride_kv)) - 1
            for name in ("rel_pos_h", "rel_pos_w"):
                table = nn.Parameter(torch.zeros(num_distances, head_dim))
                if not rel_pos_zero_init:
                    nn.init.trunc_normal_(table, std=0.02)
                self.register_parameter(name, table)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens ``(N, H, W, dim)`` to ``(N, H / stride_q, W / stride_q, dim_out)``."""
        num = len(x)
        qkv = self.qkv(x).unflatten(3, (3, self.num_heads, -1))
        q, k, v = qkv.permute(3, 0, 4, 1, 2, 5).flatten(1, 2)  # (N * heads, H, W, D) each
        q = attention_pool(q, self.pool_q, self.norm_q)
        k = attention_pool(k, self.pool_k, self.norm_k)
        v = attention_pool(v, self.pool_v, self.norm_v)

        pooled_q, out_hw, padded_hw = q, q.shape[1:3], (0, 0)
        if self.window_size:
            q, padded_hw = window_partition(q, self.q_win_size)
            k, _ = window_partition(k, self.kv_win_size)
            v, _ = window_partition(v, self.kv_win_size)
        rel_pos = (self.rel_pos_h, self.rel_pos_w) if self.use_rel_pos else None
        q_hw, k_hw = q.shape[1:3], k.shape[1:3]
        out = attention(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), rel_pos, q_hw, k_hw)
        out = out.unflatten(1, q_hw)
        if self.window_size:
            out = window_unpartition(out, self.q_win_size, padded_hw, out_hw)
        if self.residual_pooling:
            out = out + pooled_q
        return self.proj(out.unflatten(0, (num, -1)).permute(0, 2, 3, 1, 4).flatten(3))


class MultiScaleBlock(nn.Module):
    """Pooled attention, then an ``Mlp``, each behind a norm and with a shortcut.

    Args:
        dim: channels of the input.
        dim_out: channels of the output.
        num_heads: of the attention.
        mlp_ratio: hidden channels of the ``Mlp``, in ``dim_out``.
        qkv_bias: whether queries, keys and values have biases.
        drop_path: probability of dropping a branch in training.
        norm_layer: makes a norm from a number of channels.
        act_layer: makes the activation.
        qkv_pool_kernel: (rows, columns) of the poolings.
        stride_q: stride of the block.
        stride_kv: stride of the pooling of keys and values.
        residual_pooling: whether the pooled queries are added to the result of attention.
        window_size: side of the windows to attend within, in tokens; 0 for the whole image.
        use_rel_pos: whether distances in rows and columns count.
        rel_pos_zero_init: whether they count nothing at first.
        input_size: (height, width) in tokens that the table of positions is made for.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_layer: MakeNorm = nn.LayerNorm,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        qkv_pool_kernel: tuple[int, int] = (3, 3),
        stride_q: int = 1,
        stride_kv: int = 1,
        residual_pooling: bool = True,
        window_size: int = 0,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = MultiScaleAttention(
            dim,
            dim_out,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            norm_layer=norm_layer,
            pool_kernel=qkv_pool_kernel,
            input_size=input_size,
            rel_pos_zero_init=rel_pos_zero_init,
            residual_pooling=residual_pooling,
            stride_kv=stride_kv,
            stride_q=stride_q,
            use_rel_pos=use_rel_pos,
            window_size=window_size,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = norm_layer(dim_out)
        self.mlp = Mlp(dim_out, int(dim_out * mlp_ratio), act_layer=act_layer)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None
        self.pool_skip: nn.Module | None = None
        if stride_q > 1:
            kernel_size = stride_q + 1
            self.pool_skip = nn.MaxPool2d(kernel_size, stride_q, kernel_size // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens ``(N, H, W, dim)`` to ``(N, H / stride_q, W / stride_q, dim_out)``."""
        normed = self.norm1(x)
        if self.proj is not None:
            x = self.proj(normed)
        if self.pool_skip is not None:
            x = attention_pool(x, self.pool_skip)
        x = x + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class MViT(Backbone):
    """A multiscale vision transformer with the feature maps scale2 to scale5.

    Args:
        img_size: side of the images that tables of positions are made for, in pixels.
        patch_kernel: (height, width) of a patch, in pixels.
        patch_stride: (rows, columns) from one patch to the next.
        patch_padding: (rows, columns) of zeros around the image.
        in_chans: channels of the images.
        embed_dim: channels of the first stage.
        depth: number of blocks.
        num_heads: of the first stage.
        last_block_indexes: the last block of each stage.
        qkv_pool_kernel: (rows, columns) of the poolings.
        adaptive_kv_stride: stride of the pooling of keys and values in the first stage, halved from
            stage to stage.
        adaptive_window_size: side of the windows in the first stage, halved from stage to stage.
            The last blocks of all stages but the first attend over the whole image.
        residual_pooling: whether pooled queries are added to the results of attention.
        mlp_ratio: hidden channels of each ``Mlp``, in the block's channels.
        qkv_bias: whether queries, keys and values have biases.
        drop_path_rate: probability of dropping a branch in the last block; falls to 0 at the first.
        norm_layer: makes a norm from a number of channels.
        act_layer: makes the activations.
        use_abs_pos: whether each place has an embedding.
        use_rel_pos: whether distances in rows and columns count in attention.
        rel_pos_zero_init: whether they count nothing at first.
        use_act_checkpoint: whether to compute blocks again in the backward pass, to save memory.
        pretrain_img_size: side of the images that ``use_abs_pos`` has embeddings for.
        pretrain_use_cls_token: whether those embeddings begin with that of a class token.
        out_features: which feature maps ``forward`` returns.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_kernel: tuple[int, int] = (7, 7),
        patch_stride: tuple[int, int] = (4, 4),
        patch_padding: tuple[int, int] = (3, 3),
        in_chans: int = 3,
        embed_dim: int = 96,
        depth: int = 16,
        num_heads: int = 1,
        last_block_indexes: Sequence[int] = (0, 2, 11, 15),
        qkv_pool_kernel: tuple[int, int] = (3, 3),
        adaptive_kv_stride: int = 4,
        adaptive_window_size: int = 56,
        residual_pooling: bool = True,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: MakeNorm = nn.LayerNorm,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        use_abs_pos: bool = False,
        use_rel_pos: bool = True,
        rel_pos_zero_init: bool = True,
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_features: Sequence[str] = ("scale2", "scale3", "scale4", "scale5"),
    ) -> None:
        super().__init__()
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.use_act_checkpoint = use_act_checkpoint
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            rows, columns = (pretrain_img_size // stride for stride in patch_stride)
            num_places = rows * columns + int(pretrain_use_cls_token)
            self.pos_embed = nn.Parameter(torch.zeros(1, num_places, embed_dim))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.patch_embed = PatchEmbed(
            patch_kernel, patch_stride, patch_padding, in_chans, embed_dim
        )
        self._last_block_indexes = list(last_block_indexes)
        self._out_features = list(out_features)
        self._out_feature_channels = {}
        self._out_feature_strides = {}

        self.blocks = nn.ModuleList()
        dim, side, window_size = embed_dim, img_size // patch_stride[0], adaptive_window_size
        for i, drop_path in enumerate(stochastic_depth_rates(drop_path_rate, depth)):
            stage = sum(last < i for last in last_block_indexes)  # 0 to 3
            stride_kv = max(adaptive_kv_stride // 2**stage, 1)
            # The first block of a stage halves the resolution, so before it keys are pooled more.
            is_first = i - 1 in last_block_indexes
            dim_out = embed_dim * 2**stage
            block = MultiScaleBlock(
                dim=dim,
                dim_out=dim_out,
                num_heads=num_heads * 2**stage,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                drop_path=drop_path,
                norm_layer=norm_layer,
                act_layer=act_layer,
                qkv_pool_kernel=qkv_pool_kernel,
                stride_q=2 if is_first else 1,
                stride_kv=stride_kv * 2 if i in last_block_indexes[1:3] else stride_kv,
                residual_pooling=residual_pooling,
                window_size=0 if i in last_block_indexes[1:] else window_size,
                use_rel_pos=use_rel_pos,
                rel_pos_zero_init=rel_pos_zero_init,
                input_size=(side, side),
            )
            self.blocks.append(block)
            if is_first:
                side, window_size = side // 2, window_size // 2
            name = f"scale{stage + 2}"
            if i in last_block_indexes and name in out_features:
                self._out_feature_channels[name] = dim_out
                self._out_feature_strides[name] = patch_stride[0] * 2**stage
                self.add_module(f"{name}_norm", norm_layer(dim_out))
            dim = dim_out
        self.apply(self._init_weights)

    def _init_weights(self, m: nn.Module) -> None:
        init_transformer_weights(m)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, in_chans, height, width)`` to feature maps by name, finest first."""
        x = self.patch_embed(x)  # (N, H, W, C)
        if self.pos_embed is not None:
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, x.shape[1:3])
        recompute = self.use_act_checkpoint and torch.is_grad_enabled()
        outputs = {}
        for i, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
            if i not in self._last_block_indexes:
                continue
            name = f"scale{self._last_block_indexes.index(i) + 2}"
            if name in self._out_features:
                outputs[name] = getattr(self, f"{name}_norm")(x).permute(0, 3, 1, 2)
        return outputs
