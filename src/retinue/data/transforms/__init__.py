"""Changes to images and what is drawn on them.

A ``Transform`` is one fixed change; an ``Augmentation`` looks at an input and picks a transform,
often at random (from numpy's global generator). Reading order: ``base``, ``transform``,
``augmentation``, ``augmentation_impl``.
"""

from retinue.utils.lazy import lazy_exports

_TRANSFORM = "retinue.data.transforms.transform"
_AUGMENTATION = "retinue.data.transforms.augmentation"
_IMPL = "retinue.data.transforms.augmentation_impl"

_HOMES = {
    "AugInput": _AUGMENTATION,
    "Augmentation": _AUGMENTATION,
    "AugmentationList": _AUGMENTATION,
    "BlendTransform": _TRANSFORM,
    "ColorTransform": _TRANSFORM,
    "CropTransform": _TRANSFORM,
    "ExtentTransform": _TRANSFORM,
    "FixedSizeCrop": _IMPL,
    "GridSampleTransform": _TRANSFORM,
    "HFlipTransform": _TRANSFORM,
    "MinIoURandomCrop": _IMPL,
    "NoOpTransform": _TRANSFORM,
    "PILColorTransform": _TRANSFORM,
    "PadTransform": _TRANSFORM,
    "RandomApply": _IMPL,
    "RandomBrightness": _IMPL,
    "RandomContrast": _IMPL,
    "RandomCrop": _IMPL,
    "RandomCrop_CategoryAreaConstraint": _IMPL,
    "RandomExtent": _IMPL,
    "RandomFlip": _IMPL,
    "RandomLighting": _IMPL,
    "RandomResize": _IMPL,
    "RandomRotation": _IMPL,
    "RandomSaturation": _IMPL,
    "Resize": _IMPL,
    "ResizeScale": _IMPL,
    "ResizeShortestEdge": _IMPL,
    "ResizeTransform": _TRANSFORM,
    "RotationTransform": _TRANSFORM,
    "ScaleTransform": _TRANSFORM,
    "StandardAugInput": _AUGMENTATION,
    "Transform": _TRANSFORM,
    "TransformGen": _AUGMENTATION,
    "TransformList": _TRANSFORM,
    "VFlipTransform": _TRANSFORM,
    "apply_augmentations": _AUGMENTATION,
    "apply_transform_gens": _AUGMENTATION,
    "augmentation": "",
    "augmentation_impl": "",
    "transform": "",
}
__getattr__, __dir__, __all__ = lazy_exports(__name__, _HOMES)
