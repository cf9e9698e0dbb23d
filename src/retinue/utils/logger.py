"""Logging: set up once per run, messages that do not repeat, small tables.

Importing this sets nothing up; ``setup_logger`` does.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import IO, Any

from retinue.utils import env
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager
from retinue.utils.served_names import served_name
from retinue.utils.tables import format_table

__all__ = [
    "create_small_table",
    "log_every_n",
    "log_every_n_seconds",
    "log_first_n",
    "setup_logger",
]

D2_LOG_BUFFER_SIZE_KEY = "D2_LOG_BUFFER_SIZE"
DEFAULT_LOG_BUFFER_SIZE = 1024 * 1024
DATE_FORMAT = "%m/%d %H:%M:%S"
PLAIN_FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"

_GREEN, _RED, _END = "\x1b[32m", "\x1b[31m", "\x1b[0m"


class _ShortNames(logging.Formatter):
    """Formats with the root of loggers' names abbreviated: ``rt.utils.events``."""

    def __init__(self, form: str, *, root_name: str, abbrev_name: str) -> None:
        super().__init__(form, DATE_FORMAT)
        self._root_name = root_name + "."
        self._abbrev_name = abbrev_name + "." if abbrev_name else ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format a copy, so that other handlers see the whole name."""
        record = logging.makeLogRecord(record.__dict__)
        if record.name.startswith(self._root_name):
            record.name = self._abbrev_name + record.name.removeprefix(self._root_name)
        return super().formatMessage(record)


class _ConsoleFormatter(_ShortNames):
    """``[05/12 10:00:00 rt.utils.events]: message``, and the level before it from warnings on."""

    def __init__(self, *, root_name: str, abbrev_name: str, color: bool) -> None:
        green, end = (_GREEN, _END) if color else ("", "")
        form = f"{green}[%(asctime)s %(name)s]: {end}%(message)s"
        super().__init__(form, root_name=root_name, abbrev_name=abbrev_name)
        self._level_colors = (_RED, _END) if color else ("", "")

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        if record.levelno < logging.WARNING:
            return text
        start, end = self._level_colors
        level = "WARNING" if record.levelno == logging.WARNING else "ERROR"
        return f"{start}{level}{end} {text}"


class _StdoutHandler(logging.StreamHandler):
    """Writes to what ``sys.stdout`` is at the time, also when a notebook or test replaced it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The current standard output."""
        return sys.stdout


@functools.lru_cache  # so that calling it again with the same arguments adds no handlers
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "retinue",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Send a logger's messages of every level to the console and to a file.

    Args:
        output: a file ending in ``.txt`` or ``.log``, or a folder, which gets ``log.txt``; ranks
            above 0 write to ``log.txt.rankN``. None writes no file. Lines are as detectron2's:
            ``[05/12 10:00:00] rt.utils.events INFO: message``, names in full on ranks above 0.
        distributed_rank: only rank 0 writes to the console.
        color: color the console's prefix, if it is a terminal.
        name: the logger, e.g. ``"retinue"`` for all of the library.
        abbrev_name: written before the names of loggers below ``name``, instead of it; ``""``
            leaves it out.
        enable_propagation: hand messages on to the parent logger, too.
        configure_stdout: write to the console at all.
    """
    name = served_name(name)
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation

    if abbrev_name is None:
        abbrev_name = {"detectron2": "d2", "retinue": "rt"}.get(name, name)
    has_console = configure_stdout and distributed_rank == 0
    if has_console and not any(isinstance(h, _StdoutHandler) for h in logger.handlers):
        console = _StdoutHandler()
        console.setLevel(logging.DEBUG)
        is_terminal = bool(getattr(sys.stdout, "isatty", bool)())
        console.setFormatter(
            _ConsoleFormatter(root_name=name, abbrev_name=abbrev_name, color=color and is_terminal)
        )
        logger.addHandler(console)

    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        if distributed_rank > 0:
            path = f"{path}.rank{distributed_rank}"
        PathManager.mkdirs(os.path.dirname(path))
        stream = _cached_log_stream(path)
        if not any(getattr(handler, "stream", None) is stream for handler in logger.handlers):
            file = logging.StreamHandler(stream)
            file.setLevel(logging.DEBUG)
            short = abbrev_name if has_console else name
            file.setFormatter(_ShortNames(PLAIN_FORMAT, root_name=name, abbrev_name=short))
            logger.addHandler(file)
    return logger


@functools.cache  # loggers that write to the same file share it
def _cached_log_stream(filename: str) -> IO[str]:
    buffering = -1
    if "://" in filename:  # cloud storage is slow for many small writes
        buffering = int(env.read(D2_LOG_BUFFER_SIZE_KEY, str(DEFAULT_LOG_BUFFER_SIZE)))
    stream = PathManager.open(filename, "a", buffering=buffering)
    atexit.register(stream.close)
    return stream


_LOG_COUNTER: Counter[Any] = Counter()
_LOG_TIMER: dict[Any, float] = {}


def _find_caller() -> tuple[str, tuple[str, int, str]]:
    """Return the module name and the place of the code that called into this module."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "__main__")
    place = (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
    return ("retinue" if module == "__main__" else module), place


def log_first_n(
    lvl: int,
    msg: str,
    n: int = 1,
    *,
    name: str | None = None,
    key: str | Sequence[str] = "caller",
) -> None:
    """Log a message only the first ``n`` times.

    Args:
        lvl: the level, e.g. ``logging.INFO``.
        name: the logger; the caller's module by default.
        key: what counts as the same message: ``"caller"`` (the line of code), ``"message"`` (the
            text), or both.
    """
    keys = (key,) if isinstance(key, str) else tuple(key)
    if not keys or not set(keys) <= {"caller", "message"}:
        raise InputError(f"log_first_n: key must be 'caller', 'message' or both; got {key!r}")
    module, place = _find_caller()
    same = ("caller" in keys and place, "message" in keys and msg)
    _LOG_COUNTER[same] += 1
    if _LOG_COUNTER[same] <= n:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log a message the first time and then every ``n``-th time that this line of code runs."""
    module, place = _find_caller()
    _LOG_COUNTER[place] += 1
    if n == 1 or _LOG_COUNTER[place] % n == 1:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Log a message unless this line of code did so less than ``n`` seconds ago."""
    module, place = _find_caller()
    last, now = _LOG_TIMER.get(place), time.time()
    if last is None or now - last >= n:
        logging.getLogger(name or module).log(lvl, msg)
        _LOG_TIMER[place] = now


def create_small_table(small_dict: Mapping[str, Any]) -> str:
    """Return a table with the keys as headers and the values as its only row.

    >>> print(create_small_table({"AP": 40.206, "AP50": 61.0}))
    |   AP   |  AP50  |
    |:------:|:------:|
    | 40.206 | 61.000 |
    """
    return format_table([list(small_dict.values())], list(small_dict), align="center")


def _log_api_usage(identifier: str) -> None:
    """Tell PyTorch's own usage hook, which is off unless a site installed one."""
    import torch

    torch._C._log_api_usage_once("retinue." + identifier)
