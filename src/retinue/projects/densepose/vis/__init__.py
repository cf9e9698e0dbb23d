"""Drawing ground truth and predictions."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "base": "",
        "bounding_box": "",
        "densepose_data_points": "",
        "densepose_outputs_iuv": "",
        "densepose_outputs_vertex": "",
        "densepose_results": "",
        "densepose_results_textures": "",
        "extractor": "",
    },
)
