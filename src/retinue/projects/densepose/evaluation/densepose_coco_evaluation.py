"""Average precision of dense correspondences, by COCO's rules.

A detection is compared with a body by how far, on the surface, the annotated points are from where
the detection puts them: geodesic point similarity, GPS = mean of exp(-d^2 / (2 s^2)) over points,
d the geodesic distance and s that of the part. Masked GPS is sqrt(GPS * IoU of the masks); IoU
alone judges the masks. GPS takes the place of the IoU in COCO's matching.

Source: Güler et al., "DensePose" (2018), section 2.2, https://arxiv.org/abs/1802.00434, and the
evaluation of https://github.com/facebookresearch/DensePose, whose numbers these are.

Shapes
    D detections and G bodies of an image and category; K points; T thresholds; R recalls.

Reading order: DensePoseCocoEval.evaluate, computeOgps (similarities), evaluateImg (matching, see
matching.py), accumulate, summarize.
"""

import copy
import logging
from collections.abc import Sequence
from enum import Enum
from typing import Any

import hotcoco.mask as runs
import numpy as np
import torch
from torch.nn import functional as F

from retinue.projects.densepose.converters.chart_output_to_chart_result import (
    resample_uv_tensors_to_bbox,
)
from retinue.projects.densepose.converters.segm_to_mask import (
    resample_coarse_segm_tensor_to_bbox,
    resample_fine_and_coarse_segm_tensors_to_bbox,
)
from retinue.projects.densepose.evaluation.annotations import Annotations
from retinue.projects.densepose.evaluation.matching import (
    Matching,
    encode,
    keypoint_similarity,
    paste,
    precision_recall,
    sorted_outcomes,
)
from retinue.projects.densepose.evaluation.params import Params
from retinue.projects.densepose.evaluation.surface import BodySurface, part_scale
from retinue.projects.densepose.modeling.cse.utils import nearest_vertices
from retinue.projects.densepose.structures.data_relative import DensePoseDataRelative
from retinue.projects.densepose.structures.mesh import create_mesh
from retinue.utils.errors import InputError

__all__ = ["DensePoseCocoEval", "DensePoseDataMode", "DensePoseEvalMode", "Params", "logger"]

logger = logging.getLogger(__name__)

Row = dict[str, Any]
OTHER_SCALE = 0.255  # standard deviation, in metres, of points whose part is not known


class DensePoseEvalMode(str, Enum):
    """What a detection is compared by."""

    GPSM = "gpsm"
    GPS = "gps"
    IOU = "iou"


class DensePoseDataMode(str, Enum):
    """Which of chart and coordinates are a detection's own, to tell errors apart."""

    IUV_DT = "iuvdt"  # all
    IUV_GT = "iuvgt"  # none: those annotated
    I_GT_UV_0 = "igtuv0"  # annotated charts, coordinates 0
    I_GT_UV_DT = "igtuvdt"  # annotated charts
    I_DT_UV_0 = "idtuv0"  # coordinates 0


class DensePoseCocoEval:
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
        cocoGt: Any = None,  # noqa: N803
        cocoDt: Any = None,  # noqa: N803
        iouType: str = "densepose",  # noqa: N803
        multi_storage: Any = None,
        embedder: Any = None,
        dpEvalMode: DensePoseEvalMode = DensePoseEvalMode.GPS,  # noqa: N803
        dpDataMode: DensePoseDataMode = DensePoseDataMode.IUV_DT,  # noqa: N803
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
        """Return each category with the ids it stands for; one for all if categories are ignored."""
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
        compute = {
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

    def getDensePoseMask(self, polys: Sequence[Any]) -> np.ndarray:  # noqa: N802
        """Decode the runs of coarse parts: ``(256, 256)`` labels; later parts cover earlier ones."""
        annotation = {DensePoseDataRelative.S_KEY: list(polys)[:14]}
        labels: np.ndarray = DensePoseDataRelative.extract_segmentation_mask(annotation).numpy()
        return labels

    def computeDPIoU(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803
        """Return the overlaps ``(D, G)`` of masks; [] if a side is empty."""
        gt, dt = self._gts[imgId, catId], self._dts[imgId, catId]
        if not gt or not dt:
            return []
        info = self.cocoGt.imgs[imgId]  # type: ignore[union-attr]
        size_hw = info["height"], info["width"]
        masks_gt = [self._true_mask(row, size_hw) for row in gt]
        masks_dt = [
            encode(paste(self._extract_mask(row) > 0, row["bbox"], size_hw)) for row in dt
        ]
        return runs.iou(masks_dt, masks_gt, [int(row.get("iscrowd", 0)) for row in gt])

    def _true_mask(self, gt: Row, size_hw: tuple[int, int]) -> Any:
        """Make the runs of a body in the image: by its coarse parts, or by its segmentation."""
        if DensePoseDataRelative.S_KEY in gt:
            body = self.getDensePoseMask(gt[DensePoseDataRelative.S_KEY]) > 0
            _, _, w, h = gt["bbox"]
            stretched = F.interpolate(
                torch.from_numpy(body)[None, None].float(),
                (round(max(h, 1)), round(max(w, 1))),
                mode="bilinear",
                align_corners=True,
            )[0, 0]
            return encode(paste(stretched.numpy() > 0.5, gt["bbox"], size_hw))
        segmentation = gt.get("segmentation")
        if not segmentation:
            return encode(np.zeros(size_hw, dtype=bool))
        if isinstance(segmentation, list):
            return runs.merge(runs.frPyObjects(segmentation, *size_hw))
        if isinstance(segmentation["counts"], list):
            return runs.frPyObjects(segmentation, *size_hw)
        return segmentation

    def computeIoU(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803
        """Return the overlaps ``(D, G)`` of boxes or segmentations; [] if a side is empty."""
        gt, dt = self._gts[imgId, catId], self._dts[imgId, catId]
        if not gt or not dt:
            return []
        crowds = [int(row.get("iscrowd", 0)) for row in gt]
        if self.params.iouType == "bbox":
            return runs.iou([row["bbox"] for row in dt], [row["bbox"] for row in gt], crowds)
        info = self.cocoGt.imgs[imgId]  # type: ignore[union-attr]
        size_hw = info["height"], info["width"]
        masks_dt, masks_gt = (
            [self._true_mask({"segmentation": row["segmentation"]}, size_hw) for row in rows]
            for rows in (dt, gt)
        )
        return runs.iou(masks_dt, masks_gt, crowds)

    def computeOks(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803
        """Return the similarities ``(D, G)`` of keypoints; [] if a side is empty."""
        gt, dt = self._gts[imgId, catId], self._dts[imgId, catId]
        if not gt or not dt:
            return []
        return keypoint_similarity(dt, gt)

    def computeOgps(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803
        """Return GPS and overlaps of boxes, ``(D, G)`` each; [] if a side is empty."""
        gt, dt = self._gts[imgId, catId], self._dts[imgId, catId]
        if not gt or not dt:
            return []
        similarity = np.zeros((len(dt), len(gt)))
        for i, found in enumerate(dt):
            prediction = self._prediction(found)
            for j, true in enumerate(gt):
                if not true["ignore"]:
                    similarity[i, j] = self._gps(prediction, true)
        crowds = [int(row.get("iscrowd", 0)) for row in gt]
        boxes = runs.iou([row["bbox"] for row in dt], [row["bbox"] for row in gt], crowds)
        return similarity, boxes

    def _prediction(self, dt: Row) -> Row:
        """Read a stored prediction, and stretch it over the pixels of its box, once."""
        if "record_id" in dt:
            if self.multi_storage is None:
                raise InputError("a detection has a record_id; pass the multi_storage it is in")
            dt = dt | self.multi_storage.get(dt["rank"], dt["record_id"])
        if "u" in dt and "densepose" not in dt:
            box = tuple(int(number) for number in dt["bbox"])
            labels = resample_fine_and_coarse_segm_tensors_to_bbox(
                dt["fine_segm"][None], dt["coarse_segm"][None], box
            )
            uv = resample_uv_tensors_to_bbox(dt["u"][None], dt["v"][None], labels[0], box)
            coordinates = (uv * 255).clamp(0, 255).byte()
            dt = dt | {"pixels": torch.cat([labels.byte(), coordinates]).numpy()}
        elif "densepose" in dt:
            dt = dt | {"pixels": dt["densepose"].labels_uv_uint8.numpy()}
        return dt

    def _gps(self, dt: Row, gt: Row) -> float:
        """Return the similarity of a detection and a body with annotated points."""
        x0, y0, w, h = gt["bbox"]
        px = (np.array(gt["dp_x"]) * w / 255.0 + x0 - dt["bbox"][0]).astype(int)
        py = (np.array(gt["dp_y"]) * h / 255.0 + y0 - dt["bbox"][1]).astype(int)
        outside = (px < 0) | (py < 0) | (px >= int(dt["bbox"][2])) | (py >= int(dt["bbox"][3]))
        if outside.all():
            return 0.0
        px[outside] = py[outside] = 0
        distance, scale = self.computeOgps_single_pair(dt, gt, py, px, np.where(outside, -1, 0))
        similarity = np.exp(-(distance**2) / (2 * scale**2))
        return float(similarity.mean()) if len(similarity) else 0.0

    def computeOgps_single_pair(  # noqa: N802
        self, dt: Row, gt: Row, py: np.ndarray, px: np.ndarray, pt_mask: np.ndarray
    ) -> tuple[np.ndarray, Any]:
        """Compare the points of a body with a detection.

        Args:
            dt: the detection.
            gt: the annotation.
            py: ``(K,)`` int, rows in the detected box.
            px: ``(K,)`` int, columns.
            pt_mask: ``(K,)``, -1 for points outside the box, else 0.

        Returns:
            Distances and their standard deviations, in metres, of the points that have a vertex.
        """
        dt = self._prediction(dt) if "pixels" not in dt else dt
        if "pixels" in dt:
            charts, u, v = self._extract_iuv(dt["pixels"], py, px, gt)
            return self.computeOgps_single_pair_iuv(
                dt, gt, np.where(pt_mask == -1, 0, charts), u, v
            )
        if "embedding" in dt:
            return self.computeOgps_single_pair_cse(
                dt, gt, py, px, pt_mask, dt["coarse_segm"], dt["embedding"], dt["bbox"]
            )
        raise InputError(
            "a detection needs densepose, u and v, or embedding to be compared; it has"
            f" {sorted(dt)}"
        )

    def extract_iuv_from_quantized(
        self, dt: Row, gt: Row, py: np.ndarray, px: np.ndarray, pt_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read charts, u and v ``(K,)`` at points; charts outside the box are 0."""
        pixels = self._prediction(dt)["pixels"]
        charts, u, v = self._extract_iuv(pixels, py, px, gt)
        return np.where(pt_mask == -1, 0, charts), u, v

    extract_iuv_from_raw = extract_iuv_from_quantized

    def _extract_iuv(
        self, densepose_data: np.ndarray, py: np.ndarray, px: np.ndarray, gt: Row
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read what the data mode says from pixels ``(3, H, W)`` uint8 or from the annotation."""
        mode, modes = self._dpDataMode, DensePoseDataMode
        charts = densepose_data[0, py, px]
        u, v = densepose_data[1:, py, px] / 255.0
        if mode in (modes.IUV_GT, modes.I_GT_UV_0, modes.I_GT_UV_DT):
            charts = np.array(gt["dp_I"])
        if mode == modes.IUV_GT:
            u, v = np.array(gt["dp_U"]), np.array(gt["dp_V"])
        elif mode in (modes.I_GT_UV_0, modes.I_DT_UV_0):
            u, v = np.zeros_like(u), np.zeros_like(v)
        return charts, u, v

    def computeOgps_single_pair_iuv(  # noqa: N802
        self, dt: Row, gt: Row, ipoints: np.ndarray, upoints: np.ndarray, vpoints: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compare charts, u and v ``(K,)`` with those annotated; see computeOgps_single_pair."""
        vertices, points = self.findAllClosestVertsGT(gt)
        found = self.findAllClosestVertsUV(upoints, vpoints, ipoints)
        scale = part_scale(self._surface().charts[vertices[vertices >= 0]])
        return self.getDistancesUV(points, found), scale

    def computeOgps_single_pair_cse(  # noqa: N802
        self,
        dt: Row,
        gt: Row,
        py: np.ndarray,
        px: np.ndarray,
        pt_mask: np.ndarray,
        coarse_segm: torch.Tensor,
        embedding: torch.Tensor,
        bbox_xywh_abs: Sequence[float],
    ) -> tuple[np.ndarray, Any]:
        """Compare embedded pixels with the annotated vertices; see computeOgps_single_pair.

        Args:
            dt: the detection.
            gt: the annotation, with ``dp_vertex`` and ``ref_model``.
            py: as there.
            px: likewise.
            pt_mask: likewise.
            coarse_segm: ``(K, S, S)`` logits.
            embedding: ``(D, S, S)``.
            bbox_xywh_abs: the detected box.
        """
        x, y, w, h = (int(number) for number in bbox_xywh_abs)
        labels = resample_coarse_segm_tensor_to_bbox(coarse_segm[None], (x, y, w, h))[0]
        stretched = F.interpolate(embedding[None], (h, w), mode="bilinear", align_corners=False)[
            0
        ]  # (D, h, w)
        inside = pt_mask > -1
        found = torch.full((len(py),), -1)
        rows, columns = (torch.from_numpy(t[inside]) for t in (py, px))
        found[torch.from_numpy(inside)] = self.findClosestVertsCse(
            stretched, rows, columns, labels, gt["ref_model"]
        )
        true = torch.as_tensor(gt["dp_vertex"], dtype=torch.int64)
        distance = self.getDistancesCse(true, found, gt["ref_model"])
        if gt["ref_model"] == "smpl_27554" and "dp_I" in gt:
            return distance, part_scale(np.array(gt["dp_I"], dtype=int))
        return distance, OTHER_SCALE

    def _extract_mask(self, dt: Row) -> np.ndarray:
        """Return the labels of a detection's pixels ``(H, W)``; 0 is background."""
        if "densepose" in dt:
            labels: np.ndarray = dt["densepose"].labels_uv_uint8[0].numpy()
            return labels
        if "cse_mask" in dt:
            return np.asarray(dt["cse_mask"])
        if "coarse_segm" not in dt:
            dt = self._prediction(dt)
        box = tuple(int(number) for number in dt["bbox"])
        found: np.ndarray = resample_coarse_segm_tensor_to_bbox(dt["coarse_segm"][None], box)[
            0
        ].numpy()  # type: ignore[arg-type]
        return found

    # -------------------------------------------------------------------- points on surfaces

    def _surface(self) -> BodySurface:
        if self.surface is None:
            self.surface = BodySurface.load()
        return self.surface

    def findAllClosestVertsUV(  # noqa: N802
        self,
        U_points: np.ndarray,  # noqa: N803
        V_points: np.ndarray,  # noqa: N803
        Index_points: np.ndarray,  # noqa: N803
    ) -> np.ndarray:
        """Return the surface's points, from 1, at chart coordinates ``(K,)``; 0 in no chart."""
        surface = self._surface()
        return surface.points_of(surface.nearest_vertices(Index_points, U_points, V_points))

    def findAllClosestVertsGT(self, gt: Row) -> tuple[np.ndarray, np.ndarray]:  # noqa: N802
        """Return the vertices, -1 in no chart, and points, from 1, that a body is annotated with."""
        charts, u, v = (np.array(gt[key]) for key in ("dp_I", "dp_U", "dp_V"))
        surface = self._surface()
        vertices = surface.nearest_vertices(charts, u, v)
        return vertices, surface.points_of(vertices)

    def findClosestVertsCse(  # noqa: N802
        self,
        embedding: torch.Tensor,
        py: torch.Tensor,
        px: torch.Tensor,
        mask: torch.Tensor,
        mesh_name: str,
    ) -> torch.Tensor:
        """Return the vertices nearest to pixels' embeddings, -1 where ``mask`` is 0: ``(K,)``."""
        vertices = self.embedder(mesh_name)
        points = embedding[:, py, px].T.to(vertices)
        found = nearest_vertices(points, vertices).cpu()
        return found.masked_fill(mask[py, px] <= 0, -1)

    def getDistancesCse(  # noqa: N802
        self,
        cVertsGT: torch.Tensor,  # noqa: N803
        cVerts: torch.Tensor,  # noqa: N803
        mesh_name: str,
    ) -> np.ndarray:
        """Return the distances between vertices ``(K,)``, infinite to -1."""
        known = (cVertsGT >= 0) & (cVerts >= 0)
        distance = torch.full(cVertsGT.shape, torch.inf)
        geodists = create_mesh(mesh_name, torch.device("cpu")).geodists
        distance[known] = geodists[cVertsGT[known], cVerts[known]]
        found: np.ndarray = distance.detach().numpy()
        return found

    def getDistancesUV(  # noqa: N802
        self,
        cVertsGT: np.ndarray,
        cVerts: np.ndarray,  # noqa: N803
    ) -> np.ndarray:
        """Return the distances between points, from 1, for those annotated; infinite to 0."""
        known = cVertsGT > 0
        return self._surface().geodesics(cVertsGT[known], cVerts[known])

    # -------------------------------------------------------------------------------- matching

    def evaluateImg(  # noqa: N802
        self,
        imgId: Any,
        catId: Any,
        aRng: Sequence[float],
        maxDet: int,  # noqa: N803
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
