"""Reading the project's data files, which are pickles, without running code from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from retinue.utils.file_io import PathManager
from retinue.utils.restricted_pickle import load

__all__ = ["copy_arrays", "read_object_array", "read_pickle"]


def read_pickle(path: str, *, trust: bool = False) -> Any:
    """Read a pickle of plain data and arrays from a path or an address.

    Args:
        path: the file.
        trust: run whatever code the file holds; the log says so. For files of your own only.

    Raises:
        OSError: If it can't be read.
        RestrictedPickleError: If it holds anything else.
    """
    with PathManager.open(path, "rb") as file:
        return load(file, name=path, trust=trust)


def read_object_array(path: str) -> Any:
    """Read an array of objects that ``np.save`` wrote: a header, then a pickle.

    Raises:
        OSError: If it can't be read.
        RestrictedPickleError: If it holds more than plain data and arrays.
    """
    with PathManager.open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return load(file, name=path)


@torch.no_grad()
def copy_arrays(path: str, module: nn.Module, names: Sequence[str]) -> None:
    """Copy arrays of a pickled dict to tensors of a module, those of ``names`` that are there."""
    content = read_pickle(path)
    for name in names:
        if name in content:
            getattr(module, name).copy_(torch.as_tensor(content[name]))
