"""Thresholds that COCO's metrics are computed at, for dense correspondences, too."""

from collections.abc import Callable, Mapping

from retinue.evaluation import coco_params

__all__ = ["Params"]


class Params(coco_params.Params):
    """Thresholds of an evaluation.

    Args:
        iouType: ``"segm"``, ``"bbox"``, ``"keypoints"`` or ``"densepose"``.

    Raises:
        UnknownNameError: If it is none of these.
    """

    def _setters(self) -> Mapping[str, Callable[[], None]]:
        return {**super()._setters(), "densepose": self.setUvParams}

    def setUvParams(self) -> None:
        """Set what dense correspondences are judged by."""
        self._set([20], ("all", "medium", "large"))
