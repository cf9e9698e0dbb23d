"""Mirrors predictions."""

from typing import Any, ClassVar

from retinue.projects.densepose.converters.base import BaseConverter
from retinue.projects.densepose.converters.chart_output_hflip import (
    densepose_chart_predictor_output_hflip,
)
from retinue.projects.densepose.structures.chart import DensePoseChartPredictorOutput

__all__ = ["HFlipConverter"]


class HFlipConverter(BaseConverter):
    """From a predictor's output to what it had been for the mirrored image."""

    registry: ClassVar[dict[type, Any]] = {
        DensePoseChartPredictorOutput: densepose_chart_predictor_output_hflip,
    }
    dst_type = None

    @classmethod
    def convert(  # type: ignore[override]
        cls, predictor_outputs: Any, transform_data: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Return the mirrored prediction; see :meth:`BaseConverter.convert`.

        Args:
            predictor_outputs: of N instances.
            transform_data: like :class:`.DensePoseTransformData`.
            *args: for the function.
            **kwargs: likewise.
        """
        return super().convert(predictor_outputs, transform_data, *args, **kwargs)
