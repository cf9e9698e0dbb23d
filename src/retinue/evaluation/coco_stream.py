"""COCO metrics from predictions as they come, without keeping them.

hotcoco matches each image at once and keeps the outcome, a few bytes a detection. Processes each
have a stream; the main one merges them and adds the images that no process has seen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import hotcoco
import numpy as np

from retinue.evaluation.fast_eval_api import COCOeval_opt
from retinue.utils.errors import InputError

__all__ = ["CocoStream"]


class CocoStream:
    """One task's evaluation over a stream of images.

    Args:
        coco: the annotations.
        task: ``"bbox"``, ``"segm"`` or ``"keypoints"``.
        params: hotcoco's parameters.
    """

    def __init__(self, coco: hotcoco.COCO, task: str, params: hotcoco.Params) -> None:
        self._coco = coco
        self._task = task
        self._stream = hotcoco.StreamingEval(
            coco.load_cats(coco.get_cat_ids()), task, params=params
        )
        self._seen: set[int] = set()
        self._num_results = 0

    def add(self, image_id: int, results: Sequence[dict[str, Any]]) -> None:
        """Match one image's results, in COCO's result format with the dataset's category ids.

        An image that comes again, as samplers repeat some to fill a batch, counts once.
        """
        if image_id in self._seen:
            return
        if self._task == "segm":  # masks of a size count by their own area, not their box's
            results = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
        annotations = self._coco.load_anns(self._coco.get_ann_ids(img_ids=[image_id]))
        self._stream.update(self._coco.load_imgs([image_id]), annotations, list(results))
        self._num_results += len(results)
        self._seen.add(image_id)

    def state(self) -> tuple[bytes, set[int], int]:
        """Return what ``absorb`` takes, to be sent to another process."""
        return self._stream.to_bytes(), self._seen, self._num_results

    def absorb(self, states: Iterable[tuple[bytes, set[int], int]]) -> None:
        """Take over the states of other processes."""
        parts = [self._stream]
        for data, images, num_results in states:
            twice = len(images & self._seen)
            if twice == len(images):  # nothing new, so nothing to count
                continue
            if twice:
                logging.getLogger("retinue.evaluation.coco_evaluation").warning(
                    "%d images were evaluated by two processes and count twice; use a sampler"
                    " that gives each image to one, such as InferenceSampler",
                    twice,
                )
            parts.append(hotcoco.StreamingEval.from_bytes(data))
            self._seen |= images
            self._num_results += num_results
        if len(parts) > 1:
            self._stream = hotcoco.StreamingEval.merge(parts)

    def finish(self, image_ids: Iterable[int] | None = None) -> COCOeval_opt | None:
        """Count the images that had no results, and return the accumulated evaluation.

        None if there was no result at all.

        Args:
            image_ids: images that count; None is all of the dataset.

        Raises:
            InputError: If others have been added.
        """
        wanted = set(self._coco.get_img_ids() if image_ids is None else image_ids)
        if others := self._seen - wanted:
            raise InputError(
                f"evaluate(img_ids): predictions of {len(others)} other images were processed and"
                " are not kept; give the evaluator an output_dir, then it keeps them"
            )
        if self._num_results == 0:
            return None
        for image_id in sorted(wanted - self._seen):
            self.add(image_id, [])
        return _Finished(self._stream)


class _Finished(COCOeval_opt):
    """An evaluation whose matching is done; its stream is used up."""

    def __init__(self, stream: hotcoco.StreamingEval) -> None:
        inner = stream.finalize()
        inner.accumulate()
        super().__init__(inner.cocoGt, inner.cocoDt, inner.params.iouType)
        self.params.maxDets = inner.params.maxDets
        self.params.kpt_oks_sigmas = np.array(inner.params.kpt_oks_sigmas)
        self._inner = inner
