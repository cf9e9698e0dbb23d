"""From the aligned to the natural representation of a tensor of masks, with units swapped.

Shapes
    N images; V, U rows and columns of a mask; H, W rows and columns of places; L lambda.

In the natural form the cell (v, u) at the place (y, x) says what the window there sees at (v, u).
In the aligned form it says what the window that has the place at its (v, u) sees there, so that all
that concerns a place is predicted at the place. Section 4 of the paper.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["SwapAlign2Nat", "swap_align2nat"]


def swap_align2nat(X: torch.Tensor, lambda_val: int, pad_val: float) -> torch.Tensor:
    """Turn aligned masks into natural ones, L times finer at L times fewer places.

    Args:
        X: ``(N, V U, H, W)``, V equal to U, masks row by row.
        lambda_val: L, at least 1.
        pad_val: value of everything outside.

    Returns:
        ``(N, L V L U, ceil(H / L), ceil(W / L))``.
    """
    num, channels, height, width = X.shape
    side = math.isqrt(channels)
    x = X.reshape(num, side, side, height, width)  # (N, V, U, H, W)
    x = F.pad(x, (1, 1) * 4, value=pad_val)  # whatever lies outside is one cell away
    x = _resample(x, 1, 3, side, height, lambda_val)  # rows: V and H
    x = _resample(x, 2, 4, side, width, lambda_val)  # columns: U and W
    return x.flatten(start_dim=1, end_dim=2)


def _resample(
    x: torch.Tensor, mask_dim: int, place_dim: int, mask_size: int, place_size: int, factor: int
) -> torch.Tensor:
    """Interpolate one axis of masks and the same of places together; both are padded by 1."""
    device, dtype = x.device, x.dtype
    out_mask, out_place = mask_size * factor, -(-place_size // factor)
    v = torch.arange(out_mask, dtype=dtype, device=device)[:, None]
    y = torch.arange(out_place, dtype=dtype, device=device)[None]
    on_mask = ((v + 0.5) / factor - 0.5).expand(-1, out_place)  # (V', H')
    on_place = y * factor + v - out_mask / 2 + 0.5  # (V', H')

    flat = x.movedim((mask_dim, place_dim), (-2, -1)).flatten(start_dim=-2)
    out = torch.zeros((), dtype=dtype, device=device)
    for mask_cell, mask_weight in _neighbours(on_mask, mask_size):
        for place_cell, place_weight in _neighbours(on_place, place_size):
            index = (mask_cell * (place_size + 2) + place_cell).flatten()
            out = out + flat[..., index] * (mask_weight * place_weight).flatten()
    out = out.reshape(*flat.shape[:-1], out_mask, out_place)
    return out.movedim((-2, -1), (mask_dim, place_dim))


def _neighbours(position: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the cells on both sides of a position, in an axis padded by 1, and their weights."""
    low = position.floor()
    fraction = position - low
    return [
        ((cell.clamp(-1, size) + 1).long(), weight)
        for cell, weight in ((low, 1 - fraction), (low + 1, fraction))
    ]


class SwapAlign2Nat(nn.Module):
    """:func:`swap_align2nat` as a module.

    Args:
        lambda_val: L, at least 1.
        pad_val: value of everything outside; the default is a logit that means "no object".
    """

    def __init__(self, lambda_val: int, pad_val: float = -6.0) -> None:
        super().__init__()
        self.lambda_val = lambda_val
        self.pad_val = pad_val

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Map ``(N, V U, H, W)`` to ``(N, L V L U, ceil(H / L), ceil(W / L))``."""
        return swap_align2nat(X, self.lambda_val, self.pad_val)

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"lambda_val={self.lambda_val}, pad_val={self.pad_val}"
