"""Heads that ``MODEL.ROI_DENSEPOSE_HEAD.NAME`` can name."""

from retinue.utils.registry import Registry

__all__ = ["ROI_DENSEPOSE_HEAD_REGISTRY"]

_HERE = "retinue.projects.densepose.modeling.roi_heads"

ROI_DENSEPOSE_HEAD_REGISTRY = Registry(
    "ROI_DENSEPOSE_HEAD",
    {
        "DensePoseDeepLabHead": f"{_HERE}.deeplab:DensePoseDeepLabHead",
        "DensePoseV1ConvXHead": f"{_HERE}.v1convx:DensePoseV1ConvXHead",
    },
    key="MODEL.ROI_DENSEPOSE_HEAD.NAME",
)
