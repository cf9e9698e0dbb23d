"""Collectives that gradients flow through."""

from typing import Any

import torch
import torch.distributed as dist

__all__ = ["differentiable_all_gather", "differentiable_all_reduce"]


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        # Every rank's input is in every rank's sum.
        return _AllReduce.apply(grad)  # type: ignore[no-untyped-call]


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return _AllReduce.apply(grad)[dist.get_rank()]  # type: ignore[no-untyped-call]


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def differentiable_all_reduce(input: torch.Tensor) -> torch.Tensor:
    """Sum a tensor of the same shape over all ranks; the input itself in a single process."""
    return input if _world_size() == 1 else _AllReduce.apply(input)  # type: ignore[no-untyped-call]


def differentiable_all_gather(input: torch.Tensor) -> list[torch.Tensor]:
    """Collect a tensor of the same shape from all ranks, in order of rank."""
    return [input] if _world_size() == 1 else list(_AllGather.apply(input).unbind(0))  # type: ignore[no-untyped-call]
