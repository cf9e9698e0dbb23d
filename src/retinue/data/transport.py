"""Batches cross from a worker process in one piece of shared memory.

PyTorch sends each tensor by itself, as a file descriptor that the main process has to ask for. A
batch of detection samples holds dozens of tensors, and the training loop waits for all of them.
Here the tensors of a batch are laid into one, which is sent; what arrives are views of it.

Reading order: ``WholeBatchLoader`` is PyTorch's loader with workers that do so; ``sent_whole``
wraps a collate function, ``_Parcel`` is what the worker's queue pickles, ``_open`` is what the main
process runs.
"""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info

__all__ = ["WholeBatchLoader", "sent_whole"]

ALIGNMENT = 64  # bytes; a cache line, and a multiple of every dtype's size


class WholeBatchLoader(DataLoader[Any]):
    """PyTorch's loader, whose workers send each batch in one piece."""

    def __init__(
        self,
        dataset: Any,
        *,
        collate_fn: Callable[[list[Any]], Any],
        num_workers: int = 0,
        **kwargs: Any,
    ) -> None:
        send = sent_whole(collate_fn) if num_workers > 0 else collate_fn
        super().__init__(dataset, collate_fn=send, num_workers=num_workers, **kwargs)

    def check_worker_number_rationality(self) -> None:
        """Say nothing of more workers than CPU cores: they also wait for files."""


def sent_whole(collate_fn: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    """Make a collate function whose batches a worker process sends in one piece.

    The main process gets what ``collate_fn`` returned. Tensors of one batch share their memory's
    lifetime there: as long as one is kept, all are.
    """
    return functools.partial(_collate, collate_fn)


def _collate(collate_fn: Callable[[list[Any]], Any], samples: list[Any]) -> Any:
    batch = collate_fn(samples)
    return batch if get_worker_info() is None else _Parcel(batch)


class _Parcel:
    """Something that is pickled with its tensors in one, and unpickled as what it was."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def __reduce__(self) -> tuple[Any, ...]:
        file = io.BytesIO()
        packer = _Packer(file)
        packer.dump(self._content)
        return _open, (file.getvalue(), packer.memory())


class _Packer(ForkingPickler):
    """Puts plain tensors aside; all others go the way PyTorch sends them."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._tensors: list[torch.Tensor] = []
        self._starts = [0]  # in bytes, and where the next would start
        self._places: dict[int, int] = {}  # id of a tensor -> its number

    def persistent_id(self, obj: Any) -> Any:
        if type(obj) is not torch.Tensor or not _is_plain(obj):
            return None
        place = self._places.get(id(obj))
        if place is None:
            place = self._places[id(obj)] = len(self._tensors)
            self._tensors.append(obj)
            self._starts.append(self._starts[-1] + -(-obj.nbytes // ALIGNMENT) * ALIGNMENT)
        return self._starts[place], obj.dtype, tuple(obj.shape)

    def memory(self) -> torch.Tensor:
        memory = torch.empty(self._starts[-1], dtype=torch.uint8)
        for start, tensor in zip(self._starts, self._tensors, strict=False):
            _view(memory, start, tensor.dtype, tuple(tensor.shape)).copy_(tensor)
        return memory


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, memory: torch.Tensor) -> None:
        super().__init__(file)
        self._memory = memory

    def persistent_load(self, pid: Any) -> torch.Tensor:
        return _view(self._memory, *pid)


def _open(data: bytes, memory: torch.Tensor) -> Any:
    """Return what a parcel holds; ``data`` comes from a process of this program."""
    return _Unpacker(io.BytesIO(data), memory).load()


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not tensor.requires_grad
        and not tensor.is_quantized
        and tensor.is_contiguous()  # others would lose their memory format
        and not tensor.is_conj()
        and not tensor.is_neg()
        and not tensor.is_shared()
    )


def _view(
    memory: torch.Tensor, start: int, dtype: torch.dtype, shape: tuple[int, ...]
) -> torch.Tensor:
    num_bytes = torch.Size(shape).numel() * dtype.itemsize
    return memory[start : start + num_bytes].view(dtype).view(shape)
