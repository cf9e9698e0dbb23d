"""Messages of retinue under the names that detectron2's have.

Under the hook a message of ``retinue.engine.hooks`` is one of ``detectron2.engine.hooks``:
handlers, levels and filters set for the latter apply, and ``setup_logger()`` sets up
``detectron2``. What fvcore or a project's own package said there, it says here: the lines of the
checkpointer are those of ``fvcore.common.checkpoint``.
"""

from __future__ import annotations

import functools
import logging

from retinue.utils.served_names import serving

__all__ = ["connect", "disconnect"]

_OURS, _THEIRS = "retinue", "detectron2"

_OUTSIDE = {
    "retinue.checkpoint.checkpointer": "fvcore.common.checkpoint",
    "retinue.export.operator_analysis": "fvcore.nn.jit_analysis",
    "retinue.layers.precise_bn": "fvcore.nn.precise_bn",
    "retinue.utils.cache": "fvcore.common.file_io",
    "retinue.projects.densepose": "densepose",
    "retinue.projects.meshrcnn": "meshrcnn",
    "retinue.projects.point_sup": "point_sup",
    "retinue.projects.tensormask": "tensormask",
    "retinue.projects.tridentnet": "tridentnet",
}
"""Loggers, with all below them, that are not detectron2's there."""


@functools.cache
def _their_name(name: str) -> str:
    """
    >>> _their_name("retinue.projects.densepose.vis"), _their_name("retinue.engine.hooks")
    ('densepose.vis', 'detectron2.engine.hooks')
    """
    for ours, theirs in _OUTSIDE.items():
        if f"{name}.".startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    return _THEIRS + name.removeprefix(_OURS)


class _Renaming(logging.Handler):
    """Hands each message to the logger of detectron2's name."""

    def emit(self, record: logging.LogRecord) -> None:
        name = _their_name(record.name)
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
