"""Names of ``iopath.common.file_io`` that retinue itself does not use."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from typing import Any

from retinue.utils.download import download as fetch
from retinue.utils.file_io import HTTPURLHandler, PathManager, PathManagerBase

__all__ = [
    "LazyPath",
    "OneDrivePathHandler",
    "PathManagerFactory",
    "TabularIO",
    "download",
    "g_pathmgr",
]

g_pathmgr = PathManager
"""One manager for everyone, so that a handler registered with any of them is known to all."""


class LazyPath(os.PathLike[str]):
    """A path that is found out when it is first used.

    Args:
        func: returns it; called at most once.
    """

    def __init__(self, func: Callable[[], str]) -> None:
        self._func = func
        self._value: str | None = None

    def _get_value(self) -> str:
        if self._value is None:
            self._value = self._func()
        return self._value

    def __fspath__(self) -> str:
        return self._get_value()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_func", "_value"):  # absent while unpickling
            raise AttributeError(name)
        if self._value is None:
            raise AttributeError(f"LazyPath: {name!r} is known only once the path has been used")
        return getattr(self._value, name)

    def __getitem__(self, key: Any) -> str:
        if self._value is None:
            raise TypeError("LazyPath: it can be indexed only once the path has been used")
        return self._value[key]

    def __str__(self) -> str:
        return self._value if self._value is not None else super().__str__()


class TabularIO:
    """What a reader of tables provides: a context manager to iterate over."""

    def __enter__(self) -> TabularIO:
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        """Close what was opened; nothing by default."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class OneDrivePathHandler(HTTPURLHandler):
    """Files shared from OneDrive by their short addresses."""

    ONE_DRIVE_PREFIX = "https://1drv.ms/u/s!"

    def create_one_drive_direct_download(self, one_drive_url: str) -> str:
        """Return the address of the file itself for the address that OneDrive shares."""
        token = base64.urlsafe_b64encode(one_drive_url.encode()).decode().rstrip("=")
        return f"https://api.onedrive.com/v1.0/shares/u!{token}/root/content"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.ONE_DRIVE_PREFIX]

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        url = self.create_one_drive_direct_download(os.fspath(path))
        return super()._get_local_path(url, force=force, cache_dir=cache_dir, **kwargs)


class PathManagerFactory:
    """Path managers by name."""

    GLOBAL_PATH_MANAGER = "global_path_manager"
    pm_list: dict[str, PathManagerBase] = {GLOBAL_PATH_MANAGER: g_pathmgr}  # noqa: RUF012

    @staticmethod
    def get(key: str = GLOBAL_PATH_MANAGER, defaults_setup: bool = False) -> PathManagerBase:
        """Return the manager called ``key``, made when first asked for."""
        return PathManagerFactory.pm_list.setdefault(key, PathManagerBase())

    @staticmethod
    def remove(key: str) -> None:
        """Forget a manager.

        Raises:
            KeyError: If there is none of that name.
        """
        del PathManagerFactory.pm_list[key]


def download(url: str, dir: str, *, filename: str | None = None, progress: bool = True) -> str:
    """Download a file into a folder, unless it is there; return its path."""
    path = os.path.join(dir, filename or url.rpartition("/")[2])
    if not os.path.exists(path):
        os.makedirs(dir, exist_ok=True)
        fetch(url, path)
    return path
