"""``COCOeval_opt``: COCO's evaluation, by hotcoco, which gives pycocotools' numbers."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval

__all__ = ["COCOeval_opt"]

logger = logging.getLogger(__name__)


def _as_hotcoco(dataset: Any) -> Any:
    """Take datasets of pycocotools, too, whose computed boxes are arrays."""
    if dataset is None or isinstance(dataset, COCO):
        return dataset
    content = dict(dataset.dataset)
    if "annotations" in content:
        content["annotations"] = [
            {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in annotation.items()}
            for annotation in content["annotations"]
        ]
    return COCO(content)


# Between the words of a line of the summary, which scripts look for.
_PYCOCOTOOLS_SPACES = {
    "Average Precision (AP)": "Average Precision  (AP)",
    "Average Recall (AR)   ": "Average Recall     (AR)",
}
_GEOMETRY = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}
_NEEDED = (("area", "iscrowd"), ("area", "score"))  # of annotations, and of predictions


def _expect_keys(datasets: tuple[Any, Any], task: str) -> None:
    """Refuse annotations of pycocotools that lack a key; hotcoco's have them all."""
    if any(dataset is None or isinstance(dataset, COCO) for dataset in datasets):
        return
    annotations = [dataset.dataset.get("annotations", ()) for dataset in datasets]
    for some, needed in zip(annotations, _NEEDED, strict=True):
        keys = (*needed, _GEOMETRY[task]) if all(map(len, annotations)) else ()
        for annotation in some:
            for key in keys:
                if key not in annotation:
                    raise KeyError(f"annotation {annotation.get('id')} has no {key!r}")


@contextlib.contextmanager
def _said(method: str) -> Iterator[None]:
    """Log how long the block took, in the line that scripts search for."""
    start = time.perf_counter()
    yield
    logger.info(f"COCOeval_opt.{method}() finished in {time.perf_counter() - start:.2f} seconds.")


class COCOeval_opt:
    """The interface of ``pycocotools.cocoeval.COCOeval``: evaluate, accumulate, summarize.

    ``params``, ``eval``, ``stats`` and the rest are those of ``hotcoco.COCOeval``; a list among
    the parameters is set as a whole (``params.maxDets = [1, 10, 300]``).
    """

    def __init__(self, cocoGt: Any = None, cocoDt: Any = None, iouType: str = "segm") -> None:
        self._given = (cocoGt, cocoDt)
        self._inner = COCOeval(_as_hotcoco(cocoGt), _as_hotcoco(cocoDt), iouType)

    def evaluate(self) -> None:
        """Match predictions with annotations, image by image.

        Raises:
            KeyError: If an annotation or prediction lacks what the matching needs.
            IndexError: If ``params.maxDets`` is empty.
        """
        _expect_keys(self._given, self._inner.params.iouType)
        if not self._inner.params.maxDets:
            raise IndexError("COCOeval: params.maxDets is empty; give it the numbers to look at")
        logger.info(f"Evaluate annotation type *{self._inner.params.iouType}*")
        with _said("evaluate"):
            self._inner.evaluate()

    def accumulate(self) -> None:
        """Make precision and recall from the matches; they are in ``eval`` then."""
        logger.info("Accumulating evaluation results...")
        with _said("accumulate"):
            self._inner.accumulate()

    def summarize(self) -> None:
        """Print the twelve (ten for keypoints) usual numbers; they are in ``stats`` then."""
        with warnings.catch_warnings():  # other limits and sigmas are asked for on purpose
            warnings.filterwarnings("ignore", message="hotcoco: (max_dets|kpt_oks_sigmas) differ")
            for line in self._inner.summary_lines():
                for ours, known in _PYCOCOTOOLS_SPACES.items():
                    line = line.replace(ours, known)
                print(line)

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # not there yet, while an instance is being copied
            raise AttributeError(name)
        return getattr(self._inner, name)
