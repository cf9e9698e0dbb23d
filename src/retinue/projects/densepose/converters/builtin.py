"""The converters; what they can convert from the start is in their ``registry``."""

from retinue.projects.densepose.converters.hflip import HFlipConverter
from retinue.projects.densepose.converters.to_chart_result import (
    ToChartResultConverter,
    ToChartResultConverterWithConfidences,
)
from retinue.projects.densepose.converters.to_mask import ToMaskConverter

__all__ = [
    "HFlipConverter",
    "ToChartResultConverter",
    "ToChartResultConverterWithConfidences",
    "ToMaskConverter",
]
