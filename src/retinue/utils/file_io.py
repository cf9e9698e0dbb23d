"""Files by path or address: ``PathManager``, and writes that are whole or absent.

``PathManager.open("detectron2://ImageNetPretrained/MSRA/R-50.pkl", "rb")`` reads from wherever the
prefix points to. Local paths, ``http(s)://`` and ``detectron2://`` are known; every other scheme
that fsspec has a file system for (``s3://``, ``gs://``, ``hf://``) works where its package is
installed. A handler of one's own is a ``PathHandler`` given to ``PathManager.register_handler``.

Reading order: atomic_write; PathHandler (what a handler can do); the handlers; PathManagerBase
(picks one by prefix).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from retinue.utils.cache import file_lock, get_cache_dir
from retinue.utils.download import DETECTRON2, cached_download, download, mirrors_of
from retinue.utils.errors import InputError
from retinue.utils.fsspec_handler import FsspecHandler
from retinue.utils.path_handler import AlreadyThereError, PathHandler, ReadOnlyError, utf8
from retinue.utils.whole_file import write_whole

__all__ = [
    "Detectron2Handler",
    "FsspecHandler",
    "HTTPURLHandler",
    "NativePathHandler",
    "PathHandler",
    "PathManager",
    "PathManagerBase",
    "ShortAddressHandler",
    "atomic_write",
    "file_lock",
    "get_cache_dir",
]


logger = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: str = "wb", *, encoding: str | None = None
) -> Iterator[IO[Any]]:
    """Open a file for writing that appears at ``path`` when the block ends without an error.

    The bytes go to a file beside it first, reach the disk, and take the name in one step. A crash
    leaves what was there before. An address is written by its handler when the block has ended.

    Example:
        >>> import tempfile; folder = tempfile.TemporaryDirectory()
        >>> path = os.path.join(folder.name, "a.txt")
        >>> with atomic_write(path, "w") as file:
        ...     _ = file.write("whole")
        >>> with open(path) as file:
        ...     file.read()
        'whole'
        >>> folder.cleanup()
    """
    path = os.fspath(path)
    if "://" not in path:
        with write_whole(path, mode, encoding=encoding) as file:
            yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.path.basename(path))
        with write_whole(local, mode, encoding=encoding) as file:
            yield file
        PathManager.copy_from_local(local, path, overwrite=True)


class NativePathHandler(PathHandler):
    """Paths of this machine, also written ``file://...``; takes what has no other handler."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["file://"]

    def _plain(self, path: str) -> str:
        return os.fspath(path).removeprefix("file://")

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        return self._plain(path)

    def _copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any
    ) -> bool:
        if not overwrite and os.path.exists(self._plain(dst_path)):
            raise AlreadyThereError(f"{dst_path} is already there; overwrite=True replaces it")
        return self._copy(local_path, dst_path, overwrite, **kwargs)

    def _open(
        self,
        path: str,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Callable[[str, int], int] | None = None,
        **kwargs: Any,
    ) -> IO[Any]:
        self._check_kwargs(kwargs)
        encoding = encoding or (None if "b" in mode else "utf-8")
        rest = (encoding, errors, newline, closefd, opener)
        return open(self._plain(path), mode, buffering, *rest)

    def _copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        source, target = self._plain(src_path), self._plain(dst_path)
        if not overwrite and os.path.exists(target):
            return self._refuse_to_replace(dst_path)
        with open(source, "rb") as reader, write_whole(target) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
        return True

    def _mv(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        source, target = self._plain(src_path), self._plain(dst_path)
        if os.path.exists(target):
            return self._refuse_to_replace(dst_path)
        shutil.move(source, target)
        return True

    def _exists(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return os.path.exists(self._plain(path))

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return os.path.isfile(self._plain(path))

    def _isdir(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return os.path.isdir(self._plain(path))

    def _ls(self, path: str, **kwargs: Any) -> list[str]:
        self._check_kwargs(kwargs)
        return os.listdir(self._plain(path))

    def _mkdirs(self, path: str, **kwargs: Any) -> None:
        self._check_kwargs(kwargs)
        if path := self._plain(path):  # dirname of a bare file name is empty
            os.makedirs(path, exist_ok=True)

    def _rm(self, path: str, **kwargs: Any) -> None:
        self._check_kwargs(kwargs)
        os.remove(self._plain(path))

    def _symlink(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        source, target = self._plain(src_path), self._plain(dst_path)
        if os.path.lexists(target):
            return self._refuse_to_replace(dst_path)
        if not os.path.exists(source):
            logger.error("%s is not there; no link to it was made", src_path)
            return False
        os.symlink(source, target)
        return True


class _DownloadedHandler(PathHandler):
    """Files that are read by way of a copy on this machine."""

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if set(mode) & set("wax+"):
            raise ReadOnlyError(f"{path}: can only be read; got mode {mode!r}")
        return open(self._get_local_path(path), mode, buffering, **utf8(mode, kwargs))

    def _exists(self, path: str, **kwargs: Any) -> bool:
        try:
            return os.path.exists(self._get_local_path(path, **kwargs))
        except OSError:
            return False

    _isfile = _exists

    def _isdir(self, path: str, **kwargs: Any) -> bool:
        return False


class HTTPURLHandler(_DownloadedHandler):
    """``http://``, ``https://`` and ``ftp://``: downloaded into the cache once, then read there."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["http://", "https://", "ftp://"]

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        self._check_kwargs(kwargs)
        return cached_download(path, force=force, cache_dir=cache_dir)


class Detectron2Handler(_DownloadedHandler):
    """``detectron2://``: the files that detectron2 publishes, such as the model zoo's weights.

    Args:
        mirrors: addresses or folders with the same files, tried first, before those that the
            environment names (``RETINUE_MIRRORS``).

    Example:
        ``PathManager.register_handler(Detectron2Handler(mirrors=["/mnt/weights/detectron2"]))``
    """

    PREFIX = "detectron2://"
    S3_DETECTRON2_PREFIX = DETECTRON2

    def __init__(self, mirrors: Sequence[str] = ()) -> None:
        super().__init__()
        self._mirrors = list(mirrors)

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def mirrors_of(self, path: str) -> list[str]:
        """Return the mirrors of a ``detectron2://`` path: the handler's, the environment's."""
        name = path[len(self.PREFIX) :]
        own = [f"{mirror.rstrip('/')}/{name}" for mirror in self._mirrors]
        address = self.S3_DETECTRON2_PREFIX + name
        return list(dict.fromkeys([*own, *mirrors_of(path), *mirrors_of(address)]))

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        address = self.S3_DETECTRON2_PREFIX + path[len(self.PREFIX) :]
        mirrors = self.mirrors_of(path)
        if not mirrors:  # by way of a handler that the user may have set for https://
            return PathManager.get_local_path(address, force=force, **kwargs)
        return download(address, force=force, mirrors=mirrors, **kwargs)


class ShortAddressHandler(_DownloadedHandler):
    """Files that a project publishes below one address, by a short form of it.

    Args:
        prefix: the short form, such as ``"meshrcnn://"``.
        address: what it stands for.
    """

    def __init__(self, prefix: str, address: str) -> None:
        super().__init__()
        self.prefix = prefix
        self.address = address

    def _get_supported_prefixes(self) -> list[str]:
        return [self.prefix]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        address = self.address + path.removeprefix(self.prefix)
        return PathManager.get_local_path(address, force=force, **kwargs)


class _LaterHandler(_DownloadedHandler):
    """Names of weights, whose table is looked up when asked for."""

    def __init__(self, prefix: str, module: str, handler: str) -> None:
        super().__init__()
        self._prefix, self._module, self._handler = prefix, module, handler

    def _get_supported_prefixes(self) -> list[str]:
        return [self._prefix]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        handler = getattr(importlib.import_module(self._module), self._handler)()
        return str(handler._get_local_path(path, force, **kwargs))


class PathManagerBase:
    """File operations that send each path to the handler with the longest matching prefix.

    Args:
        handlers: those to start with, in addition to this machine's files and fsspec's schemes.
    """

    def __init__(self, handlers: Sequence[PathHandler] = ()) -> None:
        self._path_handlers: dict[str, PathHandler] = {}
        self._native = NativePathHandler()
        self._fallback = FsspecHandler()
        for handler in (self._native, *handlers):
            self.register_handler(handler)

    def register_handler(self, handler: PathHandler, allow_override: bool = True) -> None:
        """Use ``handler`` for the prefixes it names.

        Raises:
            KeyError: If one of them has a handler already and ``allow_override`` is False.
            InputError: If it is no handler.
        """
        if not callable(getattr(handler, "_get_supported_prefixes", None)):
            raise InputError(f"register_handler: expected a PathHandler; got {handler!r}")
        for prefix in handler._get_supported_prefixes():
            if prefix in self._path_handlers and not allow_override:
                raise KeyError(f"prefix {prefix!r} has a handler: {self._path_handlers[prefix]!r}")
            self._path_handlers[prefix] = handler

    def set_strict_kwargs_checking(self, enable: bool) -> None:
        """Choose whether handlers refuse options that they do not know (they do by default)."""
        for handler in (*self._path_handlers.values(), self._native, self._fallback):
            handler._strict_kwargs_check = enable

    def _handler(self, path: str) -> PathHandler:
        matching = [prefix for prefix in self._path_handlers if path.startswith(prefix)]
        if matching:
            return self._path_handlers[max(matching, key=len)]
        return self._fallback if "://" in path else self._native

    def published_mirrors_of(self, address: str) -> list[str]:
        """Return where else a published file is looked for first, known by its web address.

        Of what detectron2 publishes, these are the mirrors of the ``Detectron2Handler`` in use.
        """
        handler = self._path_handlers.get(Detectron2Handler.PREFIX)
        if isinstance(handler, Detectron2Handler) and address.startswith(DETECTRON2):
            return handler.mirrors_of(handler.PREFIX + address.removeprefix(DETECTRON2))
        return mirrors_of(address)

    def open(
        self, path: str | os.PathLike[str], mode: str = "r", buffering: int = -1, **kwargs: Any
    ) -> IO[Any]:
        """Open a file as the builtin ``open`` does; text is UTF-8."""
        path = os.fspath(path)
        return self._handler(path)._open(path, mode, buffering=buffering, **kwargs)

    def get_local_path(
        self, path: str | os.PathLike[str], force: bool = False, **kwargs: Any
    ) -> str:
        """Return a path on this machine with the content of ``path``, downloading it if needed.

        Args:
            force: download anew even if the cache has it.
        """
        path = os.fspath(path)
        handler = self._handler(path)
        if force:  # handlers written for older interfaces do not know the option
            kwargs["force"] = True
        return handler._get_local_path(path, **kwargs)

    def copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any) -> bool:
        """Copy a file, also from one kind of storage to another.

        Returns:
            Whether it was copied; a file in the way stays, unless ``overwrite``, and the log says
            so.
        """
        source = self._handler(src_path)
        if source is self._handler(dst_path):
            return source._copy(src_path, dst_path, overwrite, **kwargs)
        return self._copy_across_handlers(src_path, dst_path, overwrite, **kwargs)

    def _copy_across_handlers(
        self, src_path: str, dst_path: str, overwrite: bool, **kwargs: Any
    ) -> bool:
        local = self._handler(src_path)._get_local_path(src_path)
        return self._handler(dst_path)._copy_from_local(local, dst_path, overwrite, **kwargs)

    def mv(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        """Move or rename a file within one kind of storage; return False if one is in the way."""
        if self._handler(src_path) is not self._handler(dst_path):
            raise ValueError(f"cannot move {src_path} to {dst_path}: other storage; copy, then rm")
        return self._handler(src_path)._mv(src_path, dst_path, **kwargs)

    def copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any
    ) -> bool:
        """Copy a file of this machine to ``dst_path``.

        Raises:
            AlreadyThereError: If there is a file, and ``overwrite`` is False.
        """
        handler = self._handler(dst_path)
        return handler._copy_from_local(local_path, dst_path, overwrite, **kwargs)

    def exists(self, path: str | os.PathLike[str], **kwargs: Any) -> bool:
        """Say whether there is a file or folder at ``path``."""
        return self._handler(os.fspath(path))._exists(os.fspath(path), **kwargs)

    def isfile(self, path: str | os.PathLike[str], **kwargs: Any) -> bool:
        """Say whether ``path`` is a file."""
        return self._handler(os.fspath(path))._isfile(os.fspath(path), **kwargs)

    def isdir(self, path: str | os.PathLike[str], **kwargs: Any) -> bool:
        """Say whether ``path`` is a folder."""
        return self._handler(os.fspath(path))._isdir(os.fspath(path), **kwargs)

    def ls(self, path: str | os.PathLike[str], **kwargs: Any) -> list[str]:
        """Return the names in a folder."""
        return self._handler(os.fspath(path))._ls(os.fspath(path), **kwargs)

    def mkdirs(self, path: str | os.PathLike[str], **kwargs: Any) -> None:
        """Make a folder and those above it; one that is there is fine."""
        self._handler(os.fspath(path))._mkdirs(os.fspath(path), **kwargs)

    def rm(self, path: str | os.PathLike[str], **kwargs: Any) -> None:
        """Delete a file."""
        self._handler(os.fspath(path))._rm(os.fspath(path), **kwargs)

    def symlink(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        """Make ``dst_path`` point to ``src_path``; return False if that is impossible."""
        return self._handler(src_path)._symlink(src_path, dst_path, **kwargs)


_MESHRCNN = "https://dl.fbaipublicfiles.com/meshrcnn/"
PathManager = PathManagerBase(
    [
        HTTPURLHandler(),
        Detectron2Handler(),
        _LaterHandler("catalog://", "retinue.checkpoint.catalog", "ModelCatalogHandler"),
        _LaterHandler("torchvision://", "retinue.checkpoint.published", "TorchvisionHandler"),
        _LaterHandler("timm://", "retinue.checkpoint.published", "TimmHandler"),
        ShortAddressHandler("meshrcnn://", f"{_MESHRCNN}pix3d/"),
        ShortAddressHandler("shapenet://", f"{_MESHRCNN}shapenet/"),
    ]
)
"""The path manager that the library uses; projects add their handlers to it."""
