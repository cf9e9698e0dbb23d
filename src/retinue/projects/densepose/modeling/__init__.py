"""The model: heads, predictors, losses, embedders, and the HRNet backbone."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.modeling"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DensePoseConfidenceModelConfig": f"{_HERE}.confidence",
        "DensePoseDataFilter": f"{_HERE}.filter",
        "DensePoseUVConfidenceType": f"{_HERE}.confidence",
        "build": "",
        "build_densepose_data_filter": f"{_HERE}.build",
        "build_densepose_embedder": f"{_HERE}.build",
        "build_densepose_head": f"{_HERE}.build",
        "build_densepose_losses": f"{_HERE}.build",
        "build_densepose_predictor": f"{_HERE}.build",
        "confidence": "",
        "cse": "",
        "densepose_checkpoint": "",
        "densepose_inference": f"{_HERE}.inference",
        "filter": "",
        "hrfpn": "",
        "hrnet": "",
        "inference": "",
        "initialize_module_params": f"{_HERE}.utils",
        "losses": "",
        "predictors": "",
        "roi_heads": "",
        "test_time_augmentation": "",
        "utils": "",
    },
)
