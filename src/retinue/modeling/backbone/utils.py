"""What vision transformers share: patches, windows, positions, and the parts of a block.

Shapes
    N images; H, W rows and columns of tokens; C channels; B attention groups (images, windows and
    heads together); D channels of a head; L rows of a table of relative positions.

Sources: windows and positions as in Li et al., "Exploring Plain Vision Transformer Backbones"
(2022), https://arxiv.org/abs/2203.16527, and Li et al., "MViTv2" (2022),
https://arxiv.org/abs/2112.01526; stochastic depth: https://arxiv.org/abs/1603.09382.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from retinue.utils.errors import InputError

__all__ = [
    "DropPath",
    "Mlp",
    "PatchEmbed",
    "add_decomposed_rel_pos",
    "attention",
    "get_abs_pos",
    "get_rel_pos",
    "init_transformer_weights",
    "stochastic_depth_rates",
    "window_partition",
    "window_unpartition",
]


def window_partition(x: torch.Tensor, window_size: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Cut token maps into square windows, padding with zeros at the right and bottom.

    Args:
        x: ``(N, H, W, C)``.
        window_size: side of a window, in tokens.

    Returns:
        ``(N * windows, window_size, window_size, C)``, and the padded (height, width).
    """
    height, width, channels = x.shape[1:]
    padded_hw = (height + -height % window_size, width + -width % window_size)
    if padded_hw != (height, width):
        x = F.pad(x, (0, 0, 0, padded_hw[1] - width, 0, padded_hw[0] - height))
    grid = x.unflatten(2, (-1, window_size)).unflatten(1, (-1, window_size))
    windows = grid.transpose(2, 3).reshape(-1, window_size, window_size, channels)
    return windows, padded_hw


def window_unpartition(
    windows: torch.Tensor, window_size: int, pad_hw: Sequence[int], hw: Sequence[int]
) -> torch.Tensor:
    """Put windows together again and cut the padding off; undoes ``window_partition``.

    Args:
        windows: ``(N * windows, window_size, window_size, C)``.
        window_size: side of a window, in tokens.
        pad_hw: the padded (height, width).
        hw: (height, width) of the result.
    """
    rows, columns = pad_hw[0] // window_size, pad_hw[1] // window_size
    grid = windows.unflatten(0, (-1, rows, columns))  # (N, rows, columns, size, size, C)
    x = grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (N, H, W, C), padded
    return x[:, : hw[0], : hw[1]].contiguous()


def get_rel_pos(q_size: int, k_size: int, rel_pos: torch.Tensor) -> torch.Tensor:
    """Look up the embedding of each distance between a query and a key along one axis.

    A table for other sizes is interpolated. The shorter of both axes is stretched to the longer.

    Args:
        q_size: queries along the axis.
        k_size: keys along the axis.
        rel_pos: ``(L, D)``, from the most negative to the most positive distance.

    Returns:
        ``(q_size, k_size, D)``.
    """
    num_distances = 2 * max(q_size, k_size) - 1
    if len(rel_pos) != num_distances:
        table = F.interpolate(rel_pos.t()[None], size=num_distances, mode="linear")
        rel_pos = table[0].t()
    q_step, k_step = max(k_size / q_size, 1.0), max(q_size / k_size, 1.0)
    q_place = torch.arange(q_size, device=rel_pos.device)[:, None] * q_step
    k_place = torch.arange(k_size, device=rel_pos.device) * k_step
    return rel_pos[(q_place - k_place + (k_size - 1) * k_step).long()]


def _rel_pos_of_axes(
    q: torch.Tensor,
    rel_pos_h: torch.Tensor,
    rel_pos_w: torch.Tensor,
    q_size: Sequence[int],
    k_size: Sequence[int],
) -> torch.Tensor:
    """What the positions add to attention: ``(B, q_h * q_w, k_h, k_w)``, a sum over both axes."""
    grid = q.unflatten(1, tuple(q_size))  # (B, q_h, q_w, D)
    table_h = get_rel_pos(q_size[0], k_size[0], rel_pos_h)  # (q_h, k_h, D)
    table_w = get_rel_pos(q_size[1], k_size[1], rel_pos_w)
    along_h = torch.einsum("byxd,ykd->byxk", grid, table_h).flatten(1, 2)
    along_w = torch.einsum("byxd,xkd->byxk", grid, table_w).flatten(1, 2)
    return along_h[..., :, None] + along_w[..., None, :]


def add_decomposed_rel_pos(
    attn: torch.Tensor,
    q: torch.Tensor,
    rel_pos_h: torch.Tensor,
    rel_pos_w: torch.Tensor,
    q_size: Sequence[int],
    k_size: Sequence[int],
) -> torch.Tensor:
    """Add relative positions, one table for rows and one for columns, to attention logits.

    Args:
        attn: ``(B, q_h * q_w, k_h * k_w)`` logits.
        q: ``(B, q_h * q_w, D)`` queries.
        rel_pos_h: ``(L, D)`` embeddings of distances in rows.
        rel_pos_w: ``(L, D)`` embeddings of distances in columns.
        q_size: (height, width) of the queries.
        k_size: (height, width) of the keys.
    """
    return attn + _rel_pos_of_axes(q, rel_pos_h, rel_pos_w, q_size, k_size).flatten(2)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rel_pos: tuple[torch.Tensor, torch.Tensor] | None,
    q_size: Sequence[int],
    k_size: Sequence[int],
) -> torch.Tensor:
    """Softmax attention with relative positions of rows and columns.

    Args:
        q: ``(B, q_h * q_w, D)`` queries.
        k: ``(B, k_h * k_w, D)`` keys.
        v: ``(B, k_h * k_w, D)`` values.
        rel_pos: tables of rows and of columns, ``(L, D)`` each; None for no positions.
        q_size: (height, width) of the queries.
        k_size: (height, width) of the keys.

    Returns:
        ``(B, q_h * q_w, D)``.
    """
    bias = None
    if rel_pos is not None:
        bias = _rel_pos_of_axes(q, *rel_pos, q_size, k_size).flatten(2)[None]
    # With four dimensions torch takes the kernel that never stores the weights.
    return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=bias)[0]


def get_abs_pos(abs_pos: torch.Tensor, has_cls_token: bool, hw: Sequence[int]) -> torch.Tensor:
    """Bring embeddings of the places of a square image to another size.

    Args:
        abs_pos: ``(1, places, C)``.
        has_cls_token: whether the first place is that of a class token, which is dropped.
        hw: (height, width) in tokens.

    Returns:
        ``(1, height, width, C)``.

    Raises:
        InputError: If the places are no square.
    """
    places = abs_pos[:, 1:] if has_cls_token else abs_pos
    side = math.isqrt(places.shape[1])
    if side * side != places.shape[1]:
        raise InputError(
            f"get_abs_pos: the embeddings must be those of a square; got {places.shape[1]} places"
            f" (has_cls_token={has_cls_token})"
        )
    grid = places.unflatten(1, (side, side))
    if (side, side) == tuple(hw):
        return grid
    resized = F.interpolate(
        grid.permute(0, 3, 1, 2), size=tuple(hw), mode="bicubic", align_corners=False
    )
    return resized.permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """Turn image patches into tokens by a convolution.

    Args:
        kernel_size: (height, width) of a patch, in pixels.
        stride: (rows, columns) from one patch to the next.
        padding: (rows, columns) of zeros around the image.
        in_chans: channels of the images.
        embed_dim: channels of a token.
    """

    def __init__(
        self,
        kernel_size: tuple[int, int] = (16, 16),
        stride: tuple[int, int] = (16, 16),
        padding: tuple[int, int] = (0, 0),
        in_chans: int = 3,
        embed_dim: int = 768,
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            in_chans, embed_dim, kernel_size=kernel_size, stride=stride, padding=padding
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images ``(N, in_chans, height, width)`` to tokens ``(N, H, W, C)``."""
        return self.proj(x).permute(0, 2, 3, 1)


class Mlp(nn.Module):
    """Two linear layers with an activation between them, applied to each token.

    Args:
        in_features: channels of the input.
        hidden_features: channels between the layers; by default as the input.
        out_features: channels of the output; by default as the input.
        act_layer: makes the activation.
        drop: dropout rate behind the activation and behind the second layer.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        hidden_features = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(self.act(self.fc1(x)))
        return self.drop(self.fc2(hidden))


class DropPath(nn.Module):
    """Stochastic depth: in training, drop the whole branch of a random part of the images.

    Args:
        drop_prob: probability of dropping, in [0, 1); what stays is scaled up to make up for it.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        stays = 1 - self.drop_prob
        mask = x.new_empty((len(x),) + (1,) * (x.dim() - 1)).bernoulli_(stays)
        return x * mask / stays

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob}"


def stochastic_depth_rates(last: float, depth: int) -> list[float]:
    """Rates that grow evenly from 0 at the first block to ``last`` at the last one."""
    return [last * i / max(depth - 1, 1) for i in range(depth)]


def init_transformer_weights(module: nn.Module) -> None:
    """Fill linear layers with small random weights and zero biases; for ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
