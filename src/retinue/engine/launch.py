"""Starting the processes of a job.

``launch(main, 8)`` runs ``main`` in eight processes, one a GPU, that find each other. Started by
``torchrun``, the processes are there already, and ``launch`` only joins them.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from retinue.utils import comm, env
from retinue.utils.errors import InputError

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)

logger = logging.getLogger(__name__)


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """Run a function in every process of a job.

    Args:
        main_func: called with ``args`` in each process; importable by name if there are several.
        num_gpus_per_machine: processes on each machine. Without GPUs they share the CPU.
        num_machines: machines that take part, each of which calls ``launch``.
        machine_rank: number of this machine, from 0.
        dist_url: where the processes meet, e.g. ``tcp://10.0.0.1:29500``; ``"auto"`` or None picks
            a free port of this machine.
        args: of ``main_func``.
        timeout: how long processes wait for each other before they fail.

    Returns:
        What ``main_func`` returns, if this process runs it itself.

    Raises:
        InputError: If several machines have no common ``dist_url``, or this machine has GPUs, but
            fewer.
    """
    if _is_started_by_torchrun():
        return _join_torchrun(main_func, args, timeout)
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        return main_func(*args)

    _check_gpus(num_gpus_per_machine)
    if dist_url in (None, "auto"):
        if num_machines > 1:
            raise InputError(
                f"launch: {num_machines} machines need a dist_url that all of them reach, such as"
                f" tcp://10.0.0.1:29500; got {dist_url!r}"
            )
        dist_url = f"tcp://127.0.0.1:{_find_free_port()}"
    if num_machines > 1 and str(dist_url).startswith("file://"):
        logger.warning("file:// is not reliable between machines; better use tcp://")
    spawn: Any = mp.spawn  # type: ignore[attr-defined, unused-ignore]
    spawn(
        _distributed_worker,
        nprocs=num_gpus_per_machine,
        args=(main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args, timeout),
        daemon=False,
    )
    return None


def _check_gpus(num_asked: int) -> None:
    """Refuse more processes than GPUs; where there is no GPU at all, say what happens."""
    if torch.cuda.is_available():
        num_gpus = torch.cuda.device_count()
        if num_gpus < num_asked:
            raise InputError(
                f"launch: {num_asked} GPUs a machine were asked for, but this machine has"
                f" {num_gpus}: --num-gpus {num_gpus} (or num_gpus={num_gpus}) uses all of them"
            )
    elif num_asked > 1:
        logger.warning(
            "%d GPUs were asked for, but PyTorch finds none here: %d processes start and share the"
            " CPU; --num-gpus 1 (or num_gpus=1) starts one",
            num_asked,
            num_asked,
        )


def _is_started_by_torchrun() -> bool:
    return env.launcher_int("LOCAL_RANK", -1) >= 0 and env.launcher_int("WORLD_SIZE", 1) > 1


def _join_torchrun(main_func: Callable[..., Any], args: tuple[Any, ...], timeout: timedelta) -> Any:
    """Join the processes that torchrun started, whose environment says where they meet."""
    if dist.is_initialized():
        return main_func(*args)
    dist.init_process_group(_backend(), timeout=timeout)
    try:
        comm.create_local_process_group(env.launcher_int("LOCAL_WORLD_SIZE", 1))
        return _run(main_func, args, env.launcher_int("LOCAL_RANK", 0))
    finally:
        dist.destroy_process_group()


def _distributed_worker(
    local_rank: int,
    main_func: Callable[..., Any],
    world_size: int,
    num_gpus_per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple[Any, ...],
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Run ``main_func`` as one of the processes that ``launch`` starts."""
    rank = machine_rank * num_gpus_per_machine + local_rank
    try:
        dist.init_process_group(
            _backend(), init_method=dist_url, world_size=world_size, rank=rank, timeout=timeout
        )
    except Exception as error:
        logger.error("Process %d of %d can't join at %s: %s", rank, world_size, dist_url, error)
        raise
    try:
        comm.create_local_process_group(num_gpus_per_machine)
        _run(main_func, args, local_rank)
    finally:
        dist.destroy_process_group()


def _run(main_func: Callable[..., Any], args: tuple[Any, ...], local_rank: int) -> Any:
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    comm.synchronize()  # a process that can't start shows here, not in the middle of training
    return main_func(*args)


def _backend() -> str:
    return "nccl" if torch.cuda.is_available() else "gloo"


def _find_free_port() -> int:
    """Return a port of this machine that is free now; another program may take it first."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])
