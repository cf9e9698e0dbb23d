"""What a file of ``torch.save`` holds, read without its tensors.

``inspect_torch_file`` reads the small pickle that names the tensors, with stand-ins for them, and
checks that every tensor lies within its storage, and every storage within the file. It knows both
formats: zip archives, and the older row of pickles that is followed by raw storages. No name of
the file is looked up, so that a file can be listed, or refused by name, before PyTorch opens it.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch

from retinue.utils.pickle_scan import check_pickle
from retinue.utils.unpickler import (
    RestrictedPickleError,
    RestrictedUnpickler,
    check_layout,
    finish,
    no_garbage_collection,
    readable_bytes,
    translate_errors,
)

__all__ = ["TensorInfo", "inspect_torch_file"]

MAX_RECORDS = 1_000_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "QInt8Storage": torch.qint8,
    "QUInt8Storage": torch.quint8,
    "QInt32Storage": torch.qint32,
    "QUInt4x2Storage": torch.quint4x2,
    "QUInt2x4Storage": torch.quint2x4,
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor that was not read."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    storage: str
    """Key of the bytes it views, which others may view, too."""

    @property
    def num_bytes(self) -> int:
        return int(torch.Size(self.shape).numel()) * self.dtype.itemsize


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str
    num_elements: int


class _StorageKind:
    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Other:
    """Something of PyTorch's that is no dense tensor."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> TensorInfo:
    if not isinstance(storage, _Storage):
        raise RestrictedPickleError(f"a tensor's storage is {type(storage).__name__}")
    check_layout(offset, size, stride, storage.num_elements)
    return TensorInfo(tuple(size), storage.dtype, storage.key)


def _tensor_of_dtype(
    storage: Any, offset: int, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any
) -> TensorInfo:
    if not isinstance(storage, _Storage) or not isinstance(dtype, torch.dtype):
        raise RestrictedPickleError("a tensor without storage or type")
    num_elements = storage.num_elements * storage.dtype.itemsize // dtype.itemsize
    check_layout(offset, size, stride, num_elements)
    return TensorInfo(tuple(size), dtype, storage.key)


def _quantized(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> TensorInfo:
    return _tensor(storage, offset, size, stride)


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, TensorInfo | _Other):
        raise RestrictedPickleError(f"a parameter holds {type(data).__name__}, not a tensor")
    return data


class _Names(Mapping[str, Any]):
    """What stands for PyTorch's names: tensors, storages, types; for all others ``_Other``."""

    exact: Mapping[str, Any] = {
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
        "torch._utils._rebuild_qtensor": _quantized,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.nn.parameter.Parameter": _parameter,
        "collections.Counter": dict,
    }

    def __contains__(self, name: object) -> bool:
        name = str(name)
        return name in self.exact or (name.startswith("torch.") and self._plain(name) is not None)

    def __getitem__(self, name: str) -> Any:
        return self.exact[name] if name in self.exact else self._plain(name)

    @staticmethod
    def _plain(name: str) -> Any:
        module, _, last = name.rpartition(".")
        if last in _STORAGES and module in ("torch", "torch.storage", "torch.cuda"):
            return _StorageKind(_STORAGES[last])
        if module == "torch" and isinstance(getattr(torch, last, None), torch.dtype):
            return getattr(torch, last)
        # What PyTorch itself rebuilds without running code is decided by PyTorch afterwards.
        is_rebuilder = module in ("torch._utils", "torch._tensor") and last.startswith("_rebuild_")
        is_plain = name in _PLAIN or name.startswith("torch.per_")  # the latter: quantization
        is_distributed = module.startswith("torch.distributed.") and last[:1].isupper()
        return _Other if is_rebuilder or is_plain or is_distributed else None

    def __iter__(self) -> Any:
        return iter(self.exact)

    def __len__(self) -> int:
        return len(self.exact)


_PLAIN = ("torch.device", "torch.Tensor", "torch.serialization._get_layout")
_NAMES = _Names()


def inspect_torch_file(file: IO[bytes], name: str = "") -> Any:
    """Read what ``torch.save`` wrote, with a ``TensorInfo`` in the place of each tensor.

    Structures and configs become dicts of what they hold.

    Raises:
        RestrictedPickleError: If the file names anything that could run code, is damaged, or
            claims more than it has.
    """
    name = name or str(getattr(file, "name", "file"))
    with translate_errors(name):
        start = file.tell()
        is_zip = file.read(4) == b"PK\x03\x04"
        file.seek(start)
        return _inspect_zip(file) if is_zip else _inspect_legacy(file)


def _inspect_zip(file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        file_size = file.seek(0, io.SEEK_END)
        _check_records(records, file_size)
        (root,) = {record.filename.split("/")[0] for record in records}
        sizes = {record.filename: record.file_size for record in records}
        if f"{root}/constants.pkl" in sizes or f"{root}/code/" in str(list(sizes)[:50]):
            raise RestrictedPickleError(
                "a TorchScript program, not a checkpoint; save its state_dict() instead"
            )
        data = archive.read(f"{root}/data.pkl")

    def storage(pid: Any) -> _Storage:
        found = _storage(pid)
        have = sizes.get(f"{root}/data/{found.key}")
        need = found.num_elements * found.dtype.itemsize
        if have is None or have < need:
            raise RestrictedPickleError(
                f"storage {found.key!r} claims {need:,} bytes; the file has {have or 0:,} of it"
            )
        return found

    check_pickle(data)
    reader = RestrictedUnpickler(
        io.BytesIO(data), encoding="utf-8", names=_NAMES, persistent_load=storage
    )
    with no_garbage_collection():
        return finish(reader.load(), build=False)


def _check_records(records: list[zipfile.ZipInfo], file_size: int) -> None:
    if len(records) > MAX_RECORDS:
        raise RestrictedPickleError(f"an archive of {len(records):,} records")
    if sum(record.file_size for record in records) > file_size:
        raise RestrictedPickleError("its records claim more bytes than the file has")
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise RestrictedPickleError(
                f"record {record.filename!r} is compressed or encrypted; torch.save does neither"
            )
        parts = record.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise RestrictedPickleError(f"record {record.filename!r} points out of the archive")
    names = [record.filename for record in records]
    if len(set(names)) < len(names):
        raise RestrictedPickleError("two records of the same name")


def _storage(pid: Any) -> _Storage:
    is_known = isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"
    if not is_known or not isinstance(pid[1], _StorageKind):
        raise RestrictedPickleError(f"refers to {str(pid)[:200]}")
    if type(pid[4]) is not int or not 0 <= pid[4] < 2**60:
        raise RestrictedPickleError(f"a storage of {str(pid[4])[:40]} elements")
    return _Storage(pid[1].dtype, str(pid[2]), pid[4])


def _inspect_legacy(file: IO[bytes]) -> Any:
    found: dict[str, _Storage] = {}

    def storage(pid: Any) -> _Storage:
        new = _storage(pid)
        found[new.key] = new
        return new

    start = file.tell()
    with readable_bytes(file) as data:
        size, at = len(data), 0
        values: list[Any] = []
        for _ in range(5):  # magic number, version, system, the object, keys of the storages
            rest = data[at:]
            try:
                length = check_pickle(rest)
                if not values and length > 64:
                    raise RestrictedPickleError("not in PyTorch's format")
                file.seek(start + at)
                reader = RestrictedUnpickler(
                    file, encoding="utf-8", names=_NAMES, persistent_load=storage
                )
                values.append(reader.load())
            except pickle.UnpicklingError:
                if not values:
                    raise RestrictedPickleError("not in PyTorch's format") from None
                raise
            finally:
                rest.release()
            if values[0] != LEGACY_MAGIC:
                raise RestrictedPickleError("not in PyTorch's format")
            at += length
    file.seek(start)
    need = sum(8 + s.num_elements * s.dtype.itemsize for s in found.values())
    if need > size - at:
        raise RestrictedPickleError(
            f"its storages claim {need:,} bytes; the file has {size - at:,} more"
        )
    return finish(values[3], build=False)
