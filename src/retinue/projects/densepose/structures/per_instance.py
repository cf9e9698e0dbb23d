"""A record of tensors that all have one row an instance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PerInstance"]


class PerInstance:
    """Base of dataclasses whose fields are ``(R, ...)`` tensors, R instances, or None."""

    def __len__(self) -> int:
        """R, by the first field that is there."""
        values = self._values().values()
        return next(len(value) for value in values if isinstance(value, torch.Tensor))

    def __getitem__(self, item: Any) -> Self:
        """Choose instances by number, slice, mask or list; a number gives a record of one."""
        rows = slice(item, item + 1 or None) if isinstance(item, int) else item
        return self._replaced(lambda value: value[rows])

    def to(self, device: torch.device) -> Self:
        """Move all tensors to a device."""
        return self._replaced(lambda value: value.to(device))

    def _values(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def _replaced(self, change: Any) -> Self:
        return type(self)(
            **{
                name: change(value) if isinstance(value, torch.Tensor) else value
                for name, value in self._values().items()
            }
        )
