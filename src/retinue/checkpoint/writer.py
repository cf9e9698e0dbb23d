"""Writing weights in any format; files appear whole or not at all.

``write_checkpoint`` writes what ``read_checkpoint`` returned, in one of these formats, by the
ending if none is named. Tensors come back bit by bit.

===============  ===========================  =================================================
``torch``        ``.pth``, ``.pt``, ``.ckpt``  ``torch.save`` of everything that was read
``state_dict``   ``.bin``                     ``torch.save`` of names and tensors alone
``safetensors``  ``.safetensors``             weights; record in the header
``sharded``      a folder                     safetensors, several with an index if it is large
``distributed``  when named                   a folder of ``torch.distributed.checkpoint``
``pickle``       ``.pkl``                     weights as arrays, as detectron2's zoo has them
===============  ===========================  =================================================
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from retinue.checkpoint.errors import CheckpointError
from retinue.checkpoint.reader import RECORD, Checkpoint
from retinue.checkpoint.sharded import write_alone
from retinue.utils.errors import InputError, unknown_name
from retinue.utils.file_io import atomic_write
from retinue.utils.whole_file import new_folder

__all__ = ["make_record", "new_folder", "write_checkpoint", "write_safetensors"]

INDEX = "model.safetensors.index.json"
SHARD_SIZE = 5 << 30
ENDINGS = {
    ".pth": "torch",
    ".pt": "torch",
    ".ckpt": "torch",
    ".bin": "state_dict",
    ".safetensors": "safetensors",
    ".pkl": "pickle",
}
FORMATS = ("torch", "state_dict", "safetensors", "sharded", "distributed", "pickle")
_OWN_FILES = re.compile(
    r"(model[\w.-]*\.safetensors|model\.safetensors\.index\.json|\.metadata|.*\.distcp)"
)


def make_record(**facts: Any) -> dict[str, Any]:
    """Return what a checkpoint says of itself: versions, and ``facts`` such as ``classes``.

    Args:
        facts: ``config`` (YAML), ``classes``, ``metrics`` and the like; None is left out.
    """
    import retinue

    versions = {"retinue": retinue.__version__, "torch": str(torch.__version__)}
    return {key: value for key, value in facts.items() if value is not None} | versions


def write_checkpoint(
    path: str | os.PathLike[str],
    checkpoint: Checkpoint,
    *,
    format: str | None = None,
    shard_size: int = SHARD_SIZE,
) -> list[str]:
    """Write a checkpoint.

    Args:
        path: whose ending names the format; without one it is a folder.
        checkpoint: what to write. ``rest`` is written in the format ``torch`` only.
        format: see above; by ``path`` if None.
        shard_size: bytes of a file in a folder, at most, unless one tensor is larger.

    Returns:
        What could not be written in this format; empty if nothing.

    Raises:
        InputError: If there is no such format, or a folder there holds other files.
        CheckpointError: If the format does not have a tensor's type.
    """
    path = os.fspath(path)
    format = _format_of(path) if format is None else format
    if format == "torch":
        _write_torch(path, checkpoint)
        return []
    if format == "state_dict":
        with atomic_write(path) as file:
            torch.save(checkpoint.weights, file)
        return [*checkpoint.rest, *(["record"] if checkpoint.record else [])]
    if format == "pickle":
        _write_pickle(path, checkpoint)
    elif format == "safetensors":
        write_safetensors(path, checkpoint.weights, _with_author(checkpoint))
    elif format in ("sharded", "distributed"):
        _refuse_other_files(path)
        with new_folder(path) as folder:
            if format == "sharded":
                _write_shards(folder, checkpoint, shard_size)
            else:
                _write_distributed(folder, checkpoint)
    else:
        raise unknown_name("format of checkpoints", format, FORMATS)
    return [key for key in checkpoint.rest if key not in checkpoint.record]


def _format_of(path: str) -> str:
    ending = os.path.splitext(path)[1]
    if ending in ENDINGS:
        return ENDINGS[ending]
    if ending and ending[1:].isalpha():
        raise InputError(
            f"{path}: cannot write {ending!r}; known are {', '.join(ENDINGS)}, folders"
        )
    return "sharded"


def _refuse_other_files(path: str) -> None:
    """A folder is replaced as a whole: it must hold nothing but a checkpoint."""
    others = os.listdir(path) if os.path.isdir(path) else []
    others = sorted(name for name in others if not _OWN_FILES.fullmatch(name))
    if others:
        raise InputError(
            f"folder {path!r} holds other files than a checkpoint's, {others[0]!r} for one, and"
            " would be replaced; name a new folder"
        )


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
    if checkpoint.record:
        content["run"] = checkpoint.record
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


def _write_distributed(folder: str, checkpoint: Checkpoint) -> None:
    content: dict[str, Any] = {"model": checkpoint.weights}
    if checkpoint.record:
        content["run"] = checkpoint.record
    if checkpoint.author:
        content["__author__"] = checkpoint.author
    if checkpoint.matching_heuristics:
        content["matching_heuristics"] = True
    write_alone(folder, content)


def _write_shards(folder: str, checkpoint: Checkpoint, shard_size: int) -> None:
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, tensor in checkpoint.weights.items():
        if shards[-1] and size + tensor.nbytes > shard_size:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    record = _with_author(checkpoint)
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
