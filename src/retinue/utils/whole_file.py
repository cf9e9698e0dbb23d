"""Files and folders that are whole or absent: writing them so, telling a whole from a cut one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["describe_damage", "new_folder", "put_folder", "write_whole"]

MAX_HEADER = 100_000_000
"""Bytes of a safetensors header at most, as the format's own reader has it."""


@contextlib.contextmanager
def write_whole(path: str, mode: str = "wb", *, encoding: str | None = None) -> Iterator[IO[Any]]:
    """Open a file of this machine that appears at ``path`` when the block ends without an error.

    The bytes go to a file beside it first, reach the disk, and take the name in one step. A crash
    leaves what was there before. ``retinue.utils.file_io.atomic_write`` does this for addresses,
    too.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:12]}.tmp")
    if encoding is None and "b" not in mode:
        encoding = "utf-8"
    try:
        with open(temporary, mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Give a folder to write into that takes the place of ``path`` when the block has ended.

    A folder that is there already is replaced.
    """
    path = os.path.abspath(path)
    temporary = f"{path}.{uuid.uuid4().hex[:12]}.tmp"
    os.makedirs(temporary)
    try:
        yield temporary
        put_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_folder(temporary: str, path: str) -> None:
    """Give a folder its final name; one of that name goes when the new one is in its place."""
    old = f"{path}.{uuid.uuid4().hex[:12]}.old"
    had_one = os.path.isdir(path)
    if had_one:
        os.rename(path, old)
    os.rename(temporary, path)
    if had_one:
        shutil.rmtree(old, ignore_errors=True)


def describe_damage(path: str, name: str = "") -> str:
    """Say why a file can't be what its name says, or return an empty string.

    Only what shows without reading the file through: ends of archives and pickles, lengths that a
    header names, and pages of HTML in the place of data.

    Args:
        path: the file.
        name: its name, whose ending counts; that of ``path`` by default.
    """
    ending = os.path.splitext(name or path)[1].lower()
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(512)
        file.seek(max(size - 1, 0))
        last = file.read()
    if ending in _DATA and start.lstrip()[:1] == b"<":
        return "it is a web page; is it the login page of a proxy, or a page about the file?"
    if ending == ".safetensors":
        return _safetensors_damage(path, size)
    if start.startswith(b"PK") and ending in _ZIPPED and not zipfile.is_zipfile(path):
        return "its end is missing"
    if ending in (".pkl", ".pickle") and last != b".":
        return "its end is missing"
    if ending == ".gz" and not start.startswith(b"\x1f\x8b"):
        return "it is not compressed by gzip"
    return ""


_ZIPPED = (".pth", ".pt", ".pyth", ".ckpt", ".zip", ".npz")
_DATA = (*_ZIPPED, ".pkl", ".pickle", ".safetensors", ".json", ".yaml", ".yml", ".gz", ".bin")


def _safetensors_damage(path: str, size: int) -> str:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER):
            return f"its header claims {length:,} bytes, the file has {size:,}"
        try:
            header = json.loads(file.read(length))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return "its header is not in the format"
    return "" if size == expected else f"expected {expected:,} bytes; got {size:,}"
