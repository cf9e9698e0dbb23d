"""Average precision of dense correspondences, by COCO's rules.

A detection is compared with a body by how far, on the surface, the annotated points are from where
the detection puts them: geodesic point similarity, GPS = mean of exp(-d^2 / (2 s^2)) over points,
d the geodesic distance and s that of the part. Masked GPS is sqrt(GPS * IoU of the masks); IoU
alone judges the masks. GPS takes the place of the IoU in COCO's matching.

Source: Güler et al., "DensePose" (2018), section 2.2, https://arxiv.org/abs/1802.00434, and the
evaluation of https://github.com/facebookresearch/DensePose, whose numbers these are.

Shapes
    D detections and G bodies of an image and category; K points; T thresholds; R recalls.

Reading order: DensePoseCocoEval.evaluate, computeOgps (in comparison.py), evaluateImg (see
matching.py), accumulate, summarize.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import hotcoco.mask as runs
import numpy as np

from retinue.projects.densepose.evaluation.annotations import Annotations
from retinue.projects.densepose.evaluation.comparison import Comparison, DensePoseDataMode
from retinue.projects.densepose.evaluation.matching import (
    Matching,
    precision_recall,
    sorted_outcomes,
)
from retinue.projects.densepose.evaluation.params import Params
from retinue.projects.densepose.evaluation.surface import BodySurface
from retinue.utils.errors import InputError

__all__ = ["DensePoseCocoEval", "DensePoseDataMode", "DensePoseEvalMode", "Params", "logger"]

logger = logging.getLogger(__name__)

Row = dict[str, Any]


class DensePoseEvalMode(str, Enum):
    """What a detection is compared by."""

    GPSM = "gpsm"
    GPS = "gps"
    IOU = "iou"


class DensePoseCocoEval(Comparison):
    """Compares detections with annotated bodies.

    Call :meth:`evaluate`, :meth:`accumulate`, :meth:`summarize`; the numbers are in ``stats``.

    Args:
        cocoGt: annotations: anything with a ``dataset`` in COCO's format.
        cocoDt: results, likewise; each has ``densepose`` (a quantised result), or ``u``, ``v``,
            ``fine_segm`` and ``coarse_segm``, or ``embedding`` and ``coarse_segm``, or ``rank``
            and ``record_id`` that say where these are stored.
        iouType: ``"densepose"``; others are accepted as COCO has them.
        multi_storage: where stored predictions are read from.
        embedder: embeds the vertices of meshes, for detections with embeddings.
        dpEvalMode: what a detection is compared by.
        dpDataMode: what of it counts.
    """

    def __init__(
        self,
        cocoGt: Any = None,
        cocoDt: Any = None,
        iouType: str = "densepose",
        multi_storage: Any = None,
        embedder: Any = None,
        dpEvalMode: DensePoseEvalMode = DensePoseEvalMode.GPS,
        dpDataMode: DensePoseDataMode = DensePoseDataMode.IUV_DT,
    ) -> None:
        self.cocoGt = None if cocoGt is None else Annotations.wrap(cocoGt)
        self.cocoDt = None if cocoDt is None else Annotations.wrap(cocoDt)
        self.multi_storage = multi_storage
        self.embedder = embedder
        self._dpEvalMode = dpEvalMode
        self._dpDataMode = dpDataMode
        self.surface: BodySurface | None = None  # loaded when charts are first compared
        self.params = Params(iouType=iouType)
        self.evalImgs: list[Any] = []
        self.eval: dict[str, Any] = {}
        self.stats: Any = []
        self.ious: dict[Any, Any] = {}
        self.real_ious: dict[Any, Any] = {}
        self.ignoreThrBB = 0.7
        self.ignoreThrUV = 0.9
        if self.cocoGt is not None:
            self.params.imgIds = sorted(self.cocoGt.getImgIds())
            self.params.catIds = sorted(self.cocoGt.getCatIds())

    # ------------------------------------------------------------------------------- preparing

    def _prepare(self) -> None:
        """Collect annotations and results by image and category, without those to be ignored."""
        if self.cocoGt is None or self.cocoDt is None:
            raise InputError("DensePoseCocoEval: needs cocoGt and cocoDt; got None")
        p = self.params
        self._gts: dict[Any, list[Row]] = {}
        self._dts: dict[Any, list[Row]] = {}
        for image in p.imgIds:
            region = self._ignored_region(image)
            for category, wanted in self._categories():
                gts = [self._with_ignore(row) for row in self.cocoGt.rows(image, wanted)]
                dts = [d for d in self.cocoDt.rows(image, wanted) if self._counts(d, region)]
                dts = sorted(dts, key=lambda row: -row["score"])[: p.maxDets[-1]]
                self._gts[image, category] = [g for g in gts if self._counts(g, region)]
                self._dts[image, category] = dts

    def _categories(self) -> list[tuple[Any, list[Any]]]:
        """Return each category with the ids it stands for; one for all if they are ignored."""
        if self.params.useCats:
            return [(category, [category]) for category in self.params.catIds]
        return [(-1, list(self.params.catIds))]

    def _with_ignore(self, gt: Row) -> Row:
        """Mark annotations that cannot be compared; finding them is neither right nor wrong."""
        ignore = bool(gt.get("iscrowd", 0))
        if self.params.iouType == "densepose":
            ignore = "dp_x" not in gt
        elif self.params.iouType == "keypoints":
            ignore = ignore or not gt["num_keypoints"]
        return gt | {"ignore": ignore}

    def _ignored_region(self, image: Any) -> np.ndarray | None:
        """Draw the polygons that an image's ``ignore_regions`` are: ``(H, W)`` uint8."""
        info = self.cocoGt.imgs[image]  # type: ignore[union-attr]
        xs, ys = info.get("ignore_regions_x"), info.get("ignore_regions_y")
        if not xs:
            return None
        polygons = [np.stack([x, y], axis=1).ravel().tolist() for x, y in zip(xs, ys, strict=True)]
        rles = runs.frPyObjects(polygons, info["height"], info["width"])
        mask: np.ndarray = runs.decode(runs.merge(rles))
        return mask

    def _counts(self, row: Row, region: np.ndarray | None) -> bool:
        """Tell whether enough of a box, or of a detected mask, lies outside the ignored region."""
        if region is None:
            return True
        x, y, w, h = (int(number) for number in row["bbox"])
        if w * h == 0:
            return False
        crop = region[max(y, 0) : y + h, max(x, 0) : x + w]
        if not crop.any():
            return True
        if "densepose" not in row:
            return bool(crop.sum() / (w * h) < self.ignoreThrBB)
        mask = self._extract_mask(row)[: crop.shape[0], : crop.shape[1]] > 0
        inside = (mask & (crop[: mask.shape[0], : mask.shape[1]] > 0)).sum() / max(mask.sum(), 1)
        return bool(inside < self.ignoreThrUV)

    # ------------------------------------------------------------------------------ evaluating

    def evaluate(self) -> None:
        """Compare and match in each image and category; results are in ``evalImgs``."""
        p = self.params
        p.imgIds = sorted(set(p.imgIds))
        p.catIds = sorted(set(p.catIds)) if p.useCats else p.catIds
        p.maxDets = sorted(p.maxDets)
        self._prepare()
        compute: Callable[[Any, Any], Any] = {
            "densepose": self.computeOgps,
            "keypoints": self.computeOks,
        }.get(p.iouType, self.computeIoU)
        categories = [category for category, _ in self._categories()]
        pairs = [(image, category) for image in p.imgIds for category in categories]
        self.ious = {pair: compute(*pair) for pair in pairs}
        if p.iouType == "densepose" and self._dpEvalMode != DensePoseEvalMode.GPS:
            self.real_ious = {pair: self.computeDPIoU(*pair) for pair in pairs}
        self.evalImgs = [
            self.evaluateImg(image, category, area, p.maxDets[-1])
            for category in categories
            for area in p.areaRng
            for image in p.imgIds
        ]
        self._paramsEval = copy.deepcopy(p)

    # -------------------------------------------------------------------------------- matching

    def evaluateImg(
        self,
        imgId: Any,
        catId: Any,
        aRng: Sequence[float],
        maxDet: int,
    ) -> Row | None:
        """Match an image's detections of a category to its bodies of a size.

        Returns:
            ``dtMatches`` ``(T, D)`` and ``gtMatches`` ``(T, G)``, ids or 0; ``dtIgnore``,
            ``gtIgnore``; ids and scores, best first. None if there is neither.
        """
        gt, dt = self._gts[imgId, catId], self._dts[imgId, catId][:maxDet]
        if not gt and not dt:
            return None
        ignored = np.array(
            [row["ignore"] or not aRng[0] <= row["area"] <= aRng[1] for row in gt], dtype=bool
        )
        order = np.argsort(ignored, kind="stable")  # ignored bodies are matched last
        gt, ignored = [gt[i] for i in order], ignored[order]
        dt_ids, gt_ids = (np.array([row["id"] for row in rows], dtype=int) for rows in (dt, gt))
        is_densepose = self.params.iouType == "densepose"
        matching = Matching.empty(self.params.iouThrs, dt_ids, gt_ids, ignored)
        if is_densepose and ignored.all():
            matching.ignore_dt[:] = True
        if gt and dt:
            crowd = np.array([bool(row.get("iscrowd", 0)) for row in gt])
            matching.by_similarity(self._similarities(imgId, catId)[: len(dt), order], crowd)
            if is_densepose:
                matching.ignore_by_box(self.ious[imgId, catId][1][: len(dt), order], crowd)
        out_of_size = np.array([not aRng[0] <= row["area"] <= aRng[1] for row in dt], dtype=bool)
        return {
            "image_id": imgId,
            "category_id": catId,
            "aRng": aRng,
            "maxDet": maxDet,
            "dtIds": dt_ids.tolist(),
            "gtIds": gt_ids.tolist(),
            "dtMatches": matching.dt,
            "gtMatches": matching.gt,
            "dtScores": [row["score"] for row in dt],
            "gtIgnore": ignored,
            "dtIgnore": matching.ignore_dt | ((matching.dt == 0) & out_of_size),
        }

    def _similarities(self, image: Any, category: Any) -> np.ndarray:
        """Return what detections are compared by: ``(D, G)``."""
        found = self.ious[image, category]
        if self.params.iouType != "densepose":
            return np.asarray(found)
        if self._dpEvalMode == DensePoseEvalMode.GPS:
            return np.asarray(found[0])
        overlap = np.asarray(self.real_ious[image, category])
        if self._dpEvalMode == DensePoseEvalMode.IOU:
            return overlap
        return np.sqrt(overlap * found[0])

    # -------------------------------------------------------------------------- accumulating

    def accumulate(self, p: Params | None = None) -> None:
        """Fill ``eval``: ``precision`` ``(T, R, C, A, M)`` and ``recall`` ``(T, C, A, M)``.

        C categories, A sizes, M limits of detections; -1 where there are no bodies.

        Args:
            p: thresholds, if others than those of :meth:`evaluate`.
        """
        if not self.evalImgs:
            raise InputError("DensePoseCocoEval: call evaluate() before accumulate()")
        p = p or self.params
        num_categories = len(self._categories())
        sizes = num_categories, len(p.areaRng), len(p.maxDets)
        precision = -np.ones((len(p.iouThrs), len(p.recThrs), *sizes))
        recall = -np.ones((len(p.iouThrs), *sizes))
        num_images = len(self._paramsEval.imgIds)
        for c, a in np.ndindex(*sizes[:2]):
            start = (c * len(self._paramsEval.areaRng) + a) * num_images
            rows = [e for e in self.evalImgs[start : start + num_images] if e is not None]
            num_bodies = sum(int((~row["gtIgnore"]).sum()) for row in rows)
            if not num_bodies:
                continue
            for m, limit in enumerate(p.maxDets):
                right, wrong = sorted_outcomes(rows, limit)
                precision[:, :, c, a, m], recall[:, c, a, m] = precision_recall(
                    right, wrong, num_bodies, p.recThrs
                )
        counts = list(precision.shape)
        self.eval = {"params": p, "counts": counts, "precision": precision, "recall": recall}

    def summarize(self) -> None:
        """Fill ``stats``, and log them.

        For dense correspondences: AP, AP at 0.5 and 0.75 (and 0.2 to 0.4 as far as thresholds
        start there), AP of medium and large bodies; then AR likewise, from 0.5.
        """
        if not self.eval:
            raise InputError("DensePoseCocoEval: call accumulate() before summarize()")
        self.stats = np.array([self._mean(*what) for what in self._summary()])

    def _summary(self) -> list[tuple[str, float | None, str, int]]:
        """List what is averaged: metric, threshold, size, limit of detections."""
        limits = self.params.maxDets
        if self.params.iouType in ("bbox", "segm"):
            top = limits[-1]
            rows: list[tuple[str, float | None, str, int]]
            rows = [("precision", t, "all", top) for t in (None, 0.5, 0.75)]
            rows += [("precision", None, size, top) for size in ("small", "medium", "large")]
            rows += [("recall", None, "all", limit) for limit in limits]
            rows += [("recall", None, size, top) for size in ("small", "medium", "large")]
            return rows
        lower = [t for t in (0.2, 0.3, 0.4) if self.params.iouThrs.min() <= t + 0.001]
        if self.params.iouType == "keypoints":
            lower = []
        rows = []
        for metric, thresholds in (("precision", [*lower, 0.5, 0.75]), ("recall", [0.5, 0.75])):
            rows += [(metric, t, "all", limits[0]) for t in (None, *thresholds)]
            rows += [(metric, None, size, limits[0]) for size in ("medium", "large")]
        return rows

    def _mean(self, metric: str, threshold: float | None, size: str, limit: int) -> float:
        p = self.params
        values = self.eval[metric][..., p.areaRngLbl.index(size), p.maxDets.index(limit)]
        if threshold is not None:
            values = values[np.abs(p.iouThrs - threshold) < 0.001]
        values = values[values > -1]
        mean = float(values.mean()) if values.size else -1.0
        at = "all thresholds" if threshold is None else f"{threshold:.2f}"
        logger.info("%s at %s, %s sizes, %d detections: %.3f", metric, at, size, limit, mean)
        return mean

    def __str__(self) -> str:
        return (
            f"DensePoseCocoEval({self._dpEvalMode.value}, stats={np.asarray(self.stats).tolist()})"
        )
