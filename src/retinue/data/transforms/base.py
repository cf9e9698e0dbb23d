"""The interface of a transform, and a chain of them.

Conventions
    Images are numpy arrays ``(H, W)``, ``(H, W, C)`` or ``(N, H, W, C)``, uint8 in [0, 255] or
    floats. Points and boxes are x, y in pixels from the top-left corner of the top-left pixel, so
    an image of width W covers ``[0, W]``. Methods may write into the array they are given.
"""

from __future__ import annotations

import inspect
import pprint
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retinue.utils.errors import InputError

__all__ = ["NoOpTransform", "Transform", "TransformList", "constructor_repr"]


def constructor_repr(obj: object) -> str | None:
    """Write ``obj`` as the call that made it, leaving out defaults; None if that can't be told."""
    shown = []
    for name, parameter in inspect.signature(obj.__init__).parameters.items():  # type: ignore[misc]
        is_variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if is_variadic or not hasattr(obj, name):
            return None
        value = getattr(obj, name)
        if value is not parameter.default:
            text = pprint.pformat(value)
            shown.append(f"{name}={'...' if chr(10) in text else text}")
    return f"{type(obj).__name__}({', '.join(shown)})"


class Transform(metaclass=ABCMeta):
    """A fixed change, applied alike to an image and to everything drawn on it.

    A subclass says what happens to pixels and to points; segmentations, boxes and polygons follow
    from these, and ``register_type`` adds further kinds of data as ``apply_<kind>``.
    """

    if TYPE_CHECKING:  # attributes come from _set_attributes

        def __getattr__(self, name: str) -> Any: ...

    def _set_attributes(self, params: Mapping[str, Any] | None = None) -> None:
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    @abstractmethod
    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Change an image."""

    @abstractmethod
    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Change ``(N, 2)`` float points x, y, those outside the image included."""

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Change an ``(H, W)`` map of integer or bool labels; by default as an image."""
        return self.apply_image(segmentation)

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Change ``(N, 4)`` boxes x0, y0, x1, y1: the bounds of their four moved corners.

        Boxes are not clipped to the image.
        """
        boxes = np.asarray(box).reshape(-1, 4)
        corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 2)
        moved = np.asarray(self.apply_coords(corners)).reshape(-1, 4, 2)
        return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """Change polygons, each ``(N, 2)`` points x, y."""
        return [self.apply_coords(polygon) for polygon in polygons]

    @classmethod
    def register_type(cls, data_type: str, func: Callable[[Any, Any], Any] | None = None) -> Any:
        """Let this transform handle another kind of data, by ``func(transform, data)``.

        Also a decorator: ``@HFlipTransform.register_type("voxel")``. The handler is then called
        as ``transform.apply_voxel(data)``.

        Raises:
            InputError: (an ``AssertionError``) If ``func`` doesn't take just these two arguments.
        """
        if func is None:

            def decorate(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
                cls.register_type(data_type, handler)
                return handler

            return decorate
        arguments = inspect.getfullargspec(func).args if callable(func) else None
        if arguments is None or len(arguments) != 2:
            raise InputError(
                f"{cls.__name__}.register_type({data_type!r}): needs a function of two arguments,"
                f" the transform and the data; got {arguments or func!r}"
            )
        setattr(cls, f"apply_{data_type}", func)
        return None

    def inverse(self) -> Transform:
        """Return the transform that undoes the geometry of this one; colours are left alone.

        Raises:
            NotImplementedError: If this transform has no inverse.
        """
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    def __repr__(self) -> str:
        return constructor_repr(self) or super().__repr__()


class NoOpTransform(Transform):
    """Changes nothing, of whatever kind."""

    def __init__(self) -> None:
        super().__init__()

    def inverse(self) -> Transform:
        return self

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return img

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        if name.startswith("apply_"):
            return lambda x: x
        raise AttributeError(f"NoOpTransform has no attribute {name!r}", name=name)


class TransformList(Transform):
    """Transforms applied one after the other; lists inside are flattened.

    Any ``apply_<kind>`` that every member has works on the list, too.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise InputError(
                    f"TransformList: every member must be a Transform; got {transform!r}"
                    f" ({type(transform).__name__})"
                )
        self.transforms = _flat(transforms)

    def _apply(self, x: Any, meth: str) -> Any:
        for transform in self.transforms:
            x = getattr(transform, meth)(x)
        return x

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("apply_"):  # inherited defaults included: members know better
            return lambda x: self._apply(x, name)
        return super().__getattribute__(name)

    def apply_image(self, x: Any) -> Any:
        return self._apply(x, "apply_image")

    def apply_coords(self, x: Any) -> Any:
        return self._apply(x, "apply_coords")

    def __add__(self, other: Transform) -> TransformList:
        return TransformList([*self.transforms, *_flat([other])])

    def __iadd__(self, other: Transform) -> TransformList:
        self.transforms.extend(_flat([other]))
        return self

    def __radd__(self, other: Transform) -> TransformList:
        return TransformList([*_flat([other]), *self.transforms])

    def __len__(self) -> int:
        return len(self.transforms)

    def __getitem__(self, idx: int) -> Transform:
        return self.transforms[idx]

    def inverse(self) -> TransformList:
        return TransformList([transform.inverse() for transform in reversed(self.transforms)])

    def __repr__(self) -> str:
        return f"TransformList[{', '.join(map(str, self.transforms))}]"

    __str__ = __repr__


def _flat(transforms: Sequence[Transform]) -> list[Transform]:
    return [
        member
        for transform in transforms
        for member in (
            transform.transforms if isinstance(transform, TransformList) else [transform]
        )
    ]
