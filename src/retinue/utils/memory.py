"""Going on when an accelerator's memory is full."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

__all__ = ["retry_if_cuda_oom"]

T = TypeVar("T")


@contextlib.contextmanager
def _ignore_torch_cuda_oom() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        pass
    except RuntimeError as error:  # other backends have no class of their own
        if "out of memory" not in str(error):
            raise


def retry_if_cuda_oom(func: Callable[..., T]) -> Callable[..., T]:
    """Make a function that tries again when memory runs out: with empty caches, then on the CPU.

    On the CPU the tensors among the arguments are copied there, and so is the result; a function
    that holds tensors itself (a module's method) still computes where those are.

    Example:
        ``masks = retry_if_cuda_oom(paste_masks_in_image)(masks, boxes, (height, width))``
    """

    def to_cpu(value: Any) -> Any:
        on_device = isinstance(value, torch.Tensor) and value.device.type != "cpu"
        return value.cpu() if on_device else value

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> T:
        for is_second_try in (False, True):
            if is_second_try:
                torch.cuda.empty_cache()
            with _ignore_torch_cuda_oom():
                return func(*args, **kwargs)
        name = getattr(func, "__qualname__", repr(func))
        logging.getLogger(__name__).info("%s: out of memory, going on with CPU copies", name)
        return func(*map(to_cpu, args), **{k: to_cpu(v) for k, v in kwargs.items()})

    return wrapped
