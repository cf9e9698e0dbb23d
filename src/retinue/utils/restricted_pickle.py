"""Read pickle files of plain data without running code from them.

``load`` runs a pickle with the few names that ``unpickler`` knows, and those of tensors. Before
that, ``pickle_scan`` has refused what would exhaust the machine.
"""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any

import torch

from retinue.utils.pickle_scan import check_pickle
from retinue.utils.torch_archive import inspect_torch_file
from retinue.utils.unpickler import (
    NUMPY_NAMES,
    ForbiddenNameError,
    RestrictedPickleError,
    RestrictedUnpickler,
    check_layout,
    finish,
    no_garbage_collection,
    readable_bytes,
    translate_errors,
)

__all__ = [
    "NUMPY_NAMES",
    "ForbiddenNameError",
    "RestrictedPickleError",
    "RestrictedUnpickler",
    "finish",
    "load",
    "loads",
    "readable_bytes",
    "translate_errors",
]

logger = logging.getLogger(__name__)


def load(file: IO[bytes], *, encoding: str = "latin1", name: str = "", trust: bool = False) -> Any:
    """Read one pickle of plain data.

    Args:
        file: open for reading bytes.
        encoding: of strings that Python 2 wrote; latin1 keeps their bytes.
        name: what errors call the file.
        trust: run whatever the file says, as ``pickle.load`` does; the log says so.

    Returns:
        dicts, lists, tuples, sets, numbers, strings, bytes, None, numpy arrays, torch tensors, and
        ``Boxes``, ``Instances`` and other structures of ours or of detectron2, and ``CfgNode``.

    Raises:
        RestrictedPickleError: If the file names anything else, would exhaust the machine, or is
            truncated.
    """
    name = name or str(getattr(file, "name", "pickle"))
    if trust:
        logger.warning("%s: read with trust=True, which runs any code that the file holds", name)
        return pickle.load(file, encoding=encoding)
    with translate_errors(name):
        with readable_bytes(file) as data:
            check_pickle(data)
        reader = RestrictedUnpickler(file, encoding=encoding, names=_TENSORS)
        with no_garbage_collection():
            value = reader.load()
        del reader  # with its notes, which hold the bytes of all arrays
        return finish(value)


def loads(
    data: bytes, *, encoding: str = "latin1", name: str = "pickle", trust: bool = False
) -> Any:
    """Read a pickle of plain data from bytes, as ``load`` does from a file."""
    return load(io.BytesIO(data), encoding=encoding, name=name, trust=trust)


def _load_storage(data: bytes) -> Any:
    inspect_torch_file(io.BytesIO(data), "a tensor's storage")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _rebuild_tensor(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    """Stand in for PyTorch's function, which would enlarge a storage that is too small."""
    if not isinstance(storage, torch.storage.TypedStorage):
        raise RestrictedPickleError(f"a tensor's storage is {type(storage).__name__}")
    num_elements = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    check_layout(offset, size, stride, num_elements)
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, torch.Tensor):
        raise RestrictedPickleError(f"a parameter holds {type(data).__name__}, not a tensor")
    return torch.nn.Parameter(data, requires_grad=data.is_floating_point())


_TENSORS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.storage._load_from_bytes": _load_storage,
}
