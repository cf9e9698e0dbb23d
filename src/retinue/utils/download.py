"""Downloads that are cached, resumed, checked and never half there.

A file is fetched into ``<name>.part`` beside its final place, under a lock that all processes on
the machine share, and takes its name when length, hash (where known) and form are right. An
interrupted download goes on where it stopped, if the server says that the file is still the same.
``<name>.meta`` remembers where a file came from and its SHA-256.

Reading order: download; _fetch_from (one address, several attempts); _fetch (one request).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retinue.utils import env
from retinue.utils.cache import cache_path, file_lock, get_cache_dir
from retinue.utils.whole_file import describe_damage

__all__ = [
    "DownloadError",
    "OfflineError",
    "WrongContentError",
    "cache_path",
    "cached_download",
    "download",
    "file_lock",
    "get_cache_dir",
    "is_offline",
    "mirrors_of",
]

CHUNK = 1 << 20
RETRIES = 3
MAX_REQUESTS = 100
SLOWEST = 1024  # bytes a second, over a whole timeout, that still count as progress
DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"
"""What ``detectron2://`` stands for."""

# Names of files that the beginning of a hash is part of: on PyTorch's host, in detectron2's zoo.
HASHES_IN_NAMES = {
    "sha256": re.compile(r"https?://download\.pytorch\.org/.*-([0-9a-f]{8,64})\.(?:pth|pt|zip)"),
    "md5": re.compile(
        re.escape(DETECTRON2) + r"(?:COCO|LVISv0\.5|Cityscapes|PascalVOC|Detectron1|Misc)\b"
        r".*/model_final_([0-9a-f]{6})\.pkl"
    ),
}

Progress = Callable[[int, "int | None"], None]

logger = logging.getLogger(__name__)


class DownloadError(OSError):
    """A file that can't be fetched."""


class OfflineError(DownloadError):
    """A file that would have to be fetched, though the offline mode is on."""


class WrongContentError(DownloadError):
    """A file whose length, hash or form is not the expected one."""


class _AnewError(DownloadError):
    """A request that can't go on from what is there."""


def is_offline() -> bool:
    """Say whether the environment forbids downloads: ``RETINUE_OFFLINE`` or ``HF_HUB_OFFLINE``."""
    return env.is_true(("RETINUE_OFFLINE", "HF_HUB_OFFLINE"))


def mirrors_of(address: str) -> list[str]:
    """Return the mirrors of an address that the environment names, in order.

    ``RETINUE_MIRRORS`` is a list of ``PREFIX=PLACE``, separated by blanks: what begins with the
    prefix is looked for below the place first, an address or a folder. A place alone stands for
    ``detectron2://``, which is also found by what it stands for.
    """
    found = []
    names = (address, address.replace(DETECTRON2, "detectron2://"))
    for entry in env.read("RETINUE_MIRRORS").split():
        prefix, equals, place = entry.partition("=")
        if not equals or "://" not in prefix or "?" in prefix:
            prefix, place = "detectron2://", entry
        for name in names:
            if name.startswith(prefix):
                found.append(f"{place.rstrip('/')}/{name[len(prefix) :].lstrip('/')}")
    return list(dict.fromkeys(found))


def cached_download(url: str, *, force: bool = False, cache_dir: str | None = None) -> str:
    """Return the path of ``url`` on this machine, downloading it if it is not in the cache."""
    return download(url, force=force, cache_dir=cache_dir, mirrors=mirrors_of(url))


def download(
    url: str,
    path: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
    size: int | None = None,
    mirrors: Sequence[str] = (),
    force: bool = False,
    cache_dir: str | None = None,
    offline: bool | None = None,
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> str:
    """Fetch ``url`` once; the file appears at its path whole and right, or not at all.

    Args:
        url: ``http(s)://`` or ``ftp://``.
        path: file to write, or an existing folder for it; in the cache by default.
        sha256: the file's SHA-256 in hex, or its beginning (8 digits or more). Names of files have
            it on PyTorch's host, and a part of their MD5 in detectron2's zoo; these are checked
            by default.
        size: the file's length in bytes.
        mirrors: addresses or paths of the same file, tried first, in this order.
        force: fetch even if the file is there.
        cache_dir: another folder than the environment's.
        offline: whether to refuse to fetch; by default as the environment says (``is_offline``).
        timeout: seconds without data after which an attempt is given up.
        progress: called with the bytes that are there and the bytes in all (None if unknown).

    Returns:
        The path of the file.

    Raises:
        OfflineError: If it would have to be fetched in offline mode.
        WrongContentError: If length, hash or form are wrong, also after fetching it anew.
        DownloadError: (an ``OSError``) if servers refuse, or connections break again and again.
    """
    target = _target(url, path, cache_dir)
    hashes = _hashes_in_name(url) | ({"sha256": sha256} if sha256 else {})
    expected = _Expected(url, hashes, size)
    if not force and expected.is_met_by(target):
        return target
    if is_offline() if offline is None else offline:
        raise OfflineError(
            f"{url}: not in the cache, and downloads are off (RETINUE_OFFLINE or HF_HUB_OFFLINE);"
            f" allow them, or put the file at {target}"
        )
    with file_lock(target):
        if not force and expected.is_met_by(target):  # another process has fetched it meanwhile
            return target
        errors: list[DownloadError] = []
        for address in (*mirrors, url):
            logger.info("Downloading %s to %s", without_secrets(address), target)
            try:
                _fetch_from(address, target, expected, timeout, progress or _LogProgress(target))
                return target
            except DownloadError as error:
                errors.append(error)
                logger.warning("%s", error)
        kind = WrongContentError if isinstance(errors[-1], WrongContentError) else DownloadError
        raise kind("; ".join(map(str, errors))) from errors[-1]


def _target(url: str, path: str | os.PathLike[str] | None, cache_dir: str | None) -> str:
    if path is None:
        return cache_path(url, cache_dir)
    path = os.fspath(path)
    return os.path.join(path, os.path.basename(cache_path(url))) if os.path.isdir(path) else path


def _hashes_in_name(url: str) -> dict[str, str]:
    plain = url.partition("?")[0]
    found = {kind: pattern.fullmatch(plain) for kind, pattern in HASHES_IN_NAMES.items()}
    return {kind: match[1] for kind, match in found.items() if match}


class _Expected:
    """What is known of a file before it is fetched."""

    def __init__(self, url: str, hashes: Mapping[str, str], size: int | None) -> None:
        sha256 = hashes.get("sha256")
        if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{8,64}", sha256):
            raise ValueError(f"sha256 must be 8 to 64 hex digits; got {sha256!r}")
        self.url, self.size = url, size
        self.hashes = {kind: text.lower() for kind, text in hashes.items()}

    def is_met_by(self, path: str) -> bool:
        """Say whether the file is there and is the right one, as far as that is known."""
        if not os.path.isfile(path):
            return False
        problem = self.problem(path, _read_meta(path))
        if problem:
            logger.warning("%s: %s; it is fetched anew", path, problem)
        return not problem

    def problem(self, path: str, meta: dict[str, Any]) -> str:
        """Say what is wrong with a file, or return an empty string."""
        got = os.path.getsize(path)
        if self.size is not None and got != self.size:
            return f"expected {self.size:,} bytes; got {got:,}"
        if "size" in meta and got != meta["size"]:
            return f"it had {meta['size']:,} bytes when it was fetched; now {got:,}"
        for kind, published in self.hashes.items():
            digest = meta.get(kind) or _digest(path, kind)
            if not digest.startswith(published):
                title = {"sha256": "SHA-256", "md5": "MD5"}[kind]
                return f"expected {title} {published}; got {digest[: len(published)]}"
        return ""


def _fetch_from(
    address: str, target: str, expected: _Expected, timeout: float, progress: Progress
) -> None:
    part = target + ".part"
    for is_second in (False, True):
        resumed = _fetch_with_retries(address, part, timeout, progress)
        digests = {kind: _digest(part, kind) for kind in ("sha256", *expected.hashes)}
        problem = expected.problem(part, digests) or describe_damage(part, target)
        if not problem:
            break
        _remove_part(part)
        if is_second or not resumed:  # what was there before may have been wrong: once more
            raise WrongContentError(
                f"{without_secrets(address)}: not the right file: {problem}; nothing is kept. Try"
                f" another address or mirror, or put the file at {target}"
            )
    meta = {"url": expected.url, "size": os.path.getsize(part), **digests}
    with contextlib.suppress(FileNotFoundError):
        os.remove(target + ".meta")  # so that no older one is beside the new file
    os.replace(part, target)
    _remove_part(part)
    with open(target + ".meta.tmp", "w", encoding="utf-8") as file:
        json.dump(meta, file)
    os.replace(target + ".meta.tmp", target + ".meta")


def _fetch_with_retries(address: str, part: str, timeout: float, progress: Progress) -> bool:
    """Fetch ``address`` into ``part``; return whether an earlier part was gone on with."""
    resumed = False
    failures = 0
    for _ in range(MAX_REQUESTS):
        before = os.path.getsize(part) if os.path.isfile(part) else 0
        try:
            return _fetch(address, part, timeout, progress) or resumed
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:  # what is there does not fit what the server has: start anew
                    _remove_part(part)
                elif error.code < 500 and error.code not in (408, 429):
                    raise DownloadError(_refusal(address, part, error)) from error
            reason = f"the server answered {error.code} {error.reason}"
        except _AnewError as error:
            reason = str(error)
            _remove_part(part)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        now = os.path.getsize(part) if os.path.isfile(part) else 0
        resumed |= before > 0
        failures = 0 if now > before > 0 else failures + 1  # going on is no failure
        if failures >= RETRIES:
            break
        logger.warning("%s: %s; trying again", without_secrets(address), reason)
        time.sleep(0.2 * max(failures, 1))
    raise DownloadError(
        f"{without_secrets(address)}: download failed {RETRIES} times ({reason});"
        f" {_proxy_advice()}; calling again goes on from the part in {part}"
    )


def _fetch(address: str, part: str, timeout: float, progress: Progress) -> bool:
    """Make one request; return whether it went on from what was there."""
    os.makedirs(os.path.dirname(os.path.abspath(part)), exist_ok=True)
    if "://" not in address or address.startswith("file://"):
        _remove_part(part)
        shutil.copyfile(address.removeprefix("file://"), part)
        return False
    request = urllib.request.Request(address, headers={"User-Agent": "retinue"})
    have, tag = _resume_point(part)
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        resumed = have > 0 and getattr(response, "status", None) == 206
        _check_headers(response, have if resumed else 0)
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length) + (have if resumed else 0)
        with open(part + ".tag", "w", encoding="utf-8") as file:
            file.write(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
        with open(part, "ab" if resumed else "wb") as file:
            _copy(response, file, total, timeout, progress)
    got = os.path.getsize(part)
    if total is not None and got != total:
        raise OSError(f"the connection ended after {got:,} of {total:,} bytes")
    return resumed


def _check_headers(response: Any, start: int) -> None:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise OSError(f"the server sent the file encoded as {encoding!r}, which nobody asked for")
    content_range = response.headers.get("Content-Range", "")
    if start and content_range and not content_range.startswith(f"bytes {start}-"):
        raise _AnewError(
            f"asked for the bytes from {start:,} on; the server sent {content_range!r}"
        )


def _copy(response: Any, file: Any, total: int | None, timeout: float, progress: Progress) -> None:
    """Copy what comes as it comes, so that a server that trickles is noticed."""
    read = getattr(response, "read1", response.read)
    since, got = time.monotonic(), 0
    while chunk := read(CHUNK):
        file.write(chunk)
        got += len(chunk)
        if total is not None and file.tell() > total:
            raise OSError(f"the server sent more than the {total:,} bytes that it named")
        progress(file.tell(), total)
        if time.monotonic() - since > timeout:
            if got < SLOWEST * timeout:
                raise OSError(f"only {got:,} bytes came in {timeout:.0f} seconds")
            since, got = time.monotonic(), 0


class _LogProgress:
    """Logs how far a download is, every ten seconds."""

    def __init__(self, path: str) -> None:
        self._name, self._said = os.path.basename(path), time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() - self._said < 10:
            return
        self._said = time.monotonic()
        of_all = f" of {total / 1e6:.0f} MB, {done / total:.0%}" if total else " MB"
        logger.info("%s: %.0f%s", self._name, done / 1e6, of_all)


def _refusal(address: str, part: str, error: urllib.error.HTTPError) -> str:
    advice = "is the address right?"
    if error.code in (403, 407):
        advice = _proxy_advice()
    return (
        f"{without_secrets(address)}: the server answered {error.code} {error.reason}; {advice} A"
        f" file that you fetch by other means is found at {part.removesuffix('.part')}"
    )


def _proxy_advice() -> str:
    proxies = urllib.request.getproxies()
    used = proxies.get("https") or proxies.get("http")
    if used:
        return f"it went through the proxy {without_secrets(used)} that the environment names"
    return "where a proxy is needed, name it in HTTPS_PROXY"


def without_secrets(address: str) -> str:
    """Return an address as it may stand in a log: without password, signature and token.

    >>> without_secrets("https://me:word@host/a.pth?version=2&X-Amz-Signature=af91")
    'https://***@host/a.pth?version=2&X-Amz-Signature=***'
    """
    address = re.sub(r"(?<=://)[^/@\s]+@", "***@", address)
    secret = r"[?&][^=&]*(?:sig|token|credential|key|password|secret)[^=&]*="
    return re.sub(rf"(?i)({secret})[^&\s]+", r"\1***", address)


def _resume_point(part: str) -> tuple[int, str]:
    """Return how many bytes are there already, and the server's mark of their version."""
    try:
        with open(part + ".tag", encoding="utf-8") as file:
            tag = file.read()
        return (os.path.getsize(part), tag) if tag and not tag.startswith("W/") else (0, "")
    except OSError:
        return 0, ""


def _remove_part(part: str) -> None:
    for path in (part, part + ".tag"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def _read_meta(path: str) -> dict[str, Any]:
    """Read what is remembered of a download; empty for a file that came by other means."""
    try:
        with open(path + ".meta", encoding="utf-8") as file:
            meta = json.load(file)
        return meta if isinstance(meta, dict) else {}
    except (OSError, ValueError):
        return {}


def _digest(path: str, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
