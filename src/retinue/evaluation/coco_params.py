"""What COCO's metrics are computed at; the attributes are those of ``pycocotools``' ``Params``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from retinue.utils.errors import unknown_name

__all__ = ["Params"]

# Of COCO's 17 keypoints, in hundredths: https://cocodataset.org/#keypoints-eval
_SIGMAS = (2.6, 2.5, 2.5, 3.5, 3.5, 7.9, 7.9, 7.2, 7.2, 6.2, 6.2, 10.7, 10.7, 8.7, 8.7, 8.9, 8.9)


class Params:
    """Thresholds and limits of an evaluation, which may be changed in place.

    Attributes:
        iouType: what is compared.
        imgIds, catIds: what counts; all if empty.
        iouThrs, recThrs: arrays of overlaps, and of recalls at which precision is read.
        maxDets: limits on detections of an image and category.
        areaRng, areaRngLbl: pairs of areas in pixels, and their names.
        useCats: whether categories are told apart; 0 or 1.
        kpt_oks_sigmas: of each keypoint, for keypoints.

    Args:
        iouType: ``"segm"``, ``"bbox"`` or ``"keypoints"``.

    Raises:
        UnknownNameError: If it is none of these.
    """

    def __init__(self, iouType: str = "segm") -> None:
        setters = self._setters()
        if iouType not in setters:
            raise unknown_name("iouType", iouType, setters)
        self.iouType = iouType
        self.useSegm = None
        setters[iouType]()

    def _setters(self) -> Mapping[str, Callable[[], None]]:
        return {
            "segm": self.setDetParams,
            "bbox": self.setDetParams,
            "keypoints": self.setKpParams,
        }

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
        self.kpt_oks_sigmas = np.array(_SIGMAS) / 100
