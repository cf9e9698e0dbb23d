"""Make ground truth out of predictions."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.data.samplers"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DensePoseCSEConfidenceBasedSampler": f"{_HERE}.densepose_cse_confidence_based",
        "DensePoseCSEUniformSampler": f"{_HERE}.densepose_cse_uniform",
        "DensePoseConfidenceBasedSampler": f"{_HERE}.densepose_confidence_based",
        "DensePoseUniformSampler": f"{_HERE}.densepose_uniform",
        "MaskFromDensePoseSampler": f"{_HERE}.mask_from_densepose",
        "PredictionToGroundTruthSampler": f"{_HERE}.prediction_to_gt",
        "densepose_base": "",
        "densepose_confidence_based": "",
        "densepose_cse_base": "",
        "densepose_cse_confidence_based": "",
        "densepose_cse_uniform": "",
        "densepose_uniform": "",
        "mask_from_densepose": "",
        "prediction_to_gt": "",
    },
)
