"""How a transform is chosen for an input.

``Augmentation.get_transform`` looks at parts of the input, named by its parameters, and returns a
``Transform``; calling the augmentation also applies that to the input.
"""
# ruff: noqa: NPY002 - the global generator is part of the interface

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retinue.data.transforms.base import Transform, TransformList, constructor_repr
from retinue.utils.errors import InputError

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "StandardAugInput",
    "TransformGen",
    "apply_augmentations",
    "apply_transform_gens",
]


class Augmentation:
    """A policy that picks a transform for an input; random ones use ``numpy.random``.

    Attributes:
        input_args: names of the parts of the input that ``get_transform`` takes, such as
            ``("image", "sem_seg")``. If None, the names of its parameters; a single parameter
            stands for the image, whatever its name.
    """

    input_args: tuple[str, ...] | None = None

    if TYPE_CHECKING:  # attributes come from _init

        def __getattr__(self, name: str) -> Any: ...

    def _init(self, params: Mapping[str, Any] | None = None) -> None:
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def get_transform(self, *args: Any) -> Transform:
        """Pick the transform. Usual parameters:

        * ``image``: ``(H, W)`` or ``(H, W, C)``, uint8 or floats;
        * ``boxes``: ``(N, 4)`` float32, x0, y0, x1, y1 in pixels;
        * ``sem_seg``: ``(H, W)`` uint8 labels.
        """
        raise NotImplementedError(f"{type(self).__name__} must define get_transform")

    def __call__(self, aug_input: Any) -> Transform:
        """Pick a transform for ``aug_input``, apply it in place, and return it.

        Raises:
            InputError: (an ``AssertionError``) If ``get_transform`` returns something else.
        """
        transform = self.get_transform(*_arguments(self, aug_input))
        if not isinstance(transform, Transform):
            raise InputError(
                f"{type(self).__name__}.get_transform must return a Transform;"
                f" got {type(transform).__name__}"
            )
        aug_input.transform(transform)
        return transform

    def _rand_range(self, low: float = 1.0, high: float | None = None, size: Any = None) -> Any:
        """Draw uniformly from [low, high), or from [0, low) if only ``low`` is given."""
        if high is None:
            low, high = 0, low
        return np.random.uniform(low, high, [] if size is None else size)

    def __repr__(self) -> str:
        return constructor_repr(self) or super().__repr__()

    __str__ = __repr__


def _arguments(aug: Augmentation, aug_input: Any) -> list[Any]:
    """Collect what ``aug.get_transform`` wants from ``aug_input``."""
    if aug.input_args is None:
        parameters = list(inspect.signature(aug.get_transform).parameters.values())
        for parameter in parameters if len(parameters) > 1 else []:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(
                    f"{type(aug).__name__}.get_transform takes *{parameter.name}, so what it needs"
                    " is unknown; name its parameters, set input_args, or define __call__"
                )
        names = [parameter.name for parameter in parameters]
        aug.input_args = tuple(names) if len(names) != 1 else ("image",)
    for name in aug.input_args:
        if not hasattr(aug_input, name):
            raise AttributeError(
                f"{type(aug).__name__} needs the input's {name!r}, which a"
                f" {type(aug_input).__name__} doesn't have",
                name=name,
            )
    return [getattr(aug_input, name) for name in aug.input_args]


class _TransformToAug(Augmentation):
    """Picks always the same transform."""

    def __init__(self, tfm: Transform) -> None:
        self.tfm = tfm

    def get_transform(self, *args: Any) -> Transform:
        return self.tfm

    def __call__(self, aug_input: Any) -> Transform:
        aug_input.transform(self.tfm)
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)

    __str__ = __repr__


def _transform_to_aug(tfm_or_aug: Transform | Augmentation) -> Augmentation:
    if isinstance(tfm_or_aug, Augmentation):
        return tfm_or_aug
    if isinstance(tfm_or_aug, Transform):
        return _TransformToAug(tfm_or_aug)
    raise InputError(
        f"needs an Augmentation or a Transform; got {tfm_or_aug!r} ({type(tfm_or_aug).__name__})"
    )


class AugmentationList(Augmentation):
    """Augmentations applied one after the other, each seeing what the one before left.

    It has no ``get_transform``: what a member picks depends on those before it.
    """

    def __init__(self, augs: Sequence[Augmentation | Transform]) -> None:
        super().__init__()
        self.augs = [_transform_to_aug(aug) for aug in augs]

    def __call__(self, aug_input: Any) -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(str, self.augs))}]"

    __str__ = __repr__


class AugInput:
    """What augmentations look at and change in place.

    An input of another kind has the attributes that its augmentations name, and a method
    ``transform(tfm)`` that changes them.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``, uint8 in [0, 255] or floats.
        boxes: ``(N, 4)`` float32 x0, y0, x1, y1 in pixels, or None.
        sem_seg: ``(H, W)`` uint8 labels, or None.

    Raises:
        InputError: (an ``AssertionError``) If ``image`` is no array of 2 or 3 dimensions.
    """

    def __init__(
        self,
        image: np.ndarray,
        *,
        boxes: np.ndarray | None = None,
        sem_seg: np.ndarray | None = None,
    ) -> None:
        if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
            got = f"shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise InputError(f"AugInput: image must be an array (H, W) or (H, W, C); got {got}")
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, tfm: Transform) -> None:
        """Apply a transform to all attributes in place."""
        boxes, sem_seg = self.boxes, self.sem_seg
        self.image = tfm.apply_image(self.image)
        self.boxes = None if boxes is None else tfm.apply_box(boxes)
        self.sem_seg = None if sem_seg is None else tfm.apply_segmentation(sem_seg)

    def apply_augmentations(
        self, augmentations: Sequence[Augmentation | Transform]
    ) -> TransformList:
        """Apply augmentations in order and return the transforms they picked."""
        return AugmentationList(augmentations)(self)


def apply_augmentations(
    augmentations: Sequence[Augmentation | Transform], inputs: np.ndarray | AugInput
) -> tuple[Any, TransformList]:
    """Apply augmentations to an image or an ``AugInput``; return it changed, and the transforms."""
    if isinstance(inputs, np.ndarray):
        aug_input = AugInput(inputs)
        transforms = aug_input.apply_augmentations(augmentations)
        return aug_input.image, transforms
    return inputs, inputs.apply_augmentations(augmentations)


apply_transform_gens = apply_augmentations
TransformGen = Augmentation
StandardAugInput = AugInput
