"""The annotated bodies of an image."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from retinue.projects.densepose.structures.data_relative import DensePoseDataRelative
from retinue.utils.errors import InputError

__all__ = ["DensePoseList"]


class DensePoseList:
    """Annotations of N instances, None for those without.

    Args:
        densepose_datas: N of them.
        boxes_xyxy_abs: ``(N, 4)`` in pixels, the boxes that they are relative to.
        image_size_hw: (height, width).
        device: where all tensors are moved.

    Raises:
        InputError: If the numbers differ, or an annotation is neither None nor of its class.
    """

    _TORCH_DEVICE_CPU = torch.device("cpu")

    def __init__(
        self,
        densepose_datas: Sequence[DensePoseDataRelative | None],
        boxes_xyxy_abs: torch.Tensor,
        image_size_hw: tuple[int, int],
        device: torch.device = _TORCH_DEVICE_CPU,
    ) -> None:
        if len(densepose_datas) != len(boxes_xyxy_abs):
            raise InputError(
                f"DensePoseList: expected a box for each of {len(densepose_datas)} annotations;"
                f" got {len(boxes_xyxy_abs)}"
            )
        for data in densepose_datas:
            if data is not None and not isinstance(data, DensePoseDataRelative):
                raise InputError(
                    "DensePoseList: an annotation must be a DensePoseDataRelative or None; got"
                    f" {type(data).__name__}"
                )
        self.densepose_datas = [data and data.to(device) for data in densepose_datas]
        self.boxes_xyxy_abs = boxes_xyxy_abs.to(device)
        self.image_size_hw = image_size_hw
        self.device = device

    def to(self, device: torch.device) -> "DensePoseList":
        """Return the annotations on a device."""
        if self.device == device:
            return self
        return DensePoseList(self.densepose_datas, self.boxes_xyxy_abs, self.image_size_hw, device)

    def __iter__(self) -> Iterator[DensePoseDataRelative | None]:
        return iter(self.densepose_datas)

    def __len__(self) -> int:
        return len(self.densepose_datas)

    def __repr__(self) -> str:
        height, width = self.image_size_hw
        return (
            f"DensePoseList(num_instances={len(self)}, image_width={width}, image_height={height})"
        )

    def __getitem__(self, item: Any) -> Any:
        """Return one annotation by its number, or the list of those a slice, mask or list names."""
        if isinstance(item, int):
            return self.densepose_datas[item]
        chosen = torch.arange(len(self))[item.cpu() if isinstance(item, torch.Tensor) else item]
        datas = [self.densepose_datas[i] for i in chosen.tolist()]
        return DensePoseList(datas, self.boxes_xyxy_abs[item], self.image_size_hw, self.device)
