"""Nested inputs and outputs as flat tuples of tensors, and back.

``flatten_to_tuple`` takes lists, tuples, dicts, ``Instances`` and boxes apart and returns a schema
that puts them together again; a schema is plain data, so it can be saved beside an exported model.
``TracingAdapter`` wraps a model so that an exporter sees tensors only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from retinue.structures import Boxes, Instances, ROIMasks
from retinue.utils.errors import InputError
from retinue.utils.registry import _convert_target_to_string, locate

__all__ = [
    "DictSchema",
    "IdentitySchema",
    "InstancesSchema",
    "ListSchema",
    "Schema",
    "TensorWrapSchema",
    "TracingAdapter",
    "TupleSchema",
    "flatten_to_tuple",
]

Flat = tuple[Any, ...]


@dataclass
class Schema:
    """How one kind of object is taken apart (``flatten``) and put together (a call)."""

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Flat, Schema]:
        """Return the leaves of ``obj``, and the schema that rebuilds it from them."""
        raise NotImplementedError(f"{cls.__name__}: define flatten")

    def __call__(self, values: Flat) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: define __call__")

    @staticmethod
    def _concat(values: Iterable[Flat]) -> tuple[Flat, list[int]]:
        """Join tuples; return the whole and their lengths."""
        parts = list(values)
        return tuple(leaf for part in parts for leaf in part), [len(part) for part in parts]

    @staticmethod
    def _split(values: Flat, sizes: Sequence[int]) -> list[Flat]:
        """Cut a tuple into tuples of the given lengths.

        Raises:
            InputError: If it has another length than they have together.
        """
        if sizes and len(values) != sum(sizes):
            raise InputError(f"schema: expected {sum(sizes)} flat values; got {len(values)}")
        ends = list(accumulate(sizes))
        return [values[end - size : end] for end, size in zip(ends, sizes, strict=True)]


@dataclass
class ListSchema(Schema):
    """A list: the schema and the number of leaves of each element."""

    schemas: list[Schema]
    sizes: list[int]

    def __call__(self, values: Flat) -> Any:
        parts = self._split(values, self.sizes)
        if len(parts) != len(self.schemas):
            raise InputError(
                f"{type(self).__name__}: expected {len(self.schemas)} parts; got {len(parts)}"
            )
        return [schema(part) for schema, part in zip(self.schemas, parts, strict=True)]

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Flat, Schema]:
        """Flatten each element."""
        flat = [flatten_to_tuple(element) for element in obj]
        values, sizes = cls._concat(part for part, _ in flat)
        return values, cls([schema for _, schema in flat], sizes)


@dataclass
class TupleSchema(ListSchema):
    """A tuple, as a list."""

    def __call__(self, values: Flat) -> Any:
        return tuple(super().__call__(values))


@dataclass
class IdentitySchema(Schema):
    """A leaf: a tensor, or anything that is not taken apart."""

    def __call__(self, values: Flat) -> Any:
        return values[0]

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Flat, Schema]:
        """Return the object itself."""
        return (obj,), cls()


@dataclass
class DictSchema(ListSchema):
    """A dict with strings for keys, in their order."""

    keys: list[str]

    def __call__(self, values: Flat) -> Any:
        return dict(zip(self.keys, super().__call__(values), strict=True))

    @classmethod
    def flatten(cls, obj: Mapping[str, Any]) -> tuple[Flat, Schema]:
        """Flatten the values, in the order of the sorted keys.

        Raises:
            KeyError: If a key is no string.
        """
        odd = [key for key in obj if not isinstance(key, str)]
        if odd:
            raise KeyError(f"flatten: keys of a dict must be strings; got {odd[0]!r}")
        keys = sorted(obj)
        flat = [flatten_to_tuple(obj[key]) for key in keys]
        values, sizes = cls._concat(part for part, _ in flat)
        return values, cls([schema for _, schema in flat], sizes, keys)


@dataclass
class InstancesSchema(DictSchema):
    """``Instances``: the fields as a dict, then the image size as a tensor."""

    def __call__(self, values: Flat) -> Any:
        *fields, image_size = values
        return Instances(image_size, **super().__call__(tuple(fields)))

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Flat, Schema]:
        """Flatten the fields; append the image size."""
        values, schema = super().flatten(obj.get_fields())
        return (*values, torch.as_tensor(obj.image_size)), schema


@dataclass
class TensorWrapSchema(Schema):
    """A class that holds one tensor, such as ``Boxes``; the class by its dotted name."""

    class_name: str

    def __call__(self, values: Flat) -> Any:
        return locate(self.class_name)(values[0])

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Flat, Schema]:
        """Return the tensor."""
        return (obj.tensor,), cls(_convert_target_to_string(type(obj)))


_SCHEMAS: tuple[tuple[Any, type[Schema]], ...] = (
    (list, ListSchema),
    (tuple, TupleSchema),
    (Mapping, DictSchema),
    (Instances, InstancesSchema),
    ((Boxes, ROIMasks), TensorWrapSchema),
)


def flatten_to_tuple(obj: Any) -> tuple[Flat, Schema]:
    """Take a nested object apart.

    Returns:
        its leaves, in order, and the schema that rebuilds it: ``schema(leaves) == obj``.

    Example:
        >>> leaves, schema = flatten_to_tuple([1, {"a": (2, 3)}])
        >>> leaves, schema(leaves)
        ((1, 2, 3), [1, {'a': (2, 3)}])
    """
    for kind, schema in _SCHEMAS:
        if isinstance(obj, kind):
            return schema.flatten(obj)
    return IdentitySchema.flatten(obj)


def _tensors(values: Flat) -> tuple[torch.Tensor, ...]:
    return tuple(value for value in values if isinstance(value, torch.Tensor))


class _Outputs:
    """What an adapter has learnt of its outputs.

    Exporters refuse new attributes of a module, or put back what was there before they traced it.
    What an attribute refers to they leave alone.
    """

    schema: Schema | None = None


class TracingAdapter(nn.Module):
    """A model whose inputs and outputs are flat tuples of tensors, for exporters.

    Args:
        model: any module.
        inputs: an example of the arguments, nested as the model takes them; a tuple of them, or
            the only one.
        inference_func: called with the model and the arguments; the model itself by default.
        allow_non_tensor: let leaves be something else than tensors. They are left out, so the
            adapter then takes no other inputs than the example's, and outputs are not rebuilt.

    Attributes:
        flattened_inputs: the example's tensors.
        inputs_schema, outputs_schema: rebuild inputs and outputs from flat tuples; the latter is
            known after the first forward pass, which may be an exporter's.

    Raises:
        ValueError: If the example has leaves that are no tensors and ``allow_non_tensor`` is not
            set.

    Example:
        >>> scale = nn.Linear(2, 2)
        >>> adapter = TracingAdapter(scale, torch.ones(1, 2))
        >>> program = torch.export.export(adapter, adapter.flattened_inputs, strict=False)
        >>> adapter.outputs_schema(program.module()(torch.zeros(1, 2))).shape
        torch.Size([1, 2])
    """

    flattened_inputs: tuple[torch.Tensor, ...] | None = None
    inputs_schema: Schema | None = None

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        inference_func: Callable[..., Any] | None = None,
        allow_non_tensor: bool = False,
    ) -> None:
        super().__init__()
        inner = nn.parallel.DistributedDataParallel, nn.DataParallel
        self.model = model.module if isinstance(model, inner) else model
        self.inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self.inference_func = inference_func or (lambda model, *args: model(*args))
        self.allow_non_tensor = allow_non_tensor
        self._outputs = _Outputs()

        leaves, schema = flatten_to_tuple(self.inputs)
        self.flattened_inputs = _tensors(leaves)
        if len(self.flattened_inputs) == len(leaves):
            self.inputs_schema = schema
        elif not allow_non_tensor:
            odd = next(leaf for leaf in leaves if not isinstance(leaf, torch.Tensor))
            raise ValueError(
                f"TracingAdapter: inputs must only contain tensors; got {odd!r}. Leave it out, or"
                " set allow_non_tensor=True if these inputs are the only ones"
            )

    @property
    def outputs_schema(self) -> Schema | None:
        """Rebuilds the outputs from a flat tuple; None before the first forward pass."""
        return self._outputs.schema

    @outputs_schema.setter
    def outputs_schema(self, schema: Schema | None) -> None:
        self._outputs.schema = schema

    def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Rebuild the arguments, run the model, and return the tensors of its outputs.

        Raises:
            ValueError: If the inputs can't be rebuilt from ``args``, or the outputs hold something
                else than tensors.
        """
        with torch.no_grad():
            outputs = self.inference_func(self.model, *self._rebuild(args))
            leaves, schema = flatten_to_tuple(outputs)
            tensors = _tensors(leaves)
            if len(tensors) == len(leaves):
                if self.outputs_schema is None:
                    self.outputs_schema = schema
                elif self.outputs_schema != schema:
                    raise ValueError(
                        "TracingAdapter: the outputs have another structure than in the first"
                        f" pass: expected {self.outputs_schema}; got {schema}"
                    )
            elif not self.allow_non_tensor:
                odd = next(leaf for leaf in leaves if not isinstance(leaf, torch.Tensor))
                raise ValueError(f"TracingAdapter: outputs must only contain tensors; got {odd!r}")
            return tensors

    def _rebuild(self, args: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
        if self.inputs_schema is not None:
            rebuilt: tuple[Any, ...] = self.inputs_schema(args)
            return rebuilt
        example = self.flattened_inputs or ()
        if len(args) != len(example) or any(a is not b for a, b in zip(args, example, strict=True)):
            raise ValueError(
                "TracingAdapter: inputs that are no tensors were left out of the example, so it"
                " cannot generalize to other inputs; call it with flattened_inputs"
            )
        return self.inputs

    def _create_wrapper(self, traced_model: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that takes and returns what the model does, by an exported one."""

        def forward(*args: Any) -> Any:
            leaves, _ = flatten_to_tuple(args)
            results = traced_model(*leaves)
            assert self.outputs_schema is not None
            return self.outputs_schema(tuple(results) if isinstance(results, list) else results)

        return forward
