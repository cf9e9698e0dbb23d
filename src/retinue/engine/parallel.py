"""Models in several processes: copies that agree on gradients (DDP), or one that is spread (FSDP).

``DistributedDataParallel`` keeps a whole model in each process. ``shard_model`` splits weights,
gradients and the optimizer's state among the processes, which gather a block's weights while they
compute it: Zhao et al. (2023), https://arxiv.org/abs/2304.11277, as PyTorch's ``fully_shard``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from retinue.checkpoint.sharded import is_sharded
from retinue.utils import comm

__all__ = ["create_ddp_model", "gathered", "shard_model"]

BLOCK_SIZE = 1_000_000
"""Parameters of a block of the backbone from which on its weights are gathered by themselves."""


def create_ddp_model(
    model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any
) -> nn.Module:
    """Wrap a model in ``DistributedDataParallel`` if there are several processes.

    Args:
        model: on the device it will train on. One that is spread over processes stays as it is.
        fp16_compression: exchange gradients as float16.
        kwargs: for ``DistributedDataParallel``.
    """
    if comm.get_world_size() == 1 or is_sharded(model):
        return model
    if next(model.parameters()).is_cuda:
        kwargs.setdefault("device_ids", [comm.get_local_rank()])
    ddp = nn.parallel.DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

        ddp.register_comm_hook(state=None, hook=fp16_compress_hook)
    return ddp


def shard_model(model: nn.Module) -> nn.Module:
    """Spread a model over all processes, in place; without several it stays as it is.

    They start from the weights of process 0. Large blocks of ``model.backbone`` are gathered one by
    one, the rest of the model together. Optimizers have to be made afterwards.

    Args:
        model: on the device it will train on.
    """
    if comm.get_world_size() == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data = parameter.data.contiguous()  # not channels-last: fully_shard's limit
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (comm.get_world_size(),))
    for block in _large_blocks(getattr(model, "backbone", None)):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def _large_blocks(backbone: Any) -> Iterator[nn.Module]:
    """Find the outermost entries of lists that have many parameters."""
    for module in backbone.children() if isinstance(backbone, nn.Module) else ():
        is_list = isinstance(backbone, nn.Sequential | nn.ModuleList)
        is_callable = not isinstance(module, nn.ModuleList | nn.ModuleDict)
        size = sum(parameter.numel() for parameter in module.parameters())
        if is_list and is_callable and size >= BLOCK_SIZE:
            yield module
        else:
            yield from _large_blocks(module)


@contextlib.contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Keep all weights of a spread model in each process, so that one can run it by itself.

    All processes enter and leave together. Another model is left alone.
    """
    if not is_sharded(model):
        yield
        return
    from torch.distributed.fsdp import FSDPModule

    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not parts[0], recurse=False)
            part.reshard()
