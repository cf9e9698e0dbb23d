"""What a path manager can do with the paths of one kind of storage."""

from __future__ import annotations

import logging
from typing import IO, Any

__all__ = ["AlreadyThereError", "PathHandler", "ReadOnlyError", "UnknownPrefixError", "utf8"]

logger = logging.getLogger(__name__)


class AlreadyThereError(FileExistsError, AssertionError):
    """A file that would be replaced without being asked to."""


class ReadOnlyError(OSError, AssertionError):
    """A file opened for writing whose storage can only be read."""


class UnknownPrefixError(FileNotFoundError, ValueError):
    """An address that no handler knows."""


class PathHandler:
    """What ``PathManager`` does with the paths that start with certain prefixes.

    A subclass overrides ``_get_supported_prefixes`` and those operations that its storage has.
    """

    _strict_kwargs_check = True

    def __init__(self, async_executor: Any = None) -> None:
        self._async_executor = async_executor

    def _check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Refuse options that no handler understands."""
        if self._strict_kwargs_check and kwargs:
            names = ", ".join(sorted(kwargs))
            raise ValueError(f"{type(self).__name__}: unknown options {names}; leave them out")

    def _refuse_to_replace(self, path: str) -> bool:
        """Say in the log that a file is in the way; return False, what the operation came to."""
        logger.error("%s is already there; pass overwrite=True, or remove it first", path)
        return False

    def _unsupported(self, operation: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} does not support {operation}")

    def _get_supported_prefixes(self) -> list[str]:
        raise self._unsupported("being registered: it names no prefixes")

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        raise self._unsupported("get_local_path")

    def _copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any
    ) -> bool:
        raise self._unsupported("copy_from_local")

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        raise self._unsupported("open")

    def _copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any) -> bool:
        raise self._unsupported("copy")

    def _mv(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        raise self._unsupported("mv")

    def _exists(self, path: str, **kwargs: Any) -> bool:
        raise self._unsupported("exists")

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        raise self._unsupported("isfile")

    def _isdir(self, path: str, **kwargs: Any) -> bool:
        raise self._unsupported("isdir")

    def _ls(self, path: str, **kwargs: Any) -> list[str]:
        raise self._unsupported("ls")

    def _mkdirs(self, path: str, **kwargs: Any) -> None:
        raise self._unsupported("mkdirs")

    def _rm(self, path: str, **kwargs: Any) -> None:
        raise self._unsupported("rm")

    def _symlink(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        raise self._unsupported("symlink")


def utf8(mode: str, options: dict[str, Any]) -> dict[str, Any]:
    """Add the encoding of text to the options of ``open``."""
    return options if "b" in mode else {"encoding": "utf-8"} | options
