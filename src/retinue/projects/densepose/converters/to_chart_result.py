"""Turns a prediction for one instance into results in the pixels of its box."""

from typing import Any, ClassVar

from retinue.projects.densepose.converters.base import BaseConverter
from retinue.projects.densepose.converters.chart_output_to_chart_result import (
    densepose_chart_predictor_output_to_result,
    densepose_chart_predictor_output_to_result_with_confidences,
)
from retinue.projects.densepose.structures.chart import DensePoseChartPredictorOutput
from retinue.projects.densepose.structures.chart_result import (
    DensePoseChartResult,
    DensePoseChartResultWithConfidences,
)
from retinue.structures import Boxes

__all__ = ["ToChartResultConverter", "ToChartResultConverterWithConfidences"]


class ToChartResultConverter(BaseConverter):
    """To charts and coordinates."""

    registry: ClassVar[dict[type, Any]] = {
        DensePoseChartPredictorOutput: densepose_chart_predictor_output_to_result,
    }
    dst_type = DensePoseChartResult

    @classmethod
    def convert(  # type: ignore[override]
        cls, predictor_outputs: Any, boxes: Boxes, *args: Any, **kwargs: Any
    ) -> DensePoseChartResult:
        """Return the result; see :meth:`BaseConverter.convert`."""
        found: DensePoseChartResult = super().convert(predictor_outputs, boxes, *args, **kwargs)
        return found


class ToChartResultConverterWithConfidences(BaseConverter):
    """To charts, coordinates and confidences."""

    registry: ClassVar[dict[type, Any]] = {
        DensePoseChartPredictorOutput: densepose_chart_predictor_output_to_result_with_confidences,
    }
    dst_type = DensePoseChartResultWithConfidences

    @classmethod
    def convert(  # type: ignore[override]
        cls, predictor_outputs: Any, boxes: Boxes, *args: Any, **kwargs: Any
    ) -> DensePoseChartResultWithConfidences:
        """Return the result; see :meth:`BaseConverter.convert`."""
        found: DensePoseChartResultWithConfidences = super().convert(
            predictor_outputs, boxes, *args, **kwargs
        )
        return found
