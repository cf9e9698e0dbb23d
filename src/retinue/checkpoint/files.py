"""The files and folders that weights come in, each read into plain Python without running code.

================  ==============================================================================
``torch``         what ``torch.save`` wrote: ``.pth``, ``.pt``, ``.pyth``, ``.ckpt``, ``.bin``
``safetensors``   tensors and a few strings
``sharded``       an ``*.index.json`` that says which file beside it holds which tensor
``distributed``   a folder of ``torch.distributed.checkpoint``
``pickle``        arrays in a plain pickle, ``.pkl``
================  ==============================================================================

Formats are told by the first bytes; a wrong ending doesn't matter. ``read_file`` reads tensors,
``list_file`` only says what they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from retinue.checkpoint.distributed import is_plain_name, list_folder, read_folder
from retinue.checkpoint.errors import (
    CheckpointError,
    DamagedFileError,
    MissingCheckpointError,
    pickle_errors,
)
from retinue.checkpoint.torch_file import read_torch_file
from retinue.utils import restricted_pickle
from retinue.utils.torch_archive import LEGACY_MAGIC, TensorInfo, inspect_torch_file
from retinue.utils.whole_file import MAX_HEADER, describe_damage

__all__ = ["find_format", "list_file", "read_file", "read_torch_file", "verify_file"]

INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE_NAMES = ("model.safetensors", "pytorch_model.bin", "model_final.pth")
MAX_INDEX = 256 << 20

_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}


def find_format(path: str) -> tuple[str, str]:
    """Return the format of a file or folder, and the file that it starts with.

    Raises:
        FileNotFoundError: If there is nothing.
        CheckpointError: If it is a folder without a checkpoint.
    """
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, ".metadata")):
            return "distributed", path
        for name in (*INDEX_NAMES, *SINGLE_NAMES):
            if os.path.isfile(inner := os.path.join(path, name)):
                return find_format(inner)
        raise CheckpointError(
            f"folder {path!r}: no checkpoint in it; looked for .metadata (of"
            f" torch.distributed.checkpoint), {', '.join((*INDEX_NAMES, *SINGLE_NAMES))}"
        )
    if not os.path.isfile(path):
        raise MissingCheckpointError(f"checkpoint {path!r}: there is no such file")
    with open(path, "rb") as file:
        start = file.read(32)
    if path.endswith(".index.json"):
        return "sharded", path
    if path.endswith(".safetensors") or start[8:9] == b"{":
        return "safetensors", path
    # A pickle of protocol 2 that starts with torch's magic number, which is 10 bytes long.
    is_legacy = LEGACY_MAGIC.to_bytes(10, "little") in start
    is_zip = start.startswith(b"PK")
    if is_zip or is_legacy or (not start.startswith(b"\x80") and not path.endswith(".pkl")):
        return "torch", path
    return "pickle", path


def read_file(path: str, *, trust: bool = False, mmap: bool = False) -> tuple[Any, str]:
    """Read a checkpoint file or folder, on the CPU.

    Args:
        path: on this machine.
        trust: run whatever code the file holds; the log says so.
        mmap: leave tensors in the file until they are used, where the format allows. The file must
            not be cut while they live.

    Returns:
        (content, format). Of safetensors: ``{"model": tensors, "metadata": strings}``.

    Raises:
        FileNotFoundError: If there is nothing.
        DamagedFileError: If the file is not whole, or claims more than it holds.
        CheckpointError: If it holds what could run code.
    """
    kind, path = find_format(path)
    with _other_errors(path):
        if kind == "torch":
            return read_torch_file(path, trust=trust, mmap=mmap), kind
        if kind == "pickle":
            with open(path, "rb") as file, pickle_errors(path):
                return restricted_pickle.load(file, name=path, trust=trust), kind
        if kind == "distributed":
            return read_folder(path), kind
        return (_read_safetensors(path) if kind == "safetensors" else _read_shards(path)), kind


def list_file(path: str) -> tuple[Any, str]:
    """Read a checkpoint with a ``TensorInfo`` in the place of each tensor, see ``read_file``.

    Arrays of pickles are read and dropped, since a pickle has no table of contents.
    """
    kind, path = find_format(path)
    with _other_errors(path):
        if kind == "torch":
            with open(path, "rb") as file, pickle_errors(path):
                return inspect_torch_file(file, path), kind
        if kind == "distributed":
            return list_folder(path), kind
        if kind == "safetensors":
            return _list_safetensors(path), kind
        if kind == "sharded":
            return _each_shard(path, _list_safetensors, lambda p: list_file(p)[0]), kind
        return _without_tensors(read_file(path)[0]), kind


def verify_file(path: str) -> None:
    """Read a file of ``torch.save`` through and compare it with the checksums inside.

    Other formats have none; of them only the lengths are known, which every reading checks.

    Raises:
        DamagedFileError: If a record is not what was written.
    """
    kind, path = find_format(path)
    if kind != "torch" or not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive, _other_errors(path):
        if bad := archive.testzip():
            raise DamagedFileError(f"{path}: {bad!r} is not what was written: its checksum differs")


@contextlib.contextmanager
def _other_errors(path: str) -> Iterator[None]:
    """Turn what a damaged file raises at places nobody thought of into our error."""
    try:
        yield
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # from KeyError to MemoryError
        reason = f"{type(error).__name__}: {error}"[:300]
        raise DamagedFileError(f"{path}: not a whole checkpoint file ({reason})") from error


def _without_tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return TensorInfo(tuple(value.shape), _torch_dtype(value), "")
    if isinstance(value, torch.Tensor):
        return TensorInfo(tuple(value.shape), value.dtype, "")
    if isinstance(value, dict):
        return {key: _without_tensors(item) for key, item in value.items()}
    return value


def _torch_dtype(array: np.ndarray) -> torch.dtype:
    if array.dtype.kind not in "biufc":
        return torch.uint8  # strings: their bytes
    return torch.from_numpy(np.empty(0, array.dtype)).dtype


# ---- safetensors


def _read_safetensors(path: str) -> dict[str, Any]:
    import safetensors.torch

    _refuse_damaged(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return {"model": safetensors.torch.load_file(path), "metadata": dict(metadata)}
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise DamagedFileError(f"{path}: not a whole safetensors file ({error})") from error


def _refuse_damaged(path: str) -> None:
    if damage := describe_damage(path, "x.safetensors"):
        raise DamagedFileError(f"{path}: not a whole safetensors file ({damage})")


def _list_safetensors(path: str) -> dict[str, Any]:
    _refuse_damaged(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, MAX_HEADER)))
    metadata = header.pop("__metadata__", {})
    try:
        tensors = {
            name: TensorInfo(tuple(row["shape"]), _SAFETENSORS_DTYPES[row["dtype"]], name)
            for name, row in header.items()
        }
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{path}: not a safetensors file ({error!r})") from error
    at = 0
    for start, name in sorted((header[name]["data_offsets"][0], name) for name in tensors):
        end = header[name]["data_offsets"][1]
        if start != at or end - start != tensors[name].num_bytes:
            raise DamagedFileError(f"{path}: not a safetensors file ({name!r} does not lie in it)")
        at = end
    return {"model": tensors, "metadata": metadata}


# ---- shards


def _read_shards(path: str) -> dict[str, Any]:
    return _each_shard(path, _read_safetensors, lambda shard: read_torch_file(shard))


def _each_shard(
    path: str, read_safetensors: Callable[[str], Any], read_torch: Callable[[str], Any]
) -> dict[str, Any]:
    """Read all the files that an index names, and check that they hold what it says."""
    weight_map, metadata = _read_index(path)
    folder = os.path.dirname(path)
    tensors: dict[str, Any] = {}
    for name in sorted(set(weight_map.values())):
        shard = os.path.join(folder, name)
        if not os.path.isfile(shard):
            raise FileNotFoundError(f"{path}: its shard {name!r} is not beside it")
        if name.endswith(".safetensors"):
            content = read_safetensors(shard)
            metadata = content["metadata"] | metadata
            tensors |= content["model"]
        else:
            tensors |= read_torch(shard)
    if absent := sorted(set(weight_map) - set(tensors)):
        raise DamagedFileError(
            f"{path}: names {len(absent)} tensors that the shards don't have: {absent[:5]}"
        )
    return {"model": {name: tensors[name] for name in weight_map}, "metadata": metadata}


def _read_index(path: str) -> tuple[dict[str, str], dict[str, Any]]:
    if os.path.getsize(path) > MAX_INDEX:
        raise DamagedFileError(f"{path}: an index of more than {MAX_INDEX >> 20} MiB")
    try:
        with open(path, encoding="utf-8") as file:
            index = json.load(file)
        weight_map = {str(name): str(shard) for name, shard in index["weight_map"].items()}
        metadata = dict(index.get("metadata") or {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"{path}: not an index of shards ({error!r})"[:500]) from error
    for shard in set(weight_map.values()):
        if not is_plain_name(shard):
            raise CheckpointError(
                f"{path}: names the shard {shard!r}; shards lie beside their index, and a path out"
                " of its folder is not followed"
            )
    return weight_map, metadata
