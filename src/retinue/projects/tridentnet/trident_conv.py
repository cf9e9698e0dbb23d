"""One convolution at several dilations."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from retinue.utils.errors import InputError

__all__ = ["TridentConv"]


def _pair(x: int | Sequence[int]) -> tuple[int, int]:
    height, width = (x, x) if isinstance(x, int) else x
    return height, width


class TridentConv(nn.Module):
    """A convolution whose weights are shared by branches, each with a dilation of its own.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the convolution.
        stride: of the convolution.
        paddings: of each branch, or one for all.
        dilations: of each branch, or one for all.
        groups: of the convolution.
        num_branch: number of branches.
        test_branch_idx: the only branch used in inference; -1 for all.
        bias: whether there is one.
        norm: applied to each branch.
        activation: applied to each branch, last.

    Raises:
        InputError: If paddings or dilations are not as many as branches.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        paddings: int | Sequence[int] = 0,
        dilations: int | Sequence[int] = 1,
        groups: int = 1,
        num_branch: int = 1,
        test_branch_idx: int = -1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        paddings = [paddings] * num_branch if isinstance(paddings, int) else paddings
        dilations = [dilations] * num_branch if isinstance(dilations, int) else dilations
        if not len(paddings) == len(dilations) == num_branch:
            raise InputError(
                f"TridentConv: {num_branch} branches need as many paddings and dilations; got"
                f" {list(paddings)} and {list(dilations)}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.paddings = [_pair(p) for p in paddings]
        self.dilations = [_pair(d) for d in dilations]
        self.groups = groups
        self.num_branch = num_branch
        self.test_branch_idx = test_branch_idx
        self.with_bias = bias
        self.norm = norm
        self.activation = activation
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Map ``(N, C, H, W)`` of each branch in use to ``(N, D, H', W')``."""
        branches: Sequence[int] = range(self.num_branch)
        if not self.training and self.test_branch_idx != -1:
            branches = [self.test_branch_idx]
        if len(inputs) != len(branches):
            raise InputError(
                f"TridentConv: expected an input for each of {len(branches)} branches; got"
                f" {len(inputs)}"
            )
        outputs = [
            F.conv2d(
                x,
                self.weight,
                self.bias,
                self.stride,
                self.paddings[i],
                self.dilations[i],
                self.groups,
            )
            for x, i in zip(inputs, branches, strict=True)
        ]
        for layer in (self.norm, self.activation):
            outputs = outputs if layer is None else [layer(x) for x in outputs]
        return outputs

    def extra_repr(self) -> str:
        """Describe the layer."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size},"
            f" stride={self.stride}, num_branch={self.num_branch},"
            f" test_branch_idx={self.test_branch_idx}, paddings={self.paddings},"
            f" dilations={self.dilations}, groups={self.groups}, bias={self.with_bias}"
        )
