"""Levels of the log."""

import logging

__all__ = ["verbosity_to_level"]


def verbosity_to_level(verbosity: int | None) -> int:
    """Return the level for how often ``-v`` was given: none, once, more often.

    >>> [verbosity_to_level(n) for n in (0, 1, 2)]
    [30, 20, 10]
    """
    levels = [logging.WARNING, logging.INFO, logging.DEBUG]
    return levels[min(verbosity or 0, 2)]
