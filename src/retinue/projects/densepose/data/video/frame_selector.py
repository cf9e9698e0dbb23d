"""Choosing frames of a video by their time stamps."""

import random
from collections.abc import Callable
from enum import Enum

__all__ = [
    "FirstKFramesSelector",
    "FrameSelectionStrategy",
    "FrameSelector",
    "FrameTsList",
    "LastKFramesSelector",
    "RandomKFramesSelector",
]

FrameTsList = list[int]
FrameSelector = Callable[[FrameTsList], FrameTsList]


class FrameSelectionStrategy(Enum):
    """Which frames are chosen."""

    RANDOM_K = "random_k"
    FIRST_K = "first_k"
    LAST_K = "last_k"
    ALL = "all"


class RandomKFramesSelector:
    """Chooses ``k`` frames at random, all if there are fewer."""

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, frame_tss: FrameTsList) -> FrameTsList:
        """Return the chosen ones, in random order."""
        return random.sample(frame_tss, min(self.k, len(frame_tss)))


class FirstKFramesSelector:
    """Chooses the first ``k`` frames."""

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, frame_tss: FrameTsList) -> FrameTsList:
        """Return the chosen ones."""
        return frame_tss[: self.k]


class LastKFramesSelector:
    """Chooses the last ``k`` frames."""

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, frame_tss: FrameTsList) -> FrameTsList:
        """Return the chosen ones."""
        return frame_tss[max(len(frame_tss) - self.k, 0) :]
