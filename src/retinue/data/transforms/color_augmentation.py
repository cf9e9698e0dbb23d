"""Augmentations of colour."""
# ruff: noqa: NPY002 - the global generator is part of the interface

from __future__ import annotations

import numpy as np

from retinue.data.transforms.augmentation import Augmentation
from retinue.data.transforms.base import Transform
from retinue.data.transforms.color import BlendTransform
from retinue.utils.errors import InputError

__all__ = ["RandomBrightness", "RandomContrast", "RandomLighting", "RandomSaturation"]


class _RandomIntensity(Augmentation):
    """Mix the image with another at random; weight 1 keeps it, less fades, more strengthens."""

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        super().__init__()
        self.intensity_min = intensity_min
        self.intensity_max = intensity_max

    def _blend_with(self, other: np.ndarray | float) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=other, src_weight=1 - weight, dst_weight=weight)


class RandomContrast(_RandomIntensity):
    """Change contrast: mix with the image's mean."""

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._blend_with(image.mean())


class RandomBrightness(_RandomIntensity):
    """Change brightness: mix with black."""

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._blend_with(0)


class RandomSaturation(_RandomIntensity):
    """Change saturation of an RGB image: mix with its grey version (ITU-R BT.601 weights)."""

    def get_transform(self, image: np.ndarray) -> Transform:
        _expect_rgb("RandomSaturation", image)
        return self._blend_with(image.dot([0.299, 0.587, 0.114])[:, :, np.newaxis])


class RandomLighting(Augmentation):
    """Shift the colours of an RGB image along their principal components over ImageNet.

    Krizhevsky et al., "ImageNet classification with deep convolutional neural networks" (2012),
    section 4.1.

    Args:
        scale: standard deviation of the three weights.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.eigen_vecs = np.array(
            [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
        )
        self.eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def get_transform(self, image: np.ndarray) -> Transform:
        _expect_rgb("RandomLighting", image)
        weights = np.random.normal(scale=self.scale, size=3)
        shift = self.eigen_vecs.dot(weights * self.eigen_vals)
        return BlendTransform(src_image=shift, src_weight=1.0, dst_weight=1.0)


def _expect_rgb(owner: str, image: np.ndarray) -> None:
    if image.shape[-1] != 3:
        raise InputError(f"{owner}: needs an RGB image (H, W, 3); got shape {image.shape}")
