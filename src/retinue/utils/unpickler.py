"""An unpickler that knows nothing but plain data.

A pickle is a program that may call any function it names. Here it finds containers, numbers,
strings, numpy arrays, and stand-ins for our structures and configs (``plain_objects``); every other
name ends the reading with an error that says it. Arrays are not rebuilt by numpy's own hooks but
from their bytes, after shape and type have been checked.

Reading order: RestrictedUnpickler (which names are known); _Array (how an array is rebuilt);
finish (putting things in the place of their stand-ins).
"""

from __future__ import annotations

import contextlib
import gc
import io
import math
import mmap
import pickle
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from retinue.utils.pickle_scan import MAX_SAME_HASH
from retinue.utils.plain_objects import STAND_INS, StandIn

__all__ = [
    "NUMPY_NAMES",
    "ForbiddenNameError",
    "RestrictedPickleError",
    "RestrictedUnpickler",
    "check_layout",
    "finish",
    "no_garbage_collection",
    "readable_bytes",
    "translate_errors",
]

MAX_DEPTH = 200
"""Containers inside containers, at most."""


class RestrictedPickleError(pickle.UnpicklingError, ValueError):
    """A pickle that holds more than plain data, or is damaged."""


class ForbiddenNameError(RestrictedPickleError):
    """A pickle that names what isn't plain data."""


@contextlib.contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Turn whatever a damaged or hostile pickle raises into our error with the file's name."""
    try:
        yield
    except RestrictedPickleError as error:
        message = str(error)
        raise type(error)(message if message.startswith(name) else f"{name}: {message}") from error
    except OSError:
        raise
    except Exception as error:  # from EOFError to MemoryError and RecursionError
        reason = str(error) or type(error).__name__
        raise RestrictedPickleError(f"{name}: not a whole pickle file ({reason})") from error


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Let many objects come into being without looking again and again which could go."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def readable_bytes(file: IO[bytes]) -> Iterator[memoryview]:
    """Give the bytes from where ``file`` stands on, not copied where that is possible."""
    start = file.tell()
    with contextlib.ExitStack() as stack:
        if isinstance(file, io.BytesIO):
            data = stack.enter_context(file.getbuffer())
            yield stack.enter_context(data[start:])
            return
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError, AttributeError):  # no file of this machine, or an empty one
            yield memoryview(file.read())
            file.seek(start)
            return
        stack.enter_context(mapped)
        data = stack.enter_context(memoryview(mapped))
        yield stack.enter_context(data[start:])


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
    """A numpy array whose shape, type and bytes come later in the pickle.

    One of objects becomes the flat list of them.
    """

    data: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.data = state

    def holds_objects(self) -> bool:
        is_typed = self.data is not None and isinstance(self.dtype, _Dtype)
        return is_typed and self.dtype.code.startswith("O") and isinstance(self.data, list)

    def numpy(self) -> np.ndarray:
        if not isinstance(self.dtype, _Dtype) or not isinstance(self.shape, tuple):
            raise RestrictedPickleError("an array without type or shape")
        dtype = self.dtype.numpy()
        data = _as_bytes(self.data)
        self.data = None  # so that only one array is there twice
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


def check_layout(offset: Any, size: Any, stride: Any, num_elements: int) -> None:
    """Check that a tensor lies within its storage.

    Raises:
        RestrictedPickleError: If it doesn't, or sizes are no sizes.
    """
    numbers = [offset, *size, *stride]
    is_sound = len(size) == len(stride) <= 64 and all(
        type(n) is int and 0 <= n < 2**62 for n in numbers
    )
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=False))
    if not is_sound or (0 not in size and last >= num_elements):
        raise RestrictedPickleError(
            f"a tensor of shape {tuple(size)}, strides {tuple(stride)} and offset {offset}"
            f" does not fit its storage of {num_elements:,} elements"
        )


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    """Make a container from another one, but not from a number, which could be its length."""

    def make(content: Any = (), *_: Any) -> Any:
        if not isinstance(content, list | tuple | set | frozenset | dict | bytes | bytearray):
            raise RestrictedPickleError(f"{kind.__name__} of {type(content).__name__}")
        if kind in (set, frozenset):
            _check_hashes(content)
        elif kind is dict:
            _check_hashes_of_pairs(content)
        return kind(content)

    return make


def _check_hashes(keys: Iterable[Any]) -> None:
    """Refuse keys that nearly all have the same hash, which takes forever to look up."""
    counts = Counter(map(hash, keys))
    if max(counts.values(), default=0) > MAX_SAME_HASH:
        raise RestrictedPickleError(f"more than {MAX_SAME_HASH:,} keys have the same hash")


def _check_hashes_of_pairs(pairs: Any) -> None:
    if not isinstance(pairs, dict):  # whose keys have been looked up already
        _check_hashes(key for key, _ in pairs)


def _complex(real: float, imag: float = 0.0) -> complex:
    return complex(float(real), float(imag))


def _bytearray(text: Any = b"", encoding: str = "latin-1") -> bytearray:
    return bytearray(_encode(text, encoding) if isinstance(text, str) else _as_bytes(text))


def _ordered_dict(*items: Any) -> OrderedDict[Any, Any]:
    for pairs in items:
        _check_hashes_of_pairs(pairs)
    return OrderedDict(*items)


def _default_dict(*_: Any) -> defaultdict[Any, Any]:
    return defaultdict()


def _size(content: Any = ()) -> tuple[int, ...]:
    return tuple(content)


def _reconstructor(kind: Any, _: Any, content: Any) -> Any:
    """Stand in for the function that objects of the first pickle protocols name."""
    if not (isinstance(kind, type) and issubclass(kind, StandIn)):
        raise RestrictedPickleError("an object of no known class")
    made: Any = kind()
    for key, value in (content or {}).items():
        made[key] = value
    return made


_NUMPY: Mapping[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _reconstruct,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}

NUMPY_NAMES: Mapping[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    **{f"numpy.core.{name}": stand_in for name, stand_in in _NUMPY.items()},
    **{f"numpy._core.{name}": stand_in for name, stand_in in _NUMPY.items()},
}
"""What pickles of arrays name, and what stands for it; ``finish`` makes arrays of the results."""

_CONTAINERS = {kind.__name__: _container(kind) for kind in (set, frozenset, list, dict, tuple)}
_BUILTINS: dict[str, Callable[..., Any]] = {
    **_CONTAINERS,
    "bytes": _container(bytes),
    "bytearray": _bytearray,
    "complex": _complex,
}

_KNOWN: Mapping[str, Callable[..., Any]] = {
    **NUMPY_NAMES,
    **STAND_INS,
    **{
        f"{module}.{name}": make
        for name, make in _BUILTINS.items()
        for module in ("builtins", "__builtin__")
    },
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstructor,
    "copy_reg._reconstructor": _reconstructor,
    "builtins.object": object,
    "__builtin__.object": object,
    "torch.Size": _size,
}


class RestrictedUnpickler(pickle.Unpickler):
    """Reads a pickle with known names only.

    Args:
        file: open for reading bytes.
        encoding: of strings that Python 2 wrote.
        names: what stands for further names.
        persistent_load: called with a reference to data outside the pickle; refused by default.
    """

    def __init__(
        self,
        file: IO[bytes],
        *,
        encoding: str = "latin1",
        names: Mapping[str, Any] | None = None,
        persistent_load: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._names = names or {}
        self._persistent_load = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name in self._names:
            return self._names[full_name]
        if full_name in _KNOWN:
            return _KNOWN[full_name]
        raise ForbiddenNameError(
            f"names {full_name!r}; only arrays, tensors, numbers, strings, plain containers and"
            " structures of ours are read, since anything else could run code. If you trust the"
            " file, read it with trust=True (--trust), and save what you need of it"
        )

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent_load is None:
            raise RestrictedPickleError(f"refers to data outside the file ({str(pid)[:200]!r})")
        return self._persistent_load(pid)


def finish(value: Any, *, build: bool = True) -> Any:
    """Put arrays and objects in the place of their stand-ins; shared things stay shared.

    Args:
        value: what an unpickler with the known names returned.
        build: make objects of ours; else a dict of what they hold.

    Raises:
        RestrictedPickleError: If containers are nested too deep, shared so often that writing
            them out would take forever, or hold a function or class.
    """
    return _Finisher(build).finish(value, 0)[0]


class _Finisher:
    def __init__(self, build: bool) -> None:
        self.build = build
        self.done: dict[int, tuple[Any, Any, int]] = {}  # with the value, so that its id stays
        self.num_values = 0

    def finish(self, value: Any, depth: int) -> tuple[Any, int]:
        """Return what takes a value's place, and how many values it is when written out."""
        self.num_values += 1
        if id(value) in self.done:
            return self.done[id(value)][1:]
        if depth > MAX_DEPTH:
            raise RestrictedPickleError(f"containers nested more than {MAX_DEPTH} levels deep")
        result, size = self.replace(value, depth + 1)
        if size > 1_000_000 + 100 * self.num_values:
            raise RestrictedPickleError(f"values shared so often that they become {size:,}")
        if size > 1 or result is not value:
            self.done[id(value)] = (value, result, size)
        return result, size

    def replace(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, _Array) and value.holds_objects():
            return self.finish(value.data, depth)
        if isinstance(value, _Array | _Dtype):
            return value.numpy(), 1
        if isinstance(value, dict):
            self.done[id(value)] = (value, value, 1)
            size = 1
            for key in list(value):
                if type(key) is not str:
                    size += self.finish(key, depth)[1]
                value[key], more = self.finish(value[key], depth)
                size += more
            return value, size
        if isinstance(value, list):
            self.done[id(value)] = (value, value, 1)
            size = 1
            for position, item in enumerate(value):
                value[position], more = self.finish(item, depth)
                size += more
            return value, size
        if isinstance(value, tuple | set | frozenset):
            items = [self.finish(item, depth) for item in value]
            finished = [item for item, _ in items]
            is_same = all(new is old for new, old in zip(finished, value, strict=True))
            return value if is_same else type(value)(finished), 1 + sum(n for _, n in items)
        if isinstance(value, StandIn):
            parts, size = self.finish(value.parts(), depth)
            return value.finish(parts) if self.build else value.sketch(parts), size
        if isinstance(value, type) or callable(value):
            raise RestrictedPickleError(f"{value!r} is not plain data")
        return value, 1
