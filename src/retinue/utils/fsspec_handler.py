"""Files of any scheme that fsspec has a file system for: ``s3://``, ``gs://``, ``hf://``."""

from __future__ import annotations

import os
import shutil
from typing import IO, Any

from retinue.utils.cache import cache_path, file_lock
from retinue.utils.download import OfflineError, is_offline
from retinue.utils.path_handler import (
    AlreadyThereError,
    PathHandler,
    UnknownPrefixError,
    utf8,
)
from retinue.utils.whole_file import describe_damage, write_whole

__all__ = ["FsspecHandler"]


class FsspecHandler(PathHandler):
    """Any scheme that fsspec has a file system for."""

    def _at(self, path: str) -> tuple[Any, str]:
        import fsspec

        try:
            fs, inner = fsspec.core.url_to_fs(path)
        except ImportError as error:
            extra = "hub" if path.startswith("hf://") else "cloud"
            raise ImportError(f"{path}: {error}; pip install 'retinue[{extra}]'") from error
        except ValueError as error:
            known = ", ".join(sorted(fsspec.available_protocols()))
            raise UnknownPrefixError(
                f"{path}: no handler for this prefix; fsspec has {known}; register a PathHandler"
            ) from error
        return fs, inner

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        target = cache_path(path)
        if os.path.isfile(target) and not force:
            return target
        if is_offline() and not path.startswith("memory://"):
            raise OfflineError(f"{path}: not in the cache ({target}), and downloads are off")
        fs, inner = self._at(path)
        with file_lock(target):
            if force or not os.path.isfile(target):  # another process may have fetched it
                self._fetch(fs, inner, path, target)
        return target

    def _fetch(self, fs: Any, inner: str, path: str, target: str) -> None:
        with fs.open(inner, "rb") as reader, write_whole(target) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            want, got = fs.size(inner), os.path.getsize(writer.name)
            problem = describe_damage(writer.name, target)
            if want not in (None, got):
                problem = f"expected {want:,} bytes; got {got:,}"
            if problem:
                raise OSError(f"{path}: not the right file: {problem}; nothing is kept")

    def _copy_from_local(
        self, local_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any
    ) -> bool:
        self._check_kwargs(kwargs)
        fs, inner = self._at(dst_path)
        if not overwrite and fs.exists(inner):
            raise AlreadyThereError(f"{dst_path} is already there; overwrite=True replaces it")
        fs.put_file(local_path, inner)
        return True

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        fs, inner = self._at(path)
        return fs.open(inner, mode, **utf8(mode, kwargs))

    def _copy(self, src_path: str, dst_path: str, overwrite: bool = False, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        fs, target = self._at(dst_path)
        if not overwrite and fs.exists(target):
            return self._refuse_to_replace(dst_path)
        fs.copy(self._at(src_path)[1], target)
        return True

    def _mv(self, src_path: str, dst_path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        fs, source = self._at(src_path)
        fs.mv(source, self._at(dst_path)[1])
        return True

    def _ask(self, question: str, path: str) -> bool:
        try:
            fs, inner = self._at(path)
        except UnknownPrefixError:  # nothing is there
            return False
        return bool(getattr(fs, question)(inner))

    def _exists(self, path: str, **kwargs: Any) -> bool:
        return self._ask("exists", path)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return self._ask("isfile", path)

    def _isdir(self, path: str, **kwargs: Any) -> bool:
        return self._ask("isdir", path)

    def _ls(self, path: str, **kwargs: Any) -> list[str]:
        fs, inner = self._at(path)
        return [os.path.basename(name.rstrip("/")) for name in fs.ls(inner, detail=False)]

    def _mkdirs(self, path: str, **kwargs: Any) -> None:
        fs, inner = self._at(path)
        fs.makedirs(inner, exist_ok=True)

    def _rm(self, path: str, **kwargs: Any) -> None:
        fs, inner = self._at(path)
        fs.rm_file(inner)
