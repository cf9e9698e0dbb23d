"""Turns predictions into masks."""

from typing import Any, ClassVar

from retinue.projects.densepose.converters.base import BaseConverter
from retinue.projects.densepose.converters.segm_to_mask import (
    predictor_output_with_coarse_segm_to_mask,
    predictor_output_with_fine_and_coarse_segm_to_mask,
)
from retinue.projects.densepose.structures.chart import DensePoseChartPredictorOutput
from retinue.projects.densepose.structures.cse import DensePoseEmbeddingPredictorOutput
from retinue.structures import BitMasks, Boxes

__all__ = ["ImageSizeType", "ToMaskConverter"]

ImageSizeType = tuple[int, int]


class ToMaskConverter(BaseConverter):
    """From a predictor's output for N instances to N masks."""

    registry: ClassVar[dict[type, Any]] = {
        DensePoseChartPredictorOutput: predictor_output_with_fine_and_coarse_segm_to_mask,
        DensePoseEmbeddingPredictorOutput: predictor_output_with_coarse_segm_to_mask,
    }
    dst_type = BitMasks

    @classmethod
    def convert(  # type: ignore[override]
        cls,
        densepose_predictor_outputs: Any,
        boxes: Boxes,
        image_size_hw: ImageSizeType,
        *args: Any,
        **kwargs: Any,
    ) -> BitMasks:
        """Return masks of an image (height, width); see :meth:`BaseConverter.convert`."""
        found: BitMasks = super().convert(
            densepose_predictor_outputs, boxes, image_size_hw, *args, **kwargs
        )
        return found
