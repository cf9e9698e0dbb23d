"""Methods of iopath's path manager and handlers that retinue's own code does not use.

They are added to the classes under the hook: writing in another thread (``opena``), a working
directory of the manager's own, and tables. ``self`` is a handler or a manager, see
:mod:`retinue.utils.file_io`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from retinue.utils.errors import InputError

__all__ = ["MAX_FILENAME_LEN", "WritingLater"]

MAX_FILENAME_LEN = 250


class WritingLater:
    """A file whose writes happen one after the other in another thread.

    Args:
        file: an open file.
        executor: of one thread.
        then: called when the file is closed.
    """

    def __init__(
        self, file: Any, executor: ThreadPoolExecutor, then: Callable[[], Any] | None
    ) -> None:
        self._file, self._executor, self._then = file, executor, then
        self._jobs: list[Future[Any]] = []

    def write(self, data: Any) -> int:
        """Write ``data``, later; return its length."""
        self._jobs.append(self._executor.submit(self._file.write, data))
        return len(data)

    def close(self) -> None:
        """Close the file when all is written."""
        self._jobs.append(self._executor.submit(self._file.close))
        if self._then is not None:
            self._jobs.append(self._executor.submit(self._then))

    def wait(self) -> bool:
        """Wait for what was asked for so far; return whether all of it went well."""
        errors = [job.exception() for job in self._jobs]
        return errors == [None] * len(errors)

    def __enter__(self) -> WritingLater:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _opena(
    self: Any,
    path: str,
    mode: str = "r",
    callback_after_file_close: Callable[[], Any] | None = None,
    buffering: int = -1,
    **kwargs: Any,
) -> WritingLater:
    if set(mode) & set("r+"):
        raise InputError(f"opena: expected a mode that only writes, such as 'w'; got {mode!r}")
    if self._async_executor is None:
        self._async_executor = ThreadPoolExecutor(max_workers=1)
    file = self._open(path, mode, buffering=buffering, **kwargs)
    later = WritingLater(file, self._async_executor, callback_after_file_close)
    vars(self).setdefault("_later", {}).setdefault(path, []).append(later)
    return later


def _async_join(self: Any, path: str | None = None, **kwargs: Any) -> bool:
    waiting = vars(self).setdefault("_later", {})
    paths = list(waiting) if path is None else [path]
    went_well = [later.wait() for p in paths for later in waiting.pop(p, [])]  # waits for each
    return all(went_well)


def _async_close(self: Any, **kwargs: Any) -> bool:
    went_well = _async_join(self)
    if self._async_executor is not None:
        self._async_executor.shutdown()
        self._async_executor = None
    return went_well


def _opent(self: Any, path: str, mode: str = "r", buffering: int = 32, **kwargs: Any) -> Any:
    raise self._unsupported("opent")


def _set_cwd(self: Any, path: str | None, **kwargs: Any) -> bool:
    raise self._unsupported("set_cwd")


def _get_path_with_cwd(self: Any, path: str) -> str:
    return path


def _native_set_cwd(self: Any, path: str | None, **kwargs: Any) -> bool:
    if path is not None and not os.path.isdir(path):
        raise InputError(f"set_cwd: expected a folder; got {path!r}")
    self._cwd = path
    return True


def _native_get_path_with_cwd(self: Any, path: str) -> str:
    return os.path.normpath(os.path.join(getattr(self, "_cwd", None) or "", path))


def _native_plain(self: Any, path: str) -> str:
    path = os.fspath(path).removeprefix("file://")
    folder = getattr(self, "_cwd", None)
    return os.path.join(folder, path) if folder and path else path


def opent(self: Any, path: str, mode: str = "r", buffering: int = 32, **kwargs: Any) -> Any:
    """Open a table; handlers for tables define ``_opent``."""
    return self._handler(path)._opent(path, mode, buffering, **kwargs)


def opena(
    self: Any,
    path: str,
    mode: str = "r",
    buffering: int = -1,
    callback_after_file_close: Callable[[], Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Open a file for writing in another thread; call ``async_close`` at the program's end."""
    return self._handler(path)._opena(
        path, mode, callback_after_file_close, buffering=buffering, **kwargs
    )


def async_join(self: Any, *paths: str, **kwargs: Any) -> bool:
    """Wait until these files are written, all by default; return whether all went well."""
    if paths:
        went_well = [self._handler(path)._async_join(path, **kwargs) for path in paths]
    else:
        went_well = [handler._async_join(**kwargs) for handler in _handlers(self)]
    return all(went_well)


def async_close(self: Any, **kwargs: Any) -> bool:
    """Wait for all files and end the threads; return whether all went well."""
    went_well = [handler._async_close(**kwargs) for handler in _handlers(self)]
    return all(went_well)


def set_cwd(self: Any, path: str | None, **kwargs: Any) -> bool:
    """Read relative paths from this folder; None for that of the process."""
    return bool(self._handler(path or "")._set_cwd(path, **kwargs))


def set_logging(self: Any, enable_logging: bool = True) -> None:
    """Do nothing: operations are not recorded."""


def get_path_handler(self: Any, path: str) -> Any:
    """Return the handler of a path."""
    return self._handler(os.fspath(path))


def _handlers(manager: Any) -> list[Any]:
    every = [*manager._path_handlers.values(), manager._native, manager._fallback]
    return list({id(handler): handler for handler in every}.values())
