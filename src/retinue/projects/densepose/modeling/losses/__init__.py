"""Losses of charts and of surface embeddings."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.modeling.losses"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DENSEPOSE_LOSS_REGISTRY": f"{_HERE}.registry",
        "DensePoseChartLoss": f"{_HERE}.chart",
        "DensePoseChartWithConfidenceLoss": f"{_HERE}.chart_with_confidences",
        "DensePoseCseLoss": f"{_HERE}.cse",
        "chart": "",
        "chart_with_confidences": "",
        "cse": "",
        "cycle_pix2shape": "",
        "cycle_shape2shape": "",
        "embed": "",
        "embed_utils": "",
        "mask": "",
        "mask_or_segm": "",
        "registry": "",
        "segm": "",
        "soft_embed": "",
        "utils": "",
    },
)
