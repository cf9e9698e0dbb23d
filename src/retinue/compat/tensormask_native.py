"""``tensormask._C``, the extension of detectron2's TensorMask, by retinue's own function."""

from __future__ import annotations

import torch

from retinue.projects.tensormask.layers.swap_align2nat import swap_align2nat

__all__ = ["swap_align2nat_backward", "swap_align2nat_forward"]


def swap_align2nat_forward(X: torch.Tensor, lambda_val: int, pad_val: float) -> torch.Tensor:
    """Turn aligned masks into natural ones; see ``swap_align2nat``."""
    with torch.no_grad():
        return swap_align2nat(X, lambda_val, pad_val)


def swap_align2nat_backward(
    gY: torch.Tensor, lambda_val: int, batch_size: int, channel: int, height: int, width: int
) -> torch.Tensor:
    """Return the gradient of the input, which is ``(batch_size, channel, height, width)``."""
    with torch.enable_grad():
        inputs = gY.new_zeros(batch_size, channel, height, width, requires_grad=True)
        return torch.autograd.grad(swap_align2nat(inputs, lambda_val, 0.0), inputs, gY)[0]
