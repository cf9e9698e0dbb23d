"""A stopwatch."""

from __future__ import annotations

from time import perf_counter

__all__ = ["Timer"]


class Timer:
    """Measures wall-clock seconds from its making, with pauses left out."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start anew from zero."""
        self._start = perf_counter()
        self._before = 0.0  # seconds that ran before the last pause
        self._is_paused = False
        self._num_runs = 1

    def pause(self) -> None:
        """Stop the clock.

        Raises:
            ValueError: If it is stopped already.
        """
        if self._is_paused:
            raise ValueError("Timer.pause: expected a running timer; got a paused one")
        self._before += perf_counter() - self._start
        self._is_paused = True

    def is_paused(self) -> bool:
        """Say whether the clock stands still."""
        return self._is_paused

    def resume(self) -> None:
        """Let the clock go on.

        Raises:
            ValueError: If it is running.
        """
        if not self._is_paused:
            raise ValueError("Timer.resume: expected a paused timer; got a running one")
        self._start = perf_counter()
        self._is_paused = False
        self._num_runs += 1

    def seconds(self) -> float:
        """Return the seconds since the start, without the pauses."""
        return self._before + (0.0 if self._is_paused else perf_counter() - self._start)

    def avg_seconds(self) -> float:
        """Return ``seconds()`` divided by how many times the clock was started."""
        return self.seconds() / self._num_runs
