"""Read pickle files of plain data without running code from them.

A pickle is a program that may call any function it names. ``load`` runs it with a dozen harmless
names: containers, numbers, strings, numpy arrays, torch tensors. Every other name ends the reading
with an error that says it. Arrays are not rebuilt by numpy's own hooks but from their bytes, after
shape and type have been checked.

Reading order: load; _Reader (which names are known); _Array (how an array is rebuilt).
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
import torch

__all__ = ["RestrictedPickleError", "load", "loads"]


class RestrictedPickleError(pickle.UnpicklingError, ValueError):
    """A pickle that holds more than plain data, or is damaged."""


def load(file: IO[bytes], *, encoding: str = "latin1", name: str = "") -> Any:
    """Read one pickle of plain data.

    Args:
        file: open for reading bytes.
        encoding: of strings that Python 2 wrote; latin1 keeps their bytes.
        name: what errors call the file.

    Returns:
        dicts, lists, tuples, sets, numbers, strings, bytes, None, numpy arrays and torch tensors.

    Raises:
        RestrictedPickleError: If the file names anything else, or is truncated.
    """
    name = name or str(getattr(file, "name", "pickle"))
    try:
        return _finish(_Reader(file, encoding=encoding, source=name).load(), {})
    except RestrictedPickleError:
        raise
    except Exception as error:  # a damaged pickle fails in any way, from EOFError to MemoryError
        raise RestrictedPickleError(f"{name}: not a whole pickle file ({error})") from error


def loads(data: bytes, *, encoding: str = "latin1", name: str = "pickle") -> Any:
    """Read a pickle of plain data from bytes, as ``load`` does from a file."""
    return load(io.BytesIO(data), encoding=encoding, name=name)


class _Dtype:
    """A numpy type, by its code and byte order. Only numbers, booleans and strings are known."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = str(code)
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.order, subtype, names, *_ = state
        if subtype is not None or names is not None:
            raise RestrictedPickleError("arrays of records are not plain data")

    def numpy(self) -> np.dtype:
        dtype = np.dtype(self.code)
        if dtype.kind not in "biufcSU":
            raise RestrictedPickleError(f"arrays of type {self.code!r} are not plain data")
        return dtype if self.order == "|" else dtype.newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """A numpy array whose shape, type and bytes come later in the pickle."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.data = state

    def numpy(self) -> np.ndarray:
        dtype = self.dtype.numpy()
        data = _as_bytes(self.data)
        if len(data) != math.prod(self.shape) * dtype.itemsize:
            raise RestrictedPickleError(
                f"array of shape {self.shape} and type {dtype} with {len(data)} bytes"
            )
        array = np.frombuffer(bytearray(data), dtype)
        if self.is_fortran:
            array = array.reshape(self.shape[::-1]).T
        else:
            array = array.reshape(self.shape)
        return array.astype(dtype.newbyteorder("="), order="C", copy=False)


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, str):  # as Python 2 wrote them
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise RestrictedPickleError(f"an array's content is {type(data).__name__}, not bytes")
    return bytes(data)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    """Stand in for the function that arrays of pickle protocol 5 name."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _scalar(dtype: _Dtype, data: Any) -> Any:
    array = _Array()
    array.__setstate__((1, (), dtype, False, data))
    return array.numpy()[()]


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    if encoding.replace("-", "").replace("_", "").lower() not in ("latin1", "utf8", "ascii"):
        raise RestrictedPickleError(f"text encoded as {encoding!r}")
    return text.encode(encoding)


def _load_storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _ordered_dict(*items: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*items)


def _default_dict(*_: Any) -> defaultdict[Any, Any]:
    return defaultdict()


_NUMPY: Mapping[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _reconstruct,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}

_KNOWN: Mapping[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    **{f"numpy.core.{name}": stand_in for name, stand_in in _NUMPY.items()},
    **{f"numpy._core.{name}": stand_in for name, stand_in in _NUMPY.items()},
    **{
        f"{module}.{kind.__name__}": kind
        for kind in (set, frozenset, bytearray, complex, bytes, list, dict, tuple)
        for module in ("builtins", "__builtin__")
    },
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "_codecs.encode": _encode,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    "torch.storage._load_from_bytes": _load_storage,
}


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes], *, encoding: str, source: str) -> None:
        super().__init__(file, encoding=encoding)
        self._source = source

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in _KNOWN:
            raise RestrictedPickleError(
                f"{self._source}: names {full_name!r}; only arrays, tensors, numbers, strings and"
                " plain containers are read, since anything else could run code. If you trust the"
                " file, load it with the program that wrote it and save plain arrays"
            )
        return _KNOWN[full_name]

    def persistent_load(self, pid: Any) -> Any:
        raise RestrictedPickleError(f"{self._source}: refers to data outside the file ({pid!r})")


def _finish(value: Any, done: dict[int, Any]) -> Any:
    """Put arrays in the place of their stand-ins; ``done`` keeps shared objects shared."""
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, _Array):
        result: Any = value.numpy()
    elif isinstance(value, _Dtype):
        result = value.numpy()
    elif isinstance(value, dict):
        done[id(value)] = (value, value)
        for key in list(value):
            value[key] = _finish(value[key], done)
        result = value
    elif isinstance(value, list):
        done[id(value)] = (value, value)
        value[:] = [_finish(item, done) for item in value]
        result = value
    elif isinstance(value, tuple):
        result = tuple(_finish(item, done) for item in value)
    elif isinstance(value, type) or callable(value):
        raise RestrictedPickleError(f"{value!r} is not plain data")
    else:
        return value
    done[id(value)] = (value, result)  # with `value`, so that its id stays taken
    return result
