"""What ``torch.save`` wrote, read without running code from it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from retinue.checkpoint.errors import CheckpointError, DamagedFileError, pickle_errors
from retinue.utils import restricted_pickle
from retinue.utils.file_io import PathManager
from retinue.utils.plain_objects import STAND_INS
from retinue.utils.torch_archive import inspect_torch_file

__all__ = ["read_torch_file"]


def read_torch_file(
    path: str, path_manager: Any = PathManager, *, trust: bool = False, mmap: bool = False
) -> Any:
    """Read what ``torch.save`` wrote, on the CPU, without running code from it.

    The file is looked through first (``inspect_torch_file``); then PyTorch reads it with
    ``weights_only=True``, with stand-ins for arrays, structures and configs.

    Args:
        path: the file.
        path_manager: opens the path.
        trust: run whatever code the file holds; the log says so.
        mmap: leave tensors in the file until they are used.

    Raises:
        DamagedFileError: If the file is not whole, or claims more than it holds.
        CheckpointError: If it holds more than tensors, arrays, structures and plain data.
    """
    with path_manager.open(path, "rb") as file, pickle_errors(path):
        if trust:
            restricted_pickle.logger.warning(
                "%s: read with trust=True, which runs any code that the file holds", path
            )
            return torch.load(file, map_location="cpu", weights_only=False)
        inspect_torch_file(file, path)
        file.seek(0)
        mmap = mmap and os.path.isfile(path) and file.read(2) == b"PK"
        file.seek(0)
        with torch.serialization.safe_globals(_torch_names()):
            try:
                loaded = torch.load(
                    path if mmap else file, map_location="cpu", weights_only=True, mmap=mmap
                )
            except Exception as error:  # a damaged file fails in many ways
                raise _torch_error(path, error) from error
        return restricted_pickle.finish(loaded)


def _torch_names() -> list[Any]:
    """List what stands for names that ``weights_only`` doesn't know, each with its name."""
    known: Mapping[str, Any] = {**restricted_pickle.NUMPY_NAMES, **STAND_INS}
    return [(stand_in, name) for name, stand_in in known.items()]


def _torch_error(path: str, error: Exception) -> CheckpointError:
    reason = str(error).strip()
    if refused := re.search(r"nsupported (?:global: )?GLOBAL ([\w.]+)", reason):
        return CheckpointError(f"{path}: names {refused[1]!r}, which this PyTorch does not read")
    first_line = (reason or type(error).__name__).splitlines()[0]
    if "weights_only" in first_line:  # PyTorch's advice here is to run code from the file
        first_line = "it is not in PyTorch's format"
    return DamagedFileError(f"{path}: not a whole checkpoint file ({first_line})")
