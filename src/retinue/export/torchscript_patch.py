"""What detectron2 changes for a while so that TorchScript takes its models.

Tracing needs no change here, so ``patch_builtin_len`` makes none. What scripting needs is not
carried over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

from retinue.export.torchscript import INSTEAD

__all__ = [
    "freeze_training_mode",
    "patch_builtin_len",
    "patch_instances",
    "patch_nonscriptable_classes",
]


@contextlib.contextmanager
def patch_builtin_len(modules: Any = ()) -> Iterator[None]:
    """Change nothing: lengths are not traced."""
    yield


def patch_instances(fields: Any) -> NoReturn:
    """Raise ``NotImplementedError``: it is for TorchScript."""
    raise NotImplementedError(f"patch_instances: TorchScript {INSTEAD}")


def patch_nonscriptable_classes() -> NoReturn:
    """Raise ``NotImplementedError``: it is for TorchScript."""
    raise NotImplementedError(f"patch_nonscriptable_classes: TorchScript {INSTEAD}")


def freeze_training_mode(model: Any) -> NoReturn:
    """Raise ``NotImplementedError``: it is for TorchScript."""
    raise NotImplementedError(f"freeze_training_mode: TorchScript {INSTEAD}")
