"""The branch, and the heads that it can have."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.modeling.roi_heads"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Decoder": f"{_HERE}.roi_head",
        "DensePoseDeepLabHead": f"{_HERE}.deeplab",
        "DensePoseROIHeads": f"{_HERE}.roi_head",
        "DensePoseV1ConvXHead": f"{_HERE}.v1convx",
        "ROI_DENSEPOSE_HEAD_REGISTRY": f"{_HERE}.registry",
        "deeplab": "",
        "registry": "",
        "roi_head": "",
        "v1convx": "",
    },
)
