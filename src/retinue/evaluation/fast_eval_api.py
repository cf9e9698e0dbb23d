"""``COCOeval_opt``: COCO's evaluation, by hotcoco, which gives pycocotools' numbers."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

from hotcoco import COCO, COCOeval

__all__ = ["COCOeval_opt"]

logger = logging.getLogger(__name__)


def _as_hotcoco(dataset: Any) -> Any:
    """Take datasets of pycocotools, too."""
    if dataset is None or isinstance(dataset, COCO):
        return dataset
    return COCO(dataset.dataset)


class COCOeval_opt:
    """The interface of ``pycocotools.cocoeval.COCOeval``: evaluate, accumulate, summarize.

    ``params``, ``eval``, ``stats`` and the rest are those of ``hotcoco.COCOeval``; a list among
    the parameters is set as a whole (``params.maxDets = [1, 10, 300]``).
    """

    def __init__(self, cocoGt: Any = None, cocoDt: Any = None, iouType: str = "segm") -> None:
        self._inner = COCOeval(_as_hotcoco(cocoGt), _as_hotcoco(cocoDt), iouType)

    def evaluate(self) -> None:
        """Match predictions with annotations, image by image."""
        start = time.perf_counter()
        self._inner.evaluate()
        logger.info(f"Matching took {time.perf_counter() - start:.2f} seconds.")

    def accumulate(self) -> None:
        """Make precision and recall from the matches; they are in ``eval`` then."""
        self._inner.accumulate()

    def summarize(self) -> None:
        """Print the twelve (ten for keypoints) usual numbers; they are in ``stats`` then."""
        with warnings.catch_warnings():  # other limits and sigmas are asked for on purpose
            warnings.filterwarnings("ignore", message="hotcoco: (max_dets|kpt_oks_sigmas) differ")
            self._inner.summarize()

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # not there yet, while an instance is being copied
            raise AttributeError(name)
        return getattr(self._inner, name)
