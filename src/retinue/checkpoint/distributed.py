"""Folders of ``torch.distributed.checkpoint``: read without running code, written by every rank.

Such a folder has ``.metadata``, a pickle that says which tensors there are, how they are cut into
chunks and where the chunks lie, and files of chunks (``__0_0.distcp``), each chunk written by
``torch.save``. PyTorch's own reader unpickles ``.metadata`` freely; here stand-ins take the place
of its classes, and chunks are read as any file of ``torch.save`` is.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from retinue.checkpoint.errors import CheckpointError, DamagedFileError, pickle_errors
from retinue.checkpoint.torch_file import read_torch_file
from retinue.utils.pickle_scan import check_pickle
from retinue.utils.plain_objects import StandIn
from retinue.utils.restricted_pickle import RestrictedUnpickler, finish, translate_errors
from retinue.utils.torch_archive import TensorInfo

__all__ = ["check_folder", "is_plain_name", "list_folder", "read_folder", "read_values"]

METADATA = ".metadata"
MAX_METADATA = 1 << 30
_MODULE = "torch.distributed.checkpoint."
_CLASSES = {
    "metadata.Metadata",
    "metadata.TensorStorageMetadata",
    "metadata.BytesStorageMetadata",
    "metadata.ChunkStorageMetadata",
    "metadata.TensorProperties",
    "metadata.MetadataIndex",
    "metadata.StorageMeta",
    "metadata._MEM_FORMAT_ENCODING",
    "filesystem._StorageInfo",
    "filesystem._StoragePrefix",
}


class _Record(StandIn):
    """An object of PyTorch's as a dict of its fields; ``kind`` names its class."""

    kind = ""

    def finish(self, parts: list[Any]) -> Any:
        state = parts[0] if isinstance(parts[0], dict) else {"values": parts[0] or parts[1]}
        return {"kind": self.kind, **state}


class _Names(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        short = name.removeprefix(_MODULE)
        if short in _CLASSES and short != name:
            return type("Record", (_Record,), {"kind": short.rpartition(".")[2]})
        if name == "torch.serialization._get_layout":
            return str
        if name == "collections.Counter":
            return dict
        dtype = getattr(torch, name.removeprefix("torch."), None)
        if isinstance(dtype, torch.dtype):
            return dtype
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


def list_folder(folder: str) -> Any:
    """Read what a folder holds, with a ``TensorInfo`` in the place of each tensor."""
    metadata = _read_metadata(folder)
    places = _places(folder, metadata)
    values: dict[str, Any] = {}
    for name, entry in metadata["state_dict_metadata"].items():
        info = _info(entry, name)
        values[name] = info or _read_chunk(folder, name, places.get((name, ())))
    return _nested(values, metadata.get("planner_data"))


def read_folder(folder: str) -> Any:
    """Read a folder into one state dict, its chunks put together, on the CPU.

    Raises:
        DamagedFileError: If files are missing or cut, or chunks don't make up the tensors.
        CheckpointError: If it names anything that could run code, or files outside the folder.
    """
    return _read(folder, without=())


def read_values(folder: str, without: tuple[str, ...]) -> dict[str, Any]:
    """Read a folder but for the entries of these names, see ``read_folder``."""
    return dict(_read(folder, without))


def check_folder(folder: str) -> None:
    """Make sure that a folder holds plain data and that its files are whole.

    Tensors are not read, everything else is.

    Raises:
        DamagedFileError: If files are missing or cut.
        CheckpointError: If it names anything that could run code, or files outside the folder.
    """
    metadata = _read_metadata(folder)
    places = _places(folder, metadata)
    for (name, _), place in places.items():
        _open_chunk(folder, name, place, only_look=True)
    for name, entry in metadata["state_dict_metadata"].items():
        if _info(entry, name) is None:
            _read_chunk(folder, name, places.get((name, ())))


def _read(folder: str, without: tuple[str, ...]) -> Any:
    metadata = _read_metadata(folder)
    places = _places(folder, metadata)
    available = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
    values: dict[str, Any] = {}
    paths = metadata.get("planner_data")
    for name, entry in metadata["state_dict_metadata"].items():
        if _first_key(paths, name) in without:
            continue
        info = _info(entry, name)
        if isinstance(info, TensorInfo):
            available -= info.num_bytes
            if available < 0:
                raise DamagedFileError(f"{folder}: {name!r} claims more bytes than the files have")
            values[name] = _read_tensor(folder, name, info, entry, places)
        else:
            values[name] = _read_chunk(folder, name, places.get((name, ())))
    return _nested(values, paths)


def _first_key(paths: Any, name: str) -> Any:
    path = paths.get(name) if isinstance(paths, dict) else None
    return path[0] if isinstance(path, tuple) and path else name


def _read_metadata(folder: str) -> dict[str, Any]:
    path = os.path.join(folder, METADATA)
    if os.path.getsize(path) > MAX_METADATA:
        raise DamagedFileError(f"{path}: more than {MAX_METADATA >> 30} GiB of metadata")
    with open(path, "rb") as file, pickle_errors(path), translate_errors(path):
        check_pickle(file.read())
        file.seek(0)
        loaded = RestrictedUnpickler(file, names=_Names()).load()
        metadata = finish(loaded)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("state_dict_metadata"), dict):
        raise DamagedFileError(f"{path}: not the metadata of torch.distributed.checkpoint")
    return metadata


def _info(entry: Any, name: str) -> TensorInfo | None:
    """Return shape and type of a tensor; None for other things."""
    try:
        if entry["kind"] == "BytesStorageMetadata":
            return None
        dtype = entry["properties"]["values"][0]
        shape = tuple(entry["size"])
        if not isinstance(dtype, torch.dtype) or not _are_sizes(shape):
            raise ValueError(shape)
        return TensorInfo(shape, dtype, name)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DamagedFileError(f"{METADATA}: {name!r} has no shape or type ({error!r})") from error


def _are_sizes(shape: tuple[Any, ...]) -> bool:
    return len(shape) <= 64 and all(type(n) is int and 0 <= n < 2**60 for n in shape)


Places = dict[tuple[str, tuple[int, ...]], dict[str, Any]]


def _places(folder: str, metadata: Mapping[str, Any]) -> Places:
    """Map (name, offset of the chunk in its tensor) to where it lies."""
    places: Places = {}
    for index, place in (metadata.get("storage_data") or {}).items():
        state = getattr(index, "state", None)
        if not isinstance(state, dict) or not isinstance(place, dict):
            raise DamagedFileError(f"{folder}: its {METADATA} does not say where chunks lie")
        places[str(state.get("fqn")), tuple(state.get("offset") or ())] = place
    return places


def _read_tensor(
    folder: str, name: str, info: TensorInfo, entry: Any, places: Places
) -> torch.Tensor:
    whole = torch.empty(info.shape, dtype=info.dtype)
    covered = 0
    for chunk in entry["chunks"]:
        offsets, sizes = tuple(chunk["offsets"]), tuple(chunk["sizes"])
        inside = len(offsets) == len(sizes) == whole.dim() and _are_sizes(offsets + sizes)
        if not inside or any(o + n > m for o, n, m in zip(offsets, sizes, info.shape, strict=True)):
            raise DamagedFileError(f"{folder}: a chunk of {name!r} lies outside of it")
        place = places.get((name, offsets)) or (
            places.get((name, ())) if not any(offsets) else None
        )
        part = _read_chunk(folder, name, place)
        if not isinstance(part, torch.Tensor) or tuple(part.shape) != sizes:
            raise DamagedFileError(f"{folder}: a chunk of {name!r} is not of shape {sizes}")
        region = tuple(slice(o, o + n) for o, n in zip(offsets, sizes, strict=True))
        whole[region] = part
        covered += part.numel()
    if covered != whole.numel():
        raise DamagedFileError(f"{folder}: {name!r} is not whole: its chunks don't make it up")
    return whole


def _read_chunk(folder: str, name: str, place: Mapping[str, Any] | None) -> Any:
    path, content = _open_chunk(folder, name, place)
    return read_torch_file(path, _Opened(content))


def _open_chunk(
    folder: str, name: str, place: Mapping[str, Any] | None, *, only_look: bool = False
) -> tuple[str, io.BytesIO]:
    if place is None:
        raise DamagedFileError(f"{folder}: nothing says where {name!r} lies")
    file_name = str(place.get("relative_path"))
    if not is_plain_name(file_name):
        raise CheckpointError(f"{folder}: {name!r} is said to lie in {file_name!r}, outside of it")
    if place.get("transform_descriptors"):
        raise CheckpointError(f"{folder}: {name!r} is compressed or encrypted; write it plainly")
    path = os.path.join(folder, file_name)
    if not os.path.isfile(path):
        raise DamagedFileError(f"{folder}: {file_name!r}, which holds {name!r}, is missing")
    offset, length = place.get("offset"), place.get("length")
    if type(offset) is not int or type(length) is not int or offset < 0 or length < 0:
        raise DamagedFileError(f"{folder}: {name!r} lies at {offset!r}, {length!r} bytes long")
    if offset + length > os.path.getsize(path):
        raise DamagedFileError(f"{folder}: {file_name!r} ends before {name!r} does")
    with open(path, "rb") as file:
        file.seek(offset)
        return path, io.BytesIO(b"" if only_look else file.read(length))


def is_plain_name(name: str) -> bool:
    """Say whether ``name`` is a file's name, without any folder."""
    return bool(name) and name not in (".", "..") and not re.search(r"[/\\:\x00]", name)


class _Opened:
    """A path manager for one file that is open already."""

    def __init__(self, file: io.BytesIO) -> None:
        self.open: Callable[[str, str], io.BytesIO] = lambda path, mode: file


def _nested(values: Mapping[str, Any], paths: Any) -> Any:
    """Undo the flattening: put each value at the path of keys that was recorded for it."""
    if not isinstance(paths, dict):
        return dict(values)
    root: dict[Any, Any] = {}
    for name, value in values.items():
        path = paths.get(name, (name,))
        keys = path if isinstance(path, tuple) and path else (name,)
        node = root
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise DamagedFileError(f"{METADATA}: {name!r} lies inside a tensor")
        node[keys[-1]] = value
    return _lists(root)


def _lists(node: Any) -> Any:
    """Turn dicts with the keys 0, 1, 2, ... into lists, which they were."""
    if not isinstance(node, dict):
        return node
    inner = {key: _lists(value) for key, value in node.items()}
    if inner and all(type(key) is int for key in inner) and set(inner) == set(range(len(inner))):
        return [inner[position] for position in range(len(inner))]
    return inner
