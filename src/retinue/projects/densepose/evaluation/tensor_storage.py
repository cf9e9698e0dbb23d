"""Keeps tensors of known shapes outside of Python's objects: in one buffer, or in a file.

A record is one tensor of each name. Records lie one after the other, each tensor in C order,
names sorted.
"""

import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from retinue.utils import comm
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

__all__ = [
    "MultiProcessFileTensorStorage",
    "MultiProcessRamTensorStorage",
    "MultiProcessTensorStorage",
    "SingleProcessFileTensorStorage",
    "SingleProcessRamTensorStorage",
    "SingleProcessTensorStorage",
    "SizeData",
    "storage_gather",
]

Record = dict[str, torch.Tensor]


@dataclass
class SizeData:
    """What a tensor looks like: numpy's name of its type, and its shape."""

    dtype: str
    shape: tuple[int, ...]


class SingleProcessTensorStorage:
    """Records of one process.

    Args:
        data_schema: what the tensor of each name looks like.
        storage_impl: an open file or a buffer.
    """

    def __init__(self, data_schema: Mapping[str, SizeData], storage_impl: BinaryIO) -> None:
        self.data_schema = data_schema
        self.record_field_sizes_b = {
            name: math.prod(size.shape) * np.dtype(size.dtype).itemsize
            for name, size in data_schema.items()
        }
        self.record_size_b = sum(self.record_field_sizes_b.values())
        self.storage_impl = storage_impl
        self.next_record_id = 0

    def get(self, record_id: int) -> Record:
        """Return a record by its number.

        Raises:
            InputError: If there is no such record.
        """
        self.storage_impl.seek(record_id * self.record_size_b)
        data = bytearray(self.storage_impl.read(self.record_size_b))
        if len(data) != self.record_size_b:
            raise InputError(
                f"record {record_id}: expected {self.record_size_b} bytes; the storage has"
                f" {len(data)} left"
            )
        record, start = {}, 0
        for name in sorted(self.data_schema):
            size = self.data_schema[name]
            values = np.frombuffer(data, size.dtype, math.prod(size.shape), start)
            record[name] = torch.from_numpy(values.reshape(size.shape))
            start += self.record_field_sizes_b[name]
        return record

    def put(self, data: Mapping[str, torch.Tensor]) -> int:
        """Add a record; return its number.

        Raises:
            InputError: If a tensor is missing or looks otherwise.
        """
        parts = []
        for name in sorted(self.data_schema):
            size = self.data_schema[name]
            if name not in data:
                raise InputError(f"a record needs {sorted(self.data_schema)}; got {sorted(data)}")
            value = data[name].detach().cpu().numpy()
            if value.shape != tuple(size.shape) or value.dtype != np.dtype(size.dtype):
                raise InputError(
                    f"{name}: expected {size.dtype} of shape {tuple(size.shape)}; got"
                    f" {value.dtype} of shape {value.shape}"
                )
            parts.append(value.tobytes())
        self.storage_impl.write(b"".join(parts))
        self.next_record_id += 1
        return self.next_record_id - 1


class SingleProcessFileTensorStorage(SingleProcessTensorStorage):
    """Records in a file.

    Args:
        data_schema: what the tensor of each name looks like.
        fpath: path of the file.
        mode: ``"wb"`` or ``"rb"``.

    Raises:
        InputError: If ``mode`` is another.
    """

    def __init__(self, data_schema: Mapping[str, SizeData], fpath: str, mode: str) -> None:
        if "b" not in mode or not {"w", "r"} & set(mode):
            raise InputError(f"a tensor storage is opened by 'wb' or 'rb'; got {mode!r}")
        self.fpath = fpath
        super().__init__(data_schema, cast(BinaryIO, PathManager.open(fpath, mode)))


class SingleProcessRamTensorStorage(SingleProcessTensorStorage):
    """Records in memory.

    Args:
        data_schema: what the tensor of each name looks like.
        buf: the memory.
    """

    def __init__(self, data_schema: Mapping[str, SizeData], buf: io.BytesIO) -> None:
        super().__init__(data_schema, buf)


class MultiProcessTensorStorage:
    """Records of several processes.

    Args:
        rank_to_storage: those of each.
    """

    def __init__(self, rank_to_storage: Mapping[int, SingleProcessTensorStorage]) -> None:
        self.rank_to_storage = rank_to_storage

    def get(self, rank: int, record_id: int) -> Record:
        """Return a record of a process by its number."""
        return self.rank_to_storage[rank].get(record_id)

    def put(self, rank: int, data: Mapping[str, torch.Tensor]) -> int:
        """Add a record to a process's; return its number."""
        return self.rank_to_storage[rank].put(data)


class MultiProcessFileTensorStorage(MultiProcessTensorStorage):
    """Records in a file of each process.

    Args:
        data_schema: what the tensor of each name looks like.
        rank_to_fpath: path of each file.
        mode: ``"wb"`` or ``"rb"``.
    """

    def __init__(
        self, data_schema: Mapping[str, SizeData], rank_to_fpath: Mapping[int, str], mode: str
    ) -> None:
        files = {
            rank: SingleProcessFileTensorStorage(data_schema, path, mode)
            for rank, path in rank_to_fpath.items()
        }
        super().__init__(files)


class MultiProcessRamTensorStorage(MultiProcessTensorStorage):
    """Records in a buffer of each process.

    Args:
        data_schema: what the tensor of each name looks like.
        rank_to_buffer: the buffers.
    """

    def __init__(
        self, data_schema: Mapping[str, SizeData], rank_to_buffer: Mapping[int, io.BytesIO]
    ) -> None:
        buffers = {
            rank: SingleProcessRamTensorStorage(data_schema, buffer)
            for rank, buffer in rank_to_buffer.items()
        }
        super().__init__(buffers)


def storage_gather(storage: Any, dst_rank: int = 0) -> MultiProcessTensorStorage | None:
    """Make the records of all processes readable in one; the others get None.

    Raises:
        InputError: If the storage is neither in a file nor in memory.
    """
    if isinstance(storage, SingleProcessFileTensorStorage):
        storage.storage_impl.close()  # so that everything is written
        paths = comm.gather(storage.fpath, dst=dst_rank)
        if comm.get_rank() != dst_rank:
            return None
        return MultiProcessFileTensorStorage(storage.data_schema, dict(enumerate(paths)), "rb")
    if isinstance(storage, SingleProcessRamTensorStorage):
        storage.storage_impl.seek(0, os.SEEK_SET)
        contents = comm.gather(storage.storage_impl.read(), dst=dst_rank)
        if comm.get_rank() != dst_rank:
            return None
        buffers = {rank: io.BytesIO(content) for rank, content in enumerate(contents)}
        return MultiProcessRamTensorStorage(storage.data_schema, buffers)
    raise InputError(
        "storage_gather: expected a SingleProcessFileTensorStorage or a"
        f" SingleProcessRamTensorStorage; got {type(storage).__name__}"
    )
