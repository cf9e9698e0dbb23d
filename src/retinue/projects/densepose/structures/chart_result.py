"""Results in the pixels of a box: the chart of each, and where in the chart it lies.

Shapes
    H, W height and width of a box in pixels.
"""

import base64
import dataclasses
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image

__all__ = [
    "DensePoseChartResult",
    "DensePoseChartResultCompressed",
    "DensePoseChartResultQuantized",
    "DensePoseChartResultWithConfidences",
    "compress_quantized_densepose_chart_result",
    "decompress_compressed_densepose_chart_result",
    "quantize_densepose_chart_result",
]


@dataclass
class DensePoseChartResult:
    """Charts and coordinates of a box.

    Attributes:
        labels: ``(H, W)`` int64, charts; 0 is background.
        uv: ``(2, H, W)`` in [0, 1], coordinates u and v in the chart.
    """

    labels: torch.Tensor
    uv: torch.Tensor

    def to(self, device: torch.device) -> "DensePoseChartResult":
        """Return the result on a device."""
        return DensePoseChartResult(self.labels.to(device), self.uv.to(device))


@dataclass
class DensePoseChartResultWithConfidences:
    """Charts and coordinates of a box, and the confidences that were predicted, ``(H, W)`` each."""

    labels: torch.Tensor
    uv: torch.Tensor
    sigma_1: torch.Tensor | None = None
    sigma_2: torch.Tensor | None = None
    kappa_u: torch.Tensor | None = None
    kappa_v: torch.Tensor | None = None
    fine_segm_confidence: torch.Tensor | None = None
    coarse_segm_confidence: torch.Tensor | None = None

    def to(self, device: torch.device) -> "DensePoseChartResultWithConfidences":
        """Return the result on a device."""
        moved: dict[str, Any] = {
            name: None if x is None else x.to(device) for name, x in vars(self).items()
        }
        return dataclasses.replace(self, **moved)


@dataclass
class DensePoseChartResultQuantized:
    """Charts, u and v of a box in bytes.

    Attributes:
        labels_uv_uint8: ``(3, H, W)`` uint8; coordinates in 1 / 255.
    """

    labels_uv_uint8: torch.Tensor

    def to(self, device: torch.device) -> "DensePoseChartResultQuantized":
        """Return the result on a device."""
        return DensePoseChartResultQuantized(self.labels_uv_uint8.to(device))


@dataclass
class DensePoseChartResultCompressed:
    """Charts, u and v of a box as a PNG picture.

    Attributes:
        shape_chw: (3, H, W).
        labels_uv_str: the file in base 64; its colours are chart, u and v.
    """

    shape_chw: tuple[int, int, int]
    labels_uv_str: str


def quantize_densepose_chart_result(result: DensePoseChartResult) -> DensePoseChartResultQuantized:
    """Write a result in bytes."""
    uv = (result.uv * 255).clamp(0, 255).to(torch.uint8)
    return DensePoseChartResultQuantized(torch.cat([result.labels[None].to(torch.uint8), uv]))


def compress_quantized_densepose_chart_result(
    result: DensePoseChartResultQuantized,
) -> DensePoseChartResultCompressed:
    """Write a result as a picture."""
    pixels = result.labels_uv_uint8.cpu().permute(1, 2, 0).contiguous().numpy()
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="png", optimize=True)
    text = base64.encodebytes(file.getvalue()).decode()
    _, height, width = result.labels_uv_uint8.shape
    return DensePoseChartResultCompressed((3, height, width), text)


def decompress_compressed_densepose_chart_result(
    result: DensePoseChartResultCompressed,
) -> DensePoseChartResultQuantized:
    """Read a result from its picture."""
    file = BytesIO(base64.decodebytes(result.labels_uv_str.encode()))
    with Image.open(file) as picture:
        pixels = np.array(picture, dtype=np.uint8)  # (H, W, 3)
    return DensePoseChartResultQuantized(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
