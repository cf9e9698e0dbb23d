"""Thresholds that COCO's metrics are computed at."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from retinue.utils.errors import unknown_name

__all__ = ["Params"]


class Params:
    """Thresholds of an evaluation.

    Args:
        iouType: ``"segm"``, ``"bbox"``, ``"keypoints"`` or ``"densepose"``.

    Raises:
        UnknownNameError: If it is none of these.
    """

    def __init__(self, iouType: str = "segm") -> None:
        setters = {
            "segm": self.setDetParams,
            "bbox": self.setDetParams,
            "keypoints": self.setKpParams,
            "densepose": self.setUvParams,
        }
        if iouType not in setters:
            raise unknown_name("iouType", iouType, setters)
        self.iouType = iouType
        self.useSegm = None
        setters[iouType]()

    def _set(self, max_dets: list[int], areas: Sequence[str]) -> None:
        bounds: dict[str, list[float]] = {
            "all": [0, 1e10],
            "small": [0, 32**2],
            "medium": [32**2, 96**2],
            "large": [96**2, 1e10],
        }
        self.imgIds: list[Any] = []
        self.catIds: list[Any] = []
        self.iouThrs = np.linspace(0.5, 0.95, 10)
        self.recThrs = np.linspace(0.0, 1.0, 101)
        self.maxDets = max_dets
        self.areaRng = [bounds[name] for name in areas]
        self.areaRngLbl = list(areas)
        self.useCats = 1

    def setDetParams(self) -> None:
        """Set what boxes and masks are judged by."""
        self._set([1, 10, 100], ("all", "small", "medium", "large"))

    def setKpParams(self) -> None:
        """Set what keypoints are judged by."""
        self._set([20], ("all", "medium", "large"))

    def setUvParams(self) -> None:
        """Set what dense correspondences are judged by."""
        self._set([20], ("all", "medium", "large"))
