"""Weights of published models: downloaded once, resumed, and checked.

A file is whole if it has the length that the server announced, room for the model's parameters,
and the hashes that are published for it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from retinue.model_zoo.entries import Entry, UnknownModelError, find_entry
from retinue.utils.download import Progress
from retinue.utils.download import download as fetch
from retinue.utils.file_io import PathManager

__all__ = ["WeightsError", "check_weights", "download"]

CHUNK = 1 << 20
MIN_BYTES_EACH = 2  # a parameter in half precision


class WeightsError(OSError):
    """A file of weights is not what was published."""


def download(name: str, *, force: bool = False, progress: Progress | None = None) -> Path:
    """Return the published weights of a model as a file of the cache, downloaded if need be.

    A download that was cut off goes on where it stopped.

    Args:
        name: the model's name, in full or its last part.
        force: download again what is there.
        progress: called with the bytes that are there and the bytes in all (None if unknown).

    Raises:
        UnknownModelError: (a ``RuntimeError``) If there is no such model, or no weights for it.
        OSError: If the server cannot be reached, or the file is not what was published; such a
            file is not kept.
    """
    entry = find_entry(name)
    if not entry.url:
        raise UnknownModelError(f"model {entry.name!r}: no trained weights are published")
    path = Path(
        fetch(
            entry.url,
            sha256=entry.sha256 or None,
            mirrors=PathManager.published_mirrors_of(entry.url),
            force=force,
            progress=progress,
        )
    )
    try:
        check_weights(path, entry)
    except WeightsError as error:
        path.unlink()
        raise WeightsError(f"{error}; it was deleted, download it again") from None
    return path


def check_weights(path: str | os.PathLike[str], entry: Entry) -> list[str]:
    """Check a file against what is published of it; return the names of what was checked.

    Raises:
        WeightsError: (an ``OSError``) If its size or one of its hashes differs.
    """
    size = os.path.getsize(path)
    checked = []
    if entry.parameters is not None:
        least = MIN_BYTES_EACH * entry.parameters
        if size < least:
            raise WeightsError(
                f"{path}: expected {least:,} bytes or more, room for {entry.parameters:,}"
                f" parameters; got {size:,}"
            )
        checked.append("size")
    for kind, published in (("md5", entry.md5), ("sha256", entry.sha256)):
        if not published:
            continue
        got = _hash_of(path, kind)
        if not got.startswith(published):
            begins = " that begins" if len(published) < len(got) else ""
            raise WeightsError(
                f"{path}: expected the {kind.upper()}{begins} {published}; got {got}"
            )
        checked.append(kind.upper())
    return checked


def _hash_of(path: str | os.PathLike[str], kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
