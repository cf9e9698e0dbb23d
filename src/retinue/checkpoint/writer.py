"""Writing weights in any format; files appear whole or not at all.

``write_checkpoint`` writes what ``read_checkpoint`` returned, in the format that the path's ending
names: ``.pth`` with everything; ``.safetensors``, or a folder of shards, with weights and record;
``.pkl`` with arrays, as detectron2's zoo has them. Tensors come back bit by bit.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from retinue.checkpoint.errors import CheckpointError
from retinue.checkpoint.reader import RECORD, Checkpoint
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager, atomic_write

__all__ = ["make_record", "new_folder", "write_checkpoint", "write_safetensors"]

INDEX = "model.safetensors.index.json"
SHARD_SIZE = 5 << 30
ENDINGS = (".pth", ".pt", ".safetensors", ".pkl")


def make_record(**facts: Any) -> dict[str, Any]:
    """Return what a checkpoint says of itself: versions, and ``facts`` such as ``classes``.

    Args:
        facts: ``config`` (YAML), ``classes``, ``metrics`` and the like; None is left out.
    """
    import retinue

    versions = {"retinue": retinue.__version__, "torch": str(torch.__version__)}
    return {key: value for key, value in facts.items() if value is not None} | versions


def write_checkpoint(
    path: str | os.PathLike[str], checkpoint: Checkpoint, *, shard_size: int = SHARD_SIZE
) -> list[str]:
    """Write a checkpoint in the format that ``path`` names.

    Args:
        path: ends in ``.pth``, ``.safetensors`` or ``.pkl``; anything else is a folder, for
            safetensors with an index if there are several.
        checkpoint: what to write. ``rest`` is written to ``.pth`` only.
        shard_size: bytes of a file in a folder, at most, unless one tensor is larger.

    Returns:
        What could not be written in this format; empty if nothing.

    Raises:
        CheckpointError: If the format does not have a tensor's type.
    """
    path = os.fspath(path)
    ending = os.path.splitext(path)[1]
    if ending in (".pth", ".pt"):
        _write_torch(path, checkpoint)
        return []
    if ending == ".pkl":
        _write_pickle(path, checkpoint)
    elif ending == ".safetensors":
        write_safetensors(path, checkpoint.weights, _with_author(checkpoint))
    elif ending and ending[1:].isalpha():
        raise InputError(
            f"{path}: cannot write {ending!r}; known are {', '.join(ENDINGS)}, folders"
        )
    else:
        _write_folder(path, checkpoint, shard_size)
    lost = list(checkpoint.rest)
    return [*lost, "record"] if ending == ".pkl" and checkpoint.record else lost


def _with_author(checkpoint: Checkpoint) -> dict[str, Any]:
    marks: dict[str, Any] = {"author": checkpoint.author} if checkpoint.author else {}
    if checkpoint.matching_heuristics:
        marks["matching_heuristics"] = True
    return checkpoint.record | marks


def _write_torch(path: str, checkpoint: Checkpoint) -> None:
    content: dict[str, Any] = {"model": checkpoint.weights, **checkpoint.rest}
    if checkpoint.record and "run" not in content:
        content["run"] = checkpoint.record
    if checkpoint.author:
        content["__author__"] = checkpoint.author
    if checkpoint.matching_heuristics:
        content["matching_heuristics"] = True
    with atomic_write(path) as file:
        torch.save(content, file)


def _write_pickle(path: str, checkpoint: Checkpoint) -> None:
    content: dict[str, Any] = {
        "model": {name: _array(name, value) for name, value in checkpoint.weights.items()},
        "__author__": checkpoint.author or "retinue",
    }
    if checkpoint.matching_heuristics:
        content["matching_heuristics"] = True
    with atomic_write(path) as file:
        pickle.dump(content, file, protocol=4)


def _array(name: str, tensor: torch.Tensor) -> np.ndarray:
    try:
        return tensor.detach().cpu().numpy()
    except TypeError as error:
        raise CheckpointError(
            f"{name!r} is of type {tensor.dtype}, which arrays of a .pkl don't have; write .pth or"
            " .safetensors"
        ) from error


def write_safetensors(
    path: str, weights: Mapping[str, torch.Tensor], record: Mapping[str, Any]
) -> None:
    """Write tensors, and the record as JSON in the file's header.

    Tensors that share memory are written apart.
    """
    import safetensors.torch

    metadata = {"format": "pt", RECORD: json.dumps(dict(record), default=str)}
    content = _separate(weights)
    with atomic_write(path) as file:
        safetensors.torch.save_file(content, file.name, metadata=metadata)


def _separate(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy those tensors that share memory, or leave gaps in it."""
    seen: set[int] = set()
    result = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu()
        memory = tensor.untyped_storage()
        is_alone = memory.data_ptr() not in seen and memory.nbytes() == tensor.nbytes
        seen.add(memory.data_ptr())
        result[name] = (
            tensor if is_alone and tensor.is_contiguous() else tensor.clone().contiguous()
        )
    return result


def _write_folder(path: str, checkpoint: Checkpoint, shard_size: int) -> None:
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, tensor in checkpoint.weights.items():
        if shards[-1] and size + tensor.nbytes > shard_size:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    record = _with_author(checkpoint)
    with new_folder(path) as folder:
        if len(shards) == 1:
            write_safetensors(os.path.join(folder, "model.safetensors"), shards[0], record)
            return
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(shards, start=1):
            file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            write_safetensors(os.path.join(folder, file_name), shard, record)
            weight_map |= dict.fromkeys(shard, file_name)
        total = sum(tensor.nbytes for tensor in checkpoint.weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        with atomic_write(os.path.join(folder, INDEX), "w") as file:
            json.dump(index, file, indent=1)


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Give a folder to write into that takes the place of ``path`` when the block has ended.

    A folder that is there already is replaced.
    """
    path = os.path.abspath(path)
    temporary = f"{path}.{uuid.uuid4().hex[:12]}.tmp"
    PathManager.mkdirs(temporary)
    try:
        yield temporary
        put_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_folder(temporary: str, path: str) -> None:
    """Give a folder its final name; one of that name goes when the new one is in its place."""
    old = f"{path}.{uuid.uuid4().hex[:12]}.old"
    had_one = os.path.isdir(path)
    if had_one:
        os.rename(path, old)
    os.rename(temporary, path)
    if had_one:
        shutil.rmtree(old, ignore_errors=True)
