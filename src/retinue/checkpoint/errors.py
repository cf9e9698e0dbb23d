"""What can be wrong with a checkpoint."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from retinue.utils.restricted_pickle import ForbiddenNameError, RestrictedPickleError

__all__ = ["CheckpointError", "DamagedFileError", "MissingCheckpointError", "pickle_errors"]


class CheckpointError(RuntimeError, ValueError):
    """A checkpoint that can't be used as asked."""


class DamagedFileError(CheckpointError):
    """A checkpoint file that is not whole, or claims what it doesn't hold."""


class MissingCheckpointError(FileNotFoundError, AssertionError):
    """A checkpoint that is not there."""


@contextlib.contextmanager
def pickle_errors(path: str) -> Iterator[None]:
    """Turn the errors of reading pickles into those of checkpoints."""
    try:
        yield
    except ForbiddenNameError as error:
        raise CheckpointError(str(error)) from error
    except RestrictedPickleError as error:
        reason = str(error).removeprefix(f"{path}: ")
        if inner := re.fullmatch(r"not a whole pickle file \((.*)\)", reason, re.DOTALL):
            reason = inner[1]
        raise DamagedFileError(f"{path}: not a whole checkpoint file ({reason})") from error
