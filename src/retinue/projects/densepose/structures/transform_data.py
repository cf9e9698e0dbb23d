"""What is known of the body's left and right."""

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

import torch

from retinue.utils.errors import InputError

__all__ = ["DensePoseTransformData", "normalized_coords_transform"]


def normalized_coords_transform(
    x0: float, y0: float, w: float, h: float
) -> Callable[[Any], tuple[float, float]]:
    """Return the map of points (x, y) that takes a box to [-1, 1] in both directions.

    >>> normalized_coords_transform(10, 20, 4, 8)((12, 28))
    (0.0, 1.0)
    """
    return lambda point: (2 * (point[0] - x0) / w - 1, 2 * (point[1] - y0) / h - 1)


class DensePoseTransformData:
    """Labels and chart coordinates of a mirrored body.

    Args:
        uv_symmetries: ``"U_transforms"`` and ``"V_transforms"``, each ``(24, 256, 256)``: for a
            chart, its v and its u in 1 / 255, what u or v becomes.
        device: of these tensors.
    """

    MASK_LABEL_SYMMETRIES: ClassVar[list[int]] = [
        *(0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14)
    ]
    """What each coarse part becomes: left hand and right hand, ..."""
    POINT_LABEL_SYMMETRIES: ClassVar[list[int]] = [
        *(0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13),
        *(16, 15, 18, 17, 20, 19, 22, 21, 24, 23),
    ]
    """What each chart becomes."""

    def __init__(self, uv_symmetries: Mapping[str, torch.Tensor], device: torch.device) -> None:
        self.mask_label_symmetries = self.MASK_LABEL_SYMMETRIES
        self.point_label_symmetries = self.POINT_LABEL_SYMMETRIES
        self.uv_symmetries = uv_symmetries
        self.device = device

    def to(self, device: torch.device, copy: bool = False) -> "DensePoseTransformData":
        """Return the data on a device; ``copy`` makes new tensors even on the same one."""
        if self.device == device and not copy:
            return self
        moved = {k: v.to(device=device, copy=copy) for k, v in self.uv_symmetries.items()}
        return DensePoseTransformData(moved, device)

    @staticmethod
    def load(io: str | BinaryIO) -> "DensePoseTransformData":
        """Read the published file ``UV_symmetry_transforms.mat``; needs scipy.

        Raises:
            InputError: If the file lacks them.
        """
        try:
            from scipy.io import loadmat
        except ImportError as error:
            raise ImportError(
                "reading chart symmetries, a .mat file, needs scipy: pip install retinue[densepose]"
            ) from error
        content = loadmat(io)
        names = ("U_transforms", "V_transforms")
        if missing := [name for name in names if name not in content]:
            raise InputError(f"{io}: expected chart symmetries {names}; lacks {missing}")
        tables = {
            name: torch.stack([torch.as_tensor(chart).float() for chart in content[name][0]])
            for name in names
        }
        return DensePoseTransformData(tables, torch.device("cpu"))
