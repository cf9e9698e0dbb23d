"""Rows of a field of ``Instances`` that are no tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ObjectList"]

T = TypeVar("T")


class ObjectList(Generic[T]):
    """One entry an object, of sizes that differ; indexed as tensors are.

    Args:
        data: the entries.
    """

    def __init__(self, data: Sequence[T]) -> None:
        self.data = list(data)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[T]:
        return iter(self.data)

    def __getitem__(self, item: int | slice | Sequence[int] | torch.Tensor) -> Self:
        """Select by a number, a slice, numbers, or a bool mask; always a list again."""
        if torch.is_tensor(item):
            item = item.cpu()
            item = item.bool() if item.dtype == torch.uint8 else item
        chosen = torch.arange(len(self))[item].reshape(-1).tolist()
        return type(self)([self.data[i] for i in chosen])

    @classmethod
    def cat(cls, lists: Sequence[Self]) -> Self:
        """Join lists, one after another."""
        return cls([entry for one in lists for entry in one])

    def to(self, device: Any) -> Self:
        """Move all entries."""
        return type(self)([self._move(entry, device) for entry in self])

    @staticmethod
    def _move(entry: Any, device: Any) -> Any:
        return entry.to(device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"
