"""Downloads that are cached, resumed and never half there.

A file is fetched into ``<name>.part`` beside its final place, under a lock that all processes on
the machine share, and renamed when its length is right. An interrupted download goes on where it
stopped, if the server says that the file is still the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import IO, Any

from retinue.utils import env

__all__ = ["cached_download", "download", "file_lock", "get_cache_dir"]

MODEL_HOST = "dl.fbaipublicfiles.com"
"""Files of this host lie in the cache without the host's name, where detectron2 puts them."""

MAX_FILENAME = 250
CHUNK = 1 << 20
RETRIES = 3


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


def cache_path(url: str, cache_dir: str | None = None) -> str:
    """Return where the cache keeps ``url``."""
    parsed = urllib.parse.urlparse(url)
    folder, _, name = parsed.path.strip("/").rpartition("/")
    if parsed.query:
        name = f"{hashlib.sha256(parsed.query.encode()).hexdigest()[:12]}_{name}"
    if len(name) > MAX_FILENAME:
        name = f"{name[:100]}_{hashlib.sha256(name.encode()).hexdigest()}"
    host = "" if parsed.hostname == MODEL_HOST else (parsed.netloc.replace(":", "_") or "local")
    parts = [part for part in folder.split("/") if part not in ("", ".", "..")]
    return os.path.join(get_cache_dir(cache_dir), host, *parts, name or "index")


def cached_download(url: str, *, force: bool = False, cache_dir: str | None = None) -> str:
    """Return the path of ``url`` on this machine, downloading it if it is not in the cache."""
    path = cache_path(url, cache_dir)
    if force or not os.path.isfile(path):
        with file_lock(path):
            if force or not os.path.isfile(path):  # another process may have fetched it meanwhile
                download(url, path)
    return path


def download(url: str, path: str) -> None:
    """Fetch ``url`` into ``path``; the file appears there whole or not at all.

    Raises:
        OSError: If the server refuses, or the connection breaks again and again.
    """
    logger = logging.getLogger(__name__)
    logger.info("Downloading %s to %s", url, path)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    for attempt in range(1, RETRIES + 1):
        try:
            _fetch(url, path + ".part")
            break
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what is there does not fit what the server has: start anew
                os.remove(path + ".part")
            elif error.code < 500 or attempt == RETRIES:
                raise OSError(
                    f"{url}: the server answered {error.code} {error.reason}; is the address"
                    " right? A file that you fetch by other means can be named by its path"
                ) from error
        except OSError as error:
            if attempt == RETRIES:
                raise OSError(
                    f"{url}: download failed {RETRIES} times ({error}); calling again goes on from"
                    f" the part in {path}.part"
                ) from error
        logger.warning("%s: attempt %d failed, trying again", url, attempt)
        time.sleep(0.2 * attempt)
    os.replace(path + ".part", path)
    with contextlib.suppress(FileNotFoundError):
        os.remove(path + ".part.tag")


def _fetch(url: str, part: str) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "retinue"})
    have, tag = _resume_point(part)
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    with urllib.request.urlopen(request, timeout=60) as response:
        resumed = getattr(response, "status", None) == 206
        length = response.headers.get("Content-Length")
        expected = None if length is None else int(length) + (have if resumed else 0)
        with open(part + ".tag", "w", encoding="utf-8") as file:
            file.write(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
        with open(part, "ab" if resumed else "wb") as file:
            shutil.copyfileobj(response, file, CHUNK)
    got = os.path.getsize(part)
    if expected is not None and got != expected:
        raise OSError(f"expected {expected} bytes; got {got}")


def _resume_point(part: str) -> tuple[int, str]:
    """Return how many bytes are there already, and the server's mark of their version."""
    try:
        with open(part + ".tag", encoding="utf-8") as file:
            tag = file.read()
        return (os.path.getsize(part), tag) if tag and not tag.startswith("W/") else (0, "")
    except OSError:
        return 0, ""
