"""Dresses bodies: results are filled with a texture.

Shapes
    T side of a chart's square in the atlas; h, w height and width of a box in pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from retinue.data.detection_utils import read_image
from retinue.projects.densepose.structures.chart_result import DensePoseChartResult
from retinue.projects.densepose.vis.base import Boxes, Image
from retinue.projects.densepose.vis.densepose_results import DensePoseResultsVisualizer
from retinue.projects.densepose.vis.drawing import paste
from retinue.utils.errors import InputError

__all__ = ["DensePoseResultsVisualizerWithTexture", "get_texture_atlas"]


def get_texture_atlas(path: str | None) -> np.ndarray | None:
    """Read a picture, with its transparency if it has any, and swap red and blue; None for None."""
    if path is None:
        return None
    pixels = np.array(read_image(path))
    pixels[:, :, :3] = pixels[:, :, 2::-1]
    return pixels


class DensePoseResultsVisualizerWithTexture(DensePoseResultsVisualizer):
    """Fills charts with the squares of an atlas; u runs to the right in them, v upwards.

    Args:
        texture_atlas: ``(6 T, 4 T, 3)`` or, with transparency, ``(6 T, 4 T, 4)``; the squares of
            charts 1 to 6 are in the first column, and so on. Without transparency, black is
            transparent.
        **kwargs: ignored.

    Raises:
        InputError: If the atlas has not 6 by 4 squares.
    """

    def __init__(self, texture_atlas: np.ndarray, **kwargs: Any) -> None:
        self.texture_atlas = texture_atlas
        self.body_part_size = texture_atlas.shape[0] // 6
        if self.body_part_size != texture_atlas.shape[1] // 4:
            raise InputError(
                "a texture atlas has 6 x 4 squares of one size; got a picture of"
                f" {texture_atlas.shape[0]} x {texture_atlas.shape[1]} pixels"
            )

    def visualize(
        self,
        image_bgr: Image,
        results_and_boxes_xywh: tuple[Sequence[DensePoseChartResult] | None, Boxes | None],
    ) -> Image:
        """Draw results for boxes (x, y, width, height) on a picture; None draws nothing."""
        results, boxes = results_and_boxes_xywh
        if results is None or boxes is None:
            return image_bgr
        texture, alpha = self.get_texture()
        for result, box in zip(results, boxes.int().tolist(), strict=True):
            iuv = torch.cat([result.labels[None], result.uv.clamp(0, 1)]).cpu().numpy()

            def dress(before: np.ndarray, part: Any, iuv: np.ndarray = iuv) -> np.ndarray:
                return self.generate_image_with_texture(
                    texture, alpha, before, iuv[(slice(None), *part)]
                )

            paste(image_bgr, box, dress)
        return image_bgr

    def get_texture(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the squares of charts ``(24, T, T, 3)``, and how opaque they are, 0 to 1."""
        side = self.body_part_size
        atlas = self.texture_atlas[: 6 * side, : 4 * side]
        squares = atlas.reshape(6, side, 4, side, -1).transpose(2, 0, 1, 3, 4)
        squares = squares.reshape(24, side, side, -1).astype(float)
        if squares.shape[-1] == 4:
            return squares[..., :3], squares[..., 3] / 255.0
        return squares, (squares.sum(axis=-1) > 0).astype(float)

    def generate_image_with_texture(
        self,
        texture_image: np.ndarray,
        alpha: np.ndarray,
        bbox_image_bgr: np.ndarray,
        iuv_array: np.ndarray,
    ) -> np.ndarray:
        """Return what a box shows, dressed.

        Args:
            texture_image: ``(24, T, T, 3)``.
            alpha: ``(24, T, T)``.
            bbox_image_bgr: ``(h, w, 3)`` uint8.
            iuv_array: ``(3, h, w)``, charts, u and v, the latter in [0, 1].
        """
        charts, u, v = iuv_array
        body = charts > 0
        last = self.body_part_size - 1
        at = (
            charts[body].astype(int) - 1,
            ((1 - v[body]) * last).astype(int),
            (u[body] * last).astype(int),
        )
        dressed = bbox_image_bgr.astype(float)
        shown = alpha[at][:, None]
        dressed[body] = dressed[body] * (1 - shown) + texture_image[at] * shown
        return dressed.astype(np.uint8)
