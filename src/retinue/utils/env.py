"""The process's environment: variables, seeds, and one's own setup module.

This is the only module that reads environment variables. Each function reads when called, so that
a variable set after the import counts.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import logging
import os
import random
import sys
import time
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch

from retinue.utils.errors import InputError

__all__ = ["seed_all_rng"]

TORCH_VERSION = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
"""(major, minor) of the installed PyTorch."""

DOC_BUILDING = False
"""Kept for code that asks; the documentation is built from the library as it is."""

SETUP_VARIABLES = ("RETINUE_ENV_MODULE", "DETECTRON2_ENV_MODULE")


def read(names: str | Iterable[str], default: str = "") -> str:
    """Return the first of the environment variables ``names`` that is set, else ``default``."""
    names = [names] if isinstance(names, str) else names
    return next((value for n in names if (value := os.environ.get(n))), default)


def is_true(names: str | Iterable[str]) -> bool:
    """Say whether the first variable that is set says yes, not ``0``, ``false``, ``no``."""
    return read(names).strip().lower() not in ("", "0", "false", "no", "off")


def cache_root() -> str:
    """Return the folder for downloads: ``RETINUE_CACHE``, ``FVCORE_CACHE``, or the shared default.

    The default is the folder that detectron2 uses, so that its downloads are found.
    """
    return os.path.expanduser(read(("RETINUE_CACHE", "FVCORE_CACHE"), "~/.torch/iopath_cache"))


def datasets_root() -> str:
    """Return the builtin datasets' folder: ``RETINUE_DATASETS`` or ``DETECTRON2_DATASETS``."""
    return os.path.expanduser(read(("RETINUE_DATASETS", "DETECTRON2_DATASETS"), "datasets"))


def launcher_int(name: str, default: int) -> int:
    """Return a number that ``torchrun`` puts into the environment, such as ``LOCAL_RANK``."""
    return int(read(name, str(default)))


def seed_all_rng(seed: int | None = None) -> None:
    """Seed the generators of torch, numpy and Python.

    Args:
        seed: a number; None makes one from the clock, the process id and the system's entropy,
            and logs it.
    """
    if seed is None:
        entropy = int.from_bytes(os.urandom(4), "big")
        seed = (os.getpid() + time.time_ns() + entropy) % 2**31
        logging.getLogger(__name__).info("Using a generated random seed %d", seed)
    np.random.seed(seed)  # noqa: NPY002 - user code draws from the global generator
    torch.manual_seed(seed)
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)  # for the processes started from here


_is_set_up = False


def setup_environment() -> None:
    """Run the user's setup module once, if ``RETINUE_ENV_MODULE`` names one."""
    global _is_set_up
    if _is_set_up:
        return
    _is_set_up = True
    if module := read(SETUP_VARIABLES):
        setup_custom_environment(module)


def setup_custom_environment(custom_module: str) -> None:
    """Import a module (dotted name, or path ending in ``.py``) and call its ``setup_environment``.

    Raises:
        InputError: If the module has no such function.
    """
    if custom_module.endswith(".py"):
        module = _import_file("retinue_custom_environment", custom_module)
    else:
        module = importlib.import_module(custom_module)
    setup = getattr(module, "setup_environment", None)
    if not callable(setup):
        raise InputError(
            f"environment module {custom_module!r}: expected a function setup_environment();"
            f" got {setup!r}; define it, or unset {' and '.join(SETUP_VARIABLES)}"
        )
    setup()


def fixup_module_metadata(
    module_name: str, namespace: Mapping[str, Any], keys: Iterable[str] | None = None
) -> None:
    """Make public objects of ``namespace`` say that they live in ``module_name``.

    Only while documentation is built (``DOC_BUILDING``), for packages that re-export their parts.
    """
    if not DOC_BUILDING:
        return
    for key in namespace if keys is None else keys:
        home = getattr(namespace[key], "__module__", None)
        if not key.startswith("_") and isinstance(home, str) and home.startswith(module_name):
            namespace[key].__module__ = module_name


def _import_file(module_name: str, file_path: str, make_importable: bool = False) -> ModuleType:
    """Import the Python file at ``file_path`` as ``module_name``."""
    if not file_path.endswith(".py"):
        raise ImportError(f"{file_path}: not a Python file")
    loader = importlib.machinery.SourceFileLoader(module_name, file_path)
    module = ModuleType(module_name)
    module.__file__ = file_path
    loader.exec_module(module)
    if make_importable:
        sys.modules[module_name] = module
    return module
