"""Checkpoints of models that are spread over processes (FSDP): every process writes its part.

A checkpoint is a folder of ``torch.distributed.checkpoint``, which any number of processes can read
again, and ``read_checkpoint`` as one. Before PyTorch reads one, ``check_folder`` has made sure that
it holds plain data.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from retinue.checkpoint.distributed import METADATA, check_folder, read_values
from retinue.utils import comm
from retinue.utils.whole_file import put_folder

__all__ = [
    "clear_leftover",
    "cut_as",
    "is_leftover",
    "is_sharded",
    "is_shards",
    "load_sharded",
    "own_part",
    "save_sharded",
    "whole",
    "write_alone",
]


def is_sharded(model: nn.Module) -> bool:
    """Say whether parameters of a model are spread over processes."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def is_shards(path: str) -> bool:
    """Say whether ``path`` is a folder of ``torch.distributed.checkpoint``, all of it written."""
    is_whole = not path.endswith((".tmp", ".old"))
    return is_whole and os.path.isfile(os.path.join(path, METADATA))


def is_leftover(path: str) -> bool:
    """Say whether ``path`` is what a killed process left of such a folder."""
    if not (path.endswith((".tmp", ".old")) and os.path.isdir(path)):
        return False
    return all(name.endswith((".distcp", METADATA)) for name in os.listdir(path))


def clear_leftover(path: str) -> None:
    """Delete such a folder; one that was to be replaced, and wasn't, gets its name back."""
    replaced = re.fullmatch(r"(.+)\.[0-9a-f]{12}\.old", path)
    is_whole = os.path.isfile(os.path.join(path, METADATA))
    if replaced and is_whole and not os.path.exists(replaced[1]):
        os.rename(path, replaced[1])
    else:
        shutil.rmtree(path, ignore_errors=True)


def _is_part(tensor: Any) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor, whose module takes long to import


def whole(tensor: Any) -> torch.Tensor:
    """Return a tensor with the parts of all processes, which must all ask for it."""
    full: torch.Tensor = tensor.full_tensor() if _is_part(tensor) else tensor
    return full


def own_part(tensor: Any) -> torch.Tensor:
    """Return what this process has of a tensor: all of it, unless it is spread."""
    own: torch.Tensor = tensor.to_local() if _is_part(tensor) else tensor
    return own


def cut_as(own: Mapping[str, Any], state: dict[str, Any]) -> None:
    """Cut the tensors of ``state`` as those of ``own`` are spread over processes, in place.

    Args:
        own: a model's state dict, which says how.
        state: whole tensors, the same in each process; those that ``own`` lacks stay whole.
    """
    for name, tensor in state.items():
        if _is_part(own.get(name)) and not _is_part(tensor):
            state[name] = _part(tensor, own[name])


def _part(tensor: torch.Tensor, like: Any) -> torch.Tensor:
    from torch.distributed.tensor import distribute_tensor

    mesh = like.device_mesh
    here = tensor.to(mesh.device_type)
    # each process has all of it, and PyTorch 2.7 and later need not send anything
    can_stay = "src_data_rank" in inspect.signature(distribute_tensor).parameters
    options: dict[str, Any] = {"src_data_rank": None} if can_stay else {}
    part: torch.Tensor = distribute_tensor(here, mesh, like.placements, **options)
    return part


@contextlib.contextmanager
def _no_idle_warnings() -> Iterator[None]:
    """Silence PyTorch's guess that one process is meant to be alone, and 2.6's own old storages."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is (disabled|unavailable)")
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")
        yield


def save_sharded(
    folder: str, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **rest: Any
) -> None:
    """Write a model, and maybe its optimizer, from all processes; they must all call it.

    The folder appears when all parts are written.

    Args:
        folder: that all processes see.
        model: spread over processes or not.
        optimizer: of the model.
        rest: further plain data; the main process's is written.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict

    folder = os.path.abspath(folder)
    temporary = f"{folder}.tmp"
    model_state, optimizer_state = get_state_dict(model, optimizer or [])
    content: dict[str, Any] = {"model": model_state, **rest}
    if optimizer is not None:
        content["optimizer"] = optimizer_state
    if comm.is_main_process():
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    comm.synchronize()
    with _no_idle_warnings():
        dcp.save(content, checkpoint_id=temporary)
    comm.synchronize()
    if comm.is_main_process():
        put_folder(temporary, folder)
    comm.synchronize()


def write_alone(folder: str, content: dict[str, Any]) -> None:
    """Write a state dict into a folder of ``torch.distributed.checkpoint`` from this process."""
    import torch.distributed.checkpoint as dcp

    with _no_idle_warnings():
        if "no_dist" in inspect.signature(dcp.save).parameters:
            dcp.save(content, checkpoint_id=folder, no_dist=True)
        else:  # PyTorch 2.6, where only the older function can be told
            warnings.filterwarnings("ignore", "`save_state_dict` is deprecated")
            dcp.save_state_dict(content, dcp.FileSystemWriter(folder), no_dist=True)


def load_sharded(
    folder: str, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Read what ``save_sharded`` wrote into a model and its optimizer, each process its part.

    Args:
        folder: that all processes see.
        model: spread over any number of processes.
        optimizer: of the model; its state is left out if None.

    Returns:
        The further data that was saved.

    Raises:
        DamagedFileError: If files are missing or cut.
        CheckpointError: If they hold what could run code.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    check_folder(folder)
    model_state, optimizer_state = get_state_dict(model, optimizer or [])
    content: dict[str, Any] = {"model": model_state}
    if optimizer is not None:
        content["optimizer"] = optimizer_state
    with _no_idle_warnings():
        dcp.load(content, checkpoint_id=folder)
    set_state_dict(
        model,
        optimizer or [],
        model_state_dict=content["model"],
        optim_state_dict=content.get("optimizer", {}),
    )
    return read_values(folder, without=("model", "optimizer"))
