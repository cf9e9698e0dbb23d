"""Ground truth, predictions and results, and meshes."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.structures"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DensePoseChartPredictorOutput": f"{_HERE}.chart",
        "DensePoseChartResult": f"{_HERE}.chart_result",
        "DensePoseChartResultWithConfidences": f"{_HERE}.chart_result",
        "DensePoseDataRelative": f"{_HERE}.data_relative",
        "DensePoseEmbeddingPredictorOutput": f"{_HERE}.cse",
        "DensePoseList": f"{_HERE}.list",
        "DensePoseTransformData": f"{_HERE}.transform_data",
        "Mesh": f"{_HERE}.mesh",
        "chart": "",
        "chart_confidence": "",
        "chart_result": "",
        "compress_quantized_densepose_chart_result": f"{_HERE}.chart_result",
        "create_mesh": f"{_HERE}.mesh",
        "cse": "",
        "cse_confidence": "",
        "data_relative": "",
        "decompress_compressed_densepose_chart_result": f"{_HERE}.chart_result",
        "decorate_cse_predictor_output_class_with_confidences": f"{_HERE}.cse_confidence",
        "decorate_predictor_output_class_with_confidences": f"{_HERE}.chart_confidence",
        "list": "",
        "mesh": "",
        "normalized_coords_transform": f"{_HERE}.transform_data",
        "quantize_densepose_chart_result": f"{_HERE}.chart_result",
        "transform_data": "",
    },
)
