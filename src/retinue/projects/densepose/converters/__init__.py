"""Turns predictions in boxes into pixels: masks, chart results, mirrored predictions."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.converters"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "HFlipConverter": f"{_HERE}.hflip",
        "ToChartResultConverter": f"{_HERE}.to_chart_result",
        "ToChartResultConverterWithConfidences": f"{_HERE}.to_chart_result",
        "ToMaskConverter": f"{_HERE}.to_mask",
        "base": "",
        "builtin": "",
        "chart_output_hflip": "",
        "chart_output_to_chart_result": "",
        "densepose_chart_predictor_output_hflip": f"{_HERE}.chart_output_hflip",
        "densepose_chart_predictor_output_to_result": f"{_HERE}.chart_output_to_chart_result",
        "densepose_chart_predictor_output_to_result_with_confidences": (
            f"{_HERE}.chart_output_to_chart_result"
        ),
        "hflip": "",
        "predictor_output_with_coarse_segm_to_mask": f"{_HERE}.segm_to_mask",
        "predictor_output_with_fine_and_coarse_segm_to_mask": f"{_HERE}.segm_to_mask",
        "resample_fine_and_coarse_segm_to_bbox": f"{_HERE}.segm_to_mask",
        "segm_to_mask": "",
        "to_chart_result": "",
        "to_mask": "",
    },
)
