"""Losses that ``MODEL.ROI_DENSEPOSE_HEAD.LOSS_NAME`` can name."""

from retinue.utils.registry import Registry

__all__ = ["DENSEPOSE_LOSS_REGISTRY"]

_HERE = "retinue.projects.densepose.modeling.losses"

DENSEPOSE_LOSS_REGISTRY = Registry(
    "DENSEPOSE_LOSS",
    {
        "DensePoseChartLoss": f"{_HERE}.chart:DensePoseChartLoss",
        "DensePoseChartWithConfidenceLoss": (
            f"{_HERE}.chart_with_confidences:DensePoseChartWithConfidenceLoss"
        ),
        "DensePoseCseLoss": f"{_HERE}.cse:DensePoseCseLoss",
    },
    key="MODEL.ROI_DENSEPOSE_HEAD.LOSS_NAME",
)
