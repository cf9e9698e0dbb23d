"""The folder of downloaded files: where an address lies in it, and locks between processes."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
import urllib.parse
from collections.abc import Iterator
from typing import IO, Any

from retinue.utils import env

__all__ = ["cache_path", "file_lock", "get_cache_dir"]

MODEL_HOST = "dl.fbaipublicfiles.com"
"""Files of this host lie in the cache without the host's name, where detectron2 puts them."""

MAX_FILENAME = 200


def get_cache_dir(cache_dir: str | None = None) -> str:
    """Return ``cache_dir``, or the folder that the environment names, made if it isn't there.

    A folder that cannot be written is replaced by one below the system's temporary folder.
    """
    folder = os.path.expanduser(cache_dir) if cache_dir else env.cache_root()
    try:
        os.makedirs(folder, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        import tempfile

        fallback = os.path.join(tempfile.gettempdir(), "retinue_cache")
        logging.getLogger(__name__).warning("%s is not writable; caching in %s", folder, fallback)
        os.makedirs(fallback, exist_ok=True)
        return fallback
    return folder


def cache_path(url: str, cache_dir: str | None = None) -> str:
    """Return where the cache keeps ``url``; always below the cache folder, whatever the address."""
    parsed = urllib.parse.urlsplit(url)
    *folders, name = _plain_parts(parsed.path) or ["index"]
    if parsed.query:
        name = f"{hashlib.sha256(parsed.query.encode()).hexdigest()[:12]}_{name}"
    host = parsed.netloc.rpartition("@")[2]  # a password is no part of the path
    if host != MODEL_HOST:
        folders = [*(_plain_parts(host.replace(":", "_")) or ["local"]), *folders]
    parts = [_short(part) for part in (*folders, name)]
    return os.path.join(get_cache_dir(cache_dir), *parts)


def _plain_parts(path: str) -> list[str]:
    r"""Split at slashes; leave out what means "here" or "above" on any system."""
    parts = [re.sub(r"[\x00-\x1f:]", "_", part) for part in re.split(r"[/\\]", path)]
    return [part for part in parts if part.strip(". ")]


def _short(name: str) -> str:
    if len(name) <= MAX_FILENAME:
        return name
    return f"{name[:100]}_{hashlib.sha256(name.encode()).hexdigest()}{name[-20:]}"


@contextlib.contextmanager
def file_lock(path: str) -> Iterator[None]:
    """Hold a lock for ``path`` across threads and processes; a process that dies lets go of it."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".lock", "a+b") as file:
        _lock(file)
        try:
            yield
        finally:
            _unlock(file)


def _lock(file: IO[Any]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
                return
            except OSError:
                time.sleep(0.1)
    fcntl.flock(file, fcntl.LOCK_EX)


def _unlock(file: IO[Any]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_UN)
