"""Messages of retinue under the names that detectron2's have.

Under the hook a message of ``retinue.engine.hooks`` is one of ``detectron2.engine.hooks``:
handlers, levels and filters set for the latter apply, and ``setup_logger()`` sets up
``detectron2``.
"""

from __future__ import annotations

import logging

from retinue.utils.served_names import serving

__all__ = ["connect", "disconnect"]

_OURS, _THEIRS = "retinue", "detectron2"


class _Renaming(logging.Handler):
    """Hands each message to the logger of detectron2's name."""

    def emit(self, record: logging.LogRecord) -> None:
        name = _THEIRS + record.name.removeprefix(_OURS)
        target = logging.getLogger(name)
        if target.isEnabledFor(record.levelno):
            copy = logging.makeLogRecord(record.__dict__)
            copy.name = name
            target.handle(copy)


_handler = _Renaming()
_before: list[tuple[int, bool]] = []


def connect() -> None:
    """Send retinue's messages to the loggers of detectron2."""
    ours = logging.getLogger(_OURS)
    _before.append((ours.level, ours.propagate))
    ours.setLevel(1)  # the levels of detectron2's loggers count
    ours.propagate = False
    ours.addHandler(_handler)
    serving[_OURS] = _THEIRS


def disconnect() -> None:
    """Undo ``connect``."""
    ours = logging.getLogger(_OURS)
    level, ours.propagate = _before.pop()
    ours.setLevel(level)
    ours.removeHandler(_handler)
    del serving[_OURS]
