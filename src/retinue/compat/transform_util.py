"""Images as tensors and back, as ``fvcore.transforms.transform_util`` offers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from retinue.utils.errors import InputError

__all__ = ["to_float_tensor", "to_numpy"]


def to_float_tensor(numpy_array: np.ndarray) -> torch.Tensor:
    """Make a float ``(N, C, H, W)`` of an image ``(H, W)``, ``(H, W, C)`` or ``(N, H, W, C)``.

    Integers become float32; floats keep their type.

    Raises:
        InputError: If the array has another number of dimensions.
    """
    array = np.asarray(numpy_array)
    if array.ndim not in (2, 3, 4):
        raise InputError(f"to_float_tensor: expected 2 to 4 dimensions; got shape {array.shape}")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3:
        array = array[None]
    tensor = torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)
    return tensor if tensor.is_floating_point() else tensor.float()


def to_numpy(
    float_tensor: torch.Tensor, target_shape: Sequence[int], target_dtype: Any
) -> np.ndarray:
    """Undo ``to_float_tensor``; numbers are rounded if ``target_dtype`` is of integers.

    Args:
        float_tensor: ``(N, C, H, W)``.
        target_shape: of the array, whose number of dimensions counts.
        target_dtype: of the array.
    """
    array = float_tensor.detach().cpu().numpy().transpose(0, 2, 3, 1)
    if len(target_shape) < 4:
        array = array[0]
    if len(target_shape) == 2:
        array = array[:, :, 0]
    if np.issubdtype(target_dtype, np.integer):
        array = np.round(array)
    return array.astype(target_dtype)
