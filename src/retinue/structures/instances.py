"""A table of what is known about the objects of one image: one row an object, one column a field.

Reading order: Instances.set states the one rule, that all fields are equally long; indexing,
moving and joining apply to every field.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import torch

from retinue.utils.errors import InputError, unknown_name

__all__ = ["Instances"]


class Instances:
    """The objects of one image, with fields such as ``pred_boxes``, ``scores``, ``gt_masks``.

    Invariant: all fields have the same length. A field is anything with a length that can be
    indexed: ``Boxes``, masks, ``Keypoints``, tensors, lists. Setting an attribute sets a field;
    attributes with a leading underscore are ordinary.

    Args:
        image_size: (height, width) of the image that coordinates refer to, in pixels.
        **kwargs: fields to begin with.

    Example:
        >>> found = Instances((480, 640), scores=torch.tensor([0.9, 0.3]))
        >>> found.pred_classes = torch.tensor([17, 3])
        >>> found[found.scores > 0.5].pred_classes
        tensor([17])
    """

    _image_size: tuple[int, int]
    _fields: dict[str, Any]

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        self._image_size = image_size
        self._fields = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._image_size

    def __setattr__(self, name: str, val: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, val)
        else:
            self.set(name, val)

    def __getattr__(self, name: str) -> Any:
        # Reached only by names that are no attribute; _fields itself is missing while unpickling.
        fields = self.__dict__.get("_fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(str(unknown_name("field of Instances", name, fields)), name=name)

    def set(self, name: str, value: Any) -> None:
        """Set a field; the first one decides how many instances there are.

        Raises:
            InputError: If ``value`` has another length than the fields that are there, or none,
                or the name is taken by a property.
        """
        try:
            length = len(value)
        except TypeError as error:
            raise InputError(
                f"Instances.set: field {name!r} must have one entry an instance;"
                f" got {type(value).__name__} {value!r}, which has no length"
            ) from error
        if self._fields and length != len(self):
            first = next(iter(self._fields))
            raise InputError(
                f"Instances.set: field {name!r} must have {len(self)} entries, as {first!r} has;"
                f" got {length}"
            )
        if name == "image_size":
            raise InputError(
                "Instances.set: image_size is no field; give it to Instances(image_size)"
            )
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Tell whether there is such a field."""
        return name in self._fields

    __contains__ = has

    def remove(self, name: str) -> None:
        """Remove a field.

        Raises:
            UnknownNameError: (a ``KeyError``) if there is none of that name.
        """
        self.get(name)
        del self._fields[name]

    def get(self, name: str) -> Any:
        """Return a field.

        Raises:
            UnknownNameError: (a ``KeyError``) if there is none of that name.
        """
        if name not in self._fields:
            raise unknown_name("field of Instances", name, self._fields)
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """Return the fields by name; the dict is the table itself, not a copy."""
        return self._fields

    def _like(self, fields: dict[str, Any]) -> Instances:
        """Make a table of the same image from fields that are known to be equally long."""
        new = Instances(self._image_size)
        new._fields = fields
        return new

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """Move every field that can be moved; the arguments go to its own ``to``."""
        return self._like(
            {
                name: value.to(*args, **kwargs) if hasattr(value, "to") else value
                for name, value in self._fields.items()
            }
        )

    def __getitem__(self, item: int | slice | torch.Tensor | Any) -> Instances:
        """Select rows of every field by an integer, a slice, indices or a bool mask.

        Raises:
            IndexError: If an integer is out of range.
        """
        if isinstance(item, Integral) and not isinstance(item, bool):
            if not -len(self) <= item < len(self):  # type: ignore[operator]
                raise IndexError(f"Instances: index {item} is out of range for {len(self)}")
            item = slice(item, None, len(self))  # one row, and every field stays a sequence
        return self._like({name: _select(value, item) for name, value in self._fields.items()})

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances: without any field, the number of instances is open")

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(
            "Instances: iterate over a field, or over `inst[i] for i in range(len(inst))`"
        )

    @staticmethod
    def cat(instance_lists: Sequence[Instances]) -> Instances:
        """Join tables of one image; the fields are those of the first table.

        Tensors and lists are joined, other fields by the ``cat`` of their class. A list of one
        table returns that table itself.

        Raises:
            InputError: If there is no table, one is none, sizes of the image differ, a field is
                missing from one, or a field is of a kind that can't be joined.
        """
        for index, instances in enumerate(instance_lists):
            if not isinstance(instances, Instances):
                raise InputError(
                    f"Instances.cat: element {index} must be Instances;"
                    f" got {type(instances).__name__}"
                )
        if not instance_lists:
            raise InputError("Instances.cat: expected at least one Instances; got none")
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        for index, instances in enumerate(instance_lists):
            if tuple(instances.image_size) != tuple(first.image_size):  # may be tensors
                raise InputError(
                    "Instances.cat: all must belong to one image; element 0 has image size"
                    f" {first.image_size}, element {index} has {instances.image_size}"
                )
        return first._like(
            {name: _join(name, [i.get(name) for i in instance_lists]) for name in first._fields}
        )

    def __str__(self) -> str:
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        height, width = self._image_size
        count = len(self) if self._fields else "unknown"
        return (
            f"{type(self).__name__}(num_instances={count}, image_height={height},"
            f" image_width={width}, fields=[{fields}])"
        )

    __repr__ = __str__


def _select(value: Any, item: Any) -> Any:
    """Index one field; a list takes masks and indices as a tensor does."""
    if isinstance(value, list) and not isinstance(item, slice):
        return [value[i] for i in torch.arange(len(value))[item].tolist()]
    return value[item]


def _join(name: str, values: list[Any]) -> Any:
    """Join one field of several tables."""
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(values, dim=0)
    if isinstance(first, list):
        return list(itertools.chain(*values))
    if hasattr(type(first), "cat"):
        return type(first).cat(values)
    raise InputError(
        f"Instances.cat: field {name!r} is a {type(first).__name__}; expected a tensor, a list, or"
        " a class with a `cat` method"
    )
