"""How like a detection is to a body: masks, boxes, keypoints, and points on the surface.

Shapes
    D detections and G bodies of an image and category; K points.

Reading order: Comparison.computeOgps, _gps, computeOgps_single_pair, then the two ways to find a
detection's points on the surface, by charts (_iuv) and by embeddings (_cse).
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any

import hotcoco.mask as runs
import numpy as np
import torch
from torch.nn import functional as F

from retinue.projects.densepose.converters.base import IntTupleBox
from retinue.projects.densepose.converters.chart_output_to_chart_result import (
    resample_uv_tensors_to_bbox,
)
from retinue.projects.densepose.converters.segm_to_mask import (
    resample_coarse_segm_tensor_to_bbox,
    resample_fine_and_coarse_segm_tensors_to_bbox,
)
from retinue.projects.densepose.evaluation.annotations import Annotations
from retinue.projects.densepose.evaluation.matching import encode, keypoint_similarity, paste
from retinue.projects.densepose.evaluation.params import Params
from retinue.projects.densepose.evaluation.surface import BodySurface, part_scale
from retinue.projects.densepose.modeling.cse.utils import nearest_vertices
from retinue.projects.densepose.structures.data_relative import DensePoseDataRelative
from retinue.projects.densepose.structures.mesh import create_mesh
from retinue.utils.errors import InputError

__all__ = ["Comparison", "DensePoseDataMode"]

Row = dict[str, Any]
OTHER_SCALE = 0.255  # standard deviation, in metres, of points whose part is not known


class DensePoseDataMode(str, Enum):
    """Which of chart and coordinates are a detection's own, to tell errors apart."""

    IUV_DT = "iuvdt"  # all
    IUV_GT = "iuvgt"  # none: those annotated
    I_GT_UV_0 = "igtuv0"  # annotated charts, coordinates 0
    I_GT_UV_DT = "igtuvdt"  # annotated charts
    I_DT_UV_0 = "idtuv0"  # coordinates 0


def _whole(bbox: Sequence[float]) -> IntTupleBox:
    """Cut a box's numbers to whole pixels."""
    x, y, width, height = (int(number) for number in bbox)
    return x, y, width, height


class Comparison:
    """What :class:`.DensePoseCocoEval` compares by; it has the annotations and thresholds."""

    cocoGt: Annotations | None
    params: Params
    surface: BodySurface | None
    embedder: Any
    multi_storage: Any
    _dpDataMode: DensePoseDataMode
    _gts: dict[Any, list[Row]]
    _dts: dict[Any, list[Row]]

    def getDensePoseMask(self, polys: Sequence[Any]) -> np.ndarray:
        """Decode the runs of coarse parts: ``(256, 256)`` labels, later parts over earlier ones."""
        annotation = {DensePoseDataRelative.S_KEY: list(polys)[:14]}
        labels: np.ndarray = DensePoseDataRelative.extract_segmentation_mask(annotation).numpy()
        return labels

    def computeDPIoU(self, imgId: Any, catId: Any) -> Any:
        """Return the overlaps ``(D, G)`` of masks; [] if a side is empty."""
        gt, dt = self._gts[imgId, catId], self._dts[imgId, catId]
        if not gt or not dt:
            return []
        info = self.cocoGt.imgs[imgId]  # type: ignore[union-attr]
        size_hw = info["height"], info["width"]
        masks_gt = [self._true_mask(row, size_hw) for row in gt]
        masks_dt = [encode(paste(self._extract_mask(row) > 0, row["bbox"], size_hw)) for row in dt]
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

    def computeIoU(self, imgId: Any, catId: Any) -> Any:
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

    def computeOks(self, imgId: Any, catId: Any) -> Any:
        """Return the similarities ``(D, G)`` of keypoints; [] if a side is empty."""
        gt, dt = self._gts[imgId, catId], self._dts[imgId, catId]
        if not gt or not dt:
            return []
        return keypoint_similarity(dt, gt)

    def computeOgps(self, imgId: Any, catId: Any) -> Any:
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
            box = _whole(dt["bbox"])
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

    def computeOgps_single_pair(
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

    def computeOgps_single_pair_iuv(
        self, dt: Row, gt: Row, ipoints: np.ndarray, upoints: np.ndarray, vpoints: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compare charts, u and v ``(K,)`` with those annotated; see computeOgps_single_pair."""
        vertices, points = self.findAllClosestVertsGT(gt)
        found = self.findAllClosestVertsUV(upoints, vpoints, ipoints)
        scale = part_scale(self._surface().charts[vertices[vertices >= 0]])
        return self.getDistancesUV(points, found), scale

    def computeOgps_single_pair_cse(
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
        segm = dt["coarse_segm"][None]
        found: np.ndarray = resample_coarse_segm_tensor_to_bbox(segm, _whole(dt["bbox"]))[0].numpy()
        return found

    # -------------------------------------------------------------------- points on surfaces

    def _surface(self) -> BodySurface:
        if self.surface is None:
            self.surface = BodySurface.load()
        return self.surface

    def findAllClosestVertsUV(
        self,
        U_points: np.ndarray,
        V_points: np.ndarray,
        Index_points: np.ndarray,
    ) -> np.ndarray:
        """Return the surface's points, from 1, at chart coordinates ``(K,)``; 0 in no chart."""
        surface = self._surface()
        return surface.points_of(surface.nearest_vertices(Index_points, U_points, V_points))

    def findAllClosestVertsGT(self, gt: Row) -> tuple[np.ndarray, np.ndarray]:
        """Return the vertices, -1 in no chart, and points, from 1, of a body's annotations."""
        charts, u, v = (np.array(gt[key]) for key in ("dp_I", "dp_U", "dp_V"))
        surface = self._surface()
        vertices = surface.nearest_vertices(charts, u, v)
        return vertices, surface.points_of(vertices)

    def findClosestVertsCse(
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

    def getDistancesCse(
        self,
        cVertsGT: torch.Tensor,
        cVerts: torch.Tensor,
        mesh_name: str,
    ) -> np.ndarray:
        """Return the distances between vertices ``(K,)``, infinite to -1."""
        known = (cVertsGT >= 0) & (cVerts >= 0)
        distance = torch.full(cVertsGT.shape, torch.inf)
        geodists = create_mesh(mesh_name, torch.device("cpu")).geodists
        distance[known] = geodists[cVertsGT[known], cVerts[known]]
        found: np.ndarray = distance.detach().numpy()
        return found

    def getDistancesUV(
        self,
        cVertsGT: np.ndarray,
        cVerts: np.ndarray,
    ) -> np.ndarray:
        """Return the distances between points, from 1, for those annotated; infinite to 0."""
        known = cVertsGT > 0
        return self._surface().geodesics(cVertsGT[known], cVerts[known])
