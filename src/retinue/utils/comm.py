"""Helpers for processes that work together; all of them work without a process group, too.

Objects travel by pickle between the ranks of one job only.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from retinue.utils import env
from retinue.utils.errors import InputError

__all__ = [
    "all_gather",
    "any_process",
    "create_local_process_group",
    "gather",
    "get_local_process_group",
    "get_local_rank",
    "get_local_size",
    "get_rank",
    "get_world_size",
    "is_main_process",
    "reduce_dict",
    "shared_random_seed",
    "synchronize",
]

_LOCAL_PROCESS_GROUP: Any = None


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _is_distributed() else 1


def get_rank() -> int:
    """Return the number of this process among all."""
    return dist.get_rank() if _is_distributed() else 0


def is_main_process() -> bool:
    """Say whether this is process 0."""
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Make a group of the processes on each machine; every process calls it once.

    Args:
        num_workers_per_machine: processes on each machine, usually its number of GPUs.

    Raises:
        InputError: If it was called before, or the machines do not have the same number.
    """
    global _LOCAL_PROCESS_GROUP
    world = get_world_size()
    if _LOCAL_PROCESS_GROUP is not None:
        raise InputError("create_local_process_group: there is a local group already; call it once")
    if world % num_workers_per_machine:
        raise InputError(
            f"create_local_process_group: expected a divisor of the {world} processes;"
            f" got {num_workers_per_machine}; start the same number on each machine"
        )
    mine = get_rank() // num_workers_per_machine
    for machine in range(world // num_workers_per_machine):
        first = machine * num_workers_per_machine
        group = dist.new_group(list(range(first, first + num_workers_per_machine)))
        if machine == mine:
            _LOCAL_PROCESS_GROUP = group


def get_local_process_group() -> Any:
    """Return the group of this machine's processes.

    Raises:
        InputError: If ``create_local_process_group`` was not called.
    """
    if _LOCAL_PROCESS_GROUP is None:
        raise InputError(
            "local process group: expected one; got none; start with retinue.engine.launch, or call"
            " create_local_process_group(processes per machine) in every process"
        )
    return _LOCAL_PROCESS_GROUP


def get_local_rank() -> int:
    """Return the number of this process on its machine (torchrun's, where no group was made)."""
    if not _is_distributed():
        return 0
    if _LOCAL_PROCESS_GROUP is None and (rank := env.launcher_int("LOCAL_RANK", -1)) >= 0:
        return rank
    return dist.get_rank(group=get_local_process_group())


def get_local_size() -> int:
    """Return the number of processes on this machine."""
    if not _is_distributed():
        return 1
    if _LOCAL_PROCESS_GROUP is None and (size := env.launcher_int("LOCAL_WORLD_SIZE", 0)) > 0:
        return size
    return dist.get_world_size(group=get_local_process_group())


def synchronize() -> None:
    """Wait until every process has come here."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


@functools.lru_cache(maxsize=1)
def _gloo_twin(world: Any) -> Any:
    """Return a group of the same processes that moves CPU tensors."""
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else world


def _get_global_gloo_group() -> Any:
    return _gloo_twin(dist.group.WORLD)


def all_gather(data: Any, group: Any = None) -> list[Any]:
    """Return the ``data`` of every process, in the order of their ranks.

    Args:
        data: any object that can be pickled.
        group: the processes that take part; all by default.
    """
    if get_world_size() == 1:
        return [data]
    group = _get_global_gloo_group() if group is None else group
    size = dist.get_world_size(group)
    if size == 1:
        return [data]
    received: list[Any] = [None] * size
    dist.all_gather_object(received, data, group=group)
    return received


def any_process(flag: bool) -> bool:
    """Say whether ``flag`` is true in any process; all of them have to ask."""
    if get_world_size() == 1:
        return flag
    shared = torch.tensor(float(flag))
    dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=_get_global_gloo_group())
    return bool(shared)


def gather(data: Any, dst: int = 0, group: Any = None) -> list[Any]:
    """Return the ``data`` of every process on process ``dst``, and an empty list elsewhere."""
    if get_world_size() == 1:
        return [data]
    group = _get_global_gloo_group() if group is None else group
    size = dist.get_world_size(group)
    if size == 1:
        return [data]
    received: list[Any] | None = [None] * size if dist.get_rank(group) == dst else None
    dist.gather_object(data, received, dst=dist.get_global_rank(group, dst), group=group)
    return received or []


def shared_random_seed() -> int:
    """Return a random number that is the same in all processes; all of them must call it."""
    mine = int(np.random.randint(2**31))  # noqa: NPY002 - follows seed_all_rng
    return int(all_gather(mine)[0])


@torch.no_grad()
def reduce_dict(
    input_dict: dict[str, torch.Tensor], average: bool = True
) -> dict[str, torch.Tensor]:
    """Return the mean (or sum) over all processes of each scalar tensor, valid on process 0."""
    world = get_world_size()
    if world == 1 or not input_dict:
        return input_dict
    names = sorted(input_dict)  # the same order everywhere
    values = torch.stack([input_dict[name] for name in names])
    dist.reduce(values, dst=0)
    if average and get_rank() == 0:
        values /= world
    return dict(zip(names, values, strict=True))
