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

from retinue.evaluation.coco_params import Params
from retinue.utils.errors import InputError

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


_NAMES = (
    "imgIds", "catIds", "iouThrs", "recThrs", "maxDets", "areaRng", "areaRngLbl", "useCats",
    "kpt_oks_sigmas",
)  # fmt: skip
_EMPTY: dict[str, Any] = {"eval": {}, "evalImgs": [], "stats": []}  # before there is any result


@contextlib.contextmanager
def _said(method: str) -> Iterator[None]:
    """Log how long the block took, in the line that scripts search for."""
    start = time.perf_counter()
    yield
    logger.info(f"COCOeval_opt.{method}() finished in {time.perf_counter() - start:.2f} seconds.")


def _hand_over(params: Params, to: Any) -> None:
    """Give hotcoco the parameters that are not its own already."""
    for name in _NAMES:
        value, known = getattr(params, name, None), getattr(to, name)
        if value is not None and not np.array_equal(value, known):
            setattr(to, name, bool(value) if name == "useCats" else np.asarray(value).tolist())


class COCOeval_opt:
    """The interface of ``pycocotools.cocoeval.COCOeval``: evaluate, accumulate, summarize.

    ``params`` are Python's own, to be changed until ``evaluate`` hands them to hotcoco; ``eval``,
    ``evalImgs`` and ``stats`` are ``hotcoco.COCOeval``'s, once they are there.

    Args:
        cocoGt, cocoDt: datasets of hotcoco or pycocotools; they may be set later.
        iouType: ``"bbox"``, ``"segm"`` or ``"keypoints"``.
    """

    _inner: Any = None

    def __init__(self, cocoGt: Any = None, cocoDt: Any = None, iouType: str = "segm") -> None:
        self.cocoGt, self.cocoDt = cocoGt, cocoDt
        self.params = Params(iouType)
        if cocoGt is not None:
            self.params.imgIds = sorted(cocoGt.getImgIds())
            self.params.catIds = sorted(cocoGt.getCatIds())

    def _make_inner(self) -> Any:
        iou_type = self.params.iouType
        return COCOeval(_as_hotcoco(self.cocoGt), _as_hotcoco(self.cocoDt), iou_type)

    def evaluate(self) -> None:
        """Match predictions with annotations, image by image.

        Raises:
            KeyError: If an annotation or prediction lacks what the matching needs.
            IndexError: If ``params.maxDets`` is empty.
        """
        _expect_keys((self.cocoGt, self.cocoDt), self.params.iouType)
        if not self.params.maxDets:
            raise IndexError("COCOeval: params.maxDets is empty; give it the numbers to look at")
        logger.info(f"Evaluate annotation type *{self.params.iouType}*")
        with _said("evaluate"):
            self._inner = self._make_inner()
            _hand_over(self.params, self._inner.params)
            self._inner.evaluate()

    def accumulate(self) -> None:
        """Make precision and recall from the matches; they are in ``eval`` then.

        Raises:
            InputError: If nothing was evaluated.
        """
        if self._inner is None:
            raise InputError("COCOeval: there is nothing to accumulate; run evaluate() first")
        logger.info("Accumulating evaluation results...")
        with _said("accumulate"):
            self._inner.accumulate()

    def summarize(self) -> None:
        """Print the twelve (ten for keypoints) usual numbers; they are in ``stats`` then.

        Raises:
            InputError: If nothing was evaluated.
        """
        if self._inner is None:
            raise InputError(
                "COCOeval: nothing to summarize; run evaluate() and accumulate() first"
            )
        with warnings.catch_warnings():  # other limits and sigmas are asked for on purpose
            warnings.filterwarnings("ignore", message="hotcoco: (max_dets|kpt_oks_sigmas) differ")
            for line in self._inner.summary_lines():
                for ours, known in _PYCOCOTOOLS_SPACES.items():
                    line = line.replace(ours, known)
                print(line)

    def __getattr__(self, name: str) -> Any:
        if self._inner is None:
            if name in _EMPTY:
                return type(_EMPTY[name])()
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self._inner, name)
        return np.array(value) if name == "stats" else value
