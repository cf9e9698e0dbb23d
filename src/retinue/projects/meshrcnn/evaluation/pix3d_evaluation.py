"""AP of boxes, masks and meshes on datasets in the form of Pix3D.

A detection's mesh is right if F1 at 0.3, both meshes scaled so that the true one is 10 long, is
above 0.5 (Mesh R-CNN, section 4.2). Images are judged as they come; what is kept of a detection is
its score and what was right about it.

Reading order: Pix3DEvaluator.process, _judge (one image), evaluate.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from retinue.config import CfgNode
from retinue.data import MetadataCatalog
from retinue.data.datasets.coco_file import read_annotation_file
from retinue.evaluation import DatasetEvaluator
from retinue.projects.meshrcnn.data.datasets.pix3d import MISMATCHED
from retinue.projects.meshrcnn.data.meshrcnn_transforms import load_unique_meshes
from retinue.projects.meshrcnn.ops import Meshes, ico_sphere
from retinue.projects.meshrcnn.utils.metrics import compare_meshes
from retinue.projects.meshrcnn.utils.shape import (
    box2D_to_cuboid3D,
    box_to_camera,
    transform_verts,
)
from retinue.projects.meshrcnn.utils.VOCap import compute_ap
from retinue.structures import Boxes, Instances, pairwise_iou
from retinue.utils import comm
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager
from retinue.utils.tables import format_table

__all__ = ["Pix3DEvaluator", "transform_meshes_to_camera_coord_system"]

logger = logging.getLogger(__name__)

MIN_OVERLAP = 0.3  # of a box with the true one, below which a detection isn't judged
MIN_RIGHT = 0.5  # IoU of boxes and masks, F1 of meshes
F1_TARGET = "F1@0.300000"
TASKS = ("box", "mask", "mesh")
MEANS = ("Chamfer-L2", "AbsNormalConsistency", F1_TARGET)


class Pix3DEvaluator(DatasetEvaluator):
    """Judges boxes, masks and meshes; each image of the dataset shows one object.

    Args:
        dataset_name: its metadata have ``json_file``, ``image_root`` and
            ``thing_dataset_id_to_contiguous_id``.
        cfg: says by ``MODEL.MASK_ON``, ``MESH_ON`` and ``VOXEL_ON`` what there is to judge.
        distributed: whether to merge what all processes saw.
        output_dir: where ``shape_results.pth`` goes; None for nowhere.
        num_samples: points on a mesh that is compared.

    Raises:
        InputError: If an image has not exactly one annotation.
    """

    def __init__(
        self,
        dataset_name: str,
        cfg: CfgNode,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        num_samples: int = 10_000,
    ) -> None:
        model = cfg.MODEL
        is_on = {"box": True, "mask": model.MASK_ON, "mesh": model.MESH_ON or model.VOXEL_ON}
        self._tasks = [task for task in TASKS if is_on[task]]
        self._distributed = distributed
        self._output_dir = output_dir
        self._num_samples = num_samples
        meta = MetadataCatalog.get(dataset_name)
        self._image_root = meta.image_root
        self._label_of = meta.thing_dataset_id_to_contiguous_id
        self._class_names = meta.thing_classes

        content = read_annotation_file(meta.json_file)
        left_out = {i["id"] for i in content["images"] if i["file_name"] in MISMATCHED}
        truth: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            truth[annotation["image_id"]].append(annotation)
        for image in content["images"]:
            if len(truth[image["id"]]) != 1:
                raise InputError(
                    f"Pix3DEvaluator: {meta.json_file} must have one object an image; image"
                    f" {image['id']!r} has {len(truth[image['id']])}"
                )
        self._truth = {i: found[0] for i, found in truth.items() if i not in left_out}
        self._mesh_models = {}
        if "mesh" in self._tasks:
            self._mesh_models = load_unique_meshes(meta.json_file, meta.image_root)
        self.reset()

    def reset(self) -> None:
        """Forget what was judged."""
        self._detections: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Judge a batch; see :meth:`DatasetEvaluator.process`."""
        for one, output in zip(inputs, outputs, strict=True):
            truth = self._truth.get(one["image_id"])
            if truth is not None and len(output["instances"]):
                self._detections += self._judge(output["instances"], truth)

    @torch.no_grad()
    def _judge(self, instances: Instances, truth: dict[str, Any]) -> list[dict[str, Any]]:
        """Return for each detection near the object its score, its class and what is right."""
        instances = instances[instances.scores.argsort(descending=True, stable=True)]
        x, y, width, height = truth["bbox"]
        boxes = instances.pred_boxes
        true_box = Boxes(boxes.tensor.new_tensor([[x, y, x + width, y + height]]))
        overlap = pairwise_iou(boxes, true_box)[:, 0]  # (R,)
        near = overlap > MIN_OVERLAP
        instances, values = instances[near], {"box": overlap[near]}
        if not len(instances):
            return []
        metrics: dict[str, Any] = {}
        if "mask" in self._tasks:
            values["mask"] = self._mask_iou(instances, truth)
        if "mesh" in self._tasks:
            metrics = self._mesh_metrics(instances, truth)
            values["mesh"] = metrics[F1_TARGET] / 100
        same_class = instances.pred_classes.cpu() == self._label_of[truth["category_id"]]
        right = {}
        for task, value in values.items():
            fits = same_class & (value.cpu() > MIN_RIGHT)
            right[task] = fits & (fits.cumsum(0) == 1)  # the object is found once
        rows = [
            {"label": label, "score": score, **{t: bool(right[t][i]) for t in right}}
            for i, (label, score) in enumerate(
                zip(instances.pred_classes.tolist(), instances.scores.tolist(), strict=True)
            )
        ]
        rows[0] |= {name: float(metrics[name][0]) for name in MEANS if name in metrics}
        return rows

    def _mask_iou(self, instances: Instances, truth: dict[str, Any]) -> torch.Tensor:
        """Return ``(R,)`` overlaps with the true mask, a picture."""
        path = os.path.join(self._image_root, truth["segmentation"])
        with PathManager.open(path, "rb") as file:
            gt = torch.from_numpy(np.array(Image.open(file).convert("L"))) > 0
        pred = instances.pred_masks.cpu().bool()
        if gt.shape != pred.shape[1:]:
            raise InputError(
                f"Pix3DEvaluator: mask {path} must be as large as the image,"
                f" {tuple(pred.shape[1:])}; got {tuple(gt.shape)}"
            )
        both = (pred & gt).sum(dim=(1, 2))
        return both / (pred | gt).sum(dim=(1, 2)).clamp(min=1)

    def _mesh_metrics(self, instances: Instances, truth: dict[str, Any]) -> dict[str, Any]:
        """Compare R predicted meshes, placed at the true distance, with the true one."""
        boxes = instances.pred_boxes.tensor
        verts, faces = (x.to(boxes.device) for x in self._mesh_models[truth["model"]])
        rotation, shift, camera = (
            boxes.new_tensor(truth[k]) for k in ("rot_mat", "trans_mat", "K")
        )
        verts = transform_verts(verts.to(boxes), rotation, shift)
        # The distance can't be seen in one picture; the extent relative to it was predicted.
        center = (verts[:, 2].amin() + verts[:, 2].amax()) / 2
        if not instances.has("pred_dz"):
            raise InputError(
                "Pix3DEvaluator: meshes are placed by their predicted depth; set MODEL.ZPRED_ON"
            )
        depth = instances.pred_dz[:, 0].to(boxes) * (boxes[:, 3] - boxes[:, 1])  # pixels
        half = center * depth / camera[0] / 2
        ranges = torch.stack((center - half, center + half), dim=1)
        pred = Meshes(
            [m[0].to(boxes) for m in instances.pred_meshes],
            [m[1].to(boxes.device) for m in instances.pred_meshes],
        )
        pred = transform_meshes_to_camera_coord_system(
            pred, boxes, ranges, camera.expand(len(pred), 3), instances.image_size
        )
        metrics: Any = compare_meshes(
            pred, Meshes([verts], [faces]), num_samples=self._num_samples, reduce=False
        )
        return metrics

    def evaluate(self) -> dict[str, Any] | None:
        """Return ``{"shape": results}`` on the main process.

        Results are, as fractions, ``"mesh_ap@0.5"`` and ``"mesh_ap@0.5 - chair"``, the same for
        ``box`` and ``mask``; and means of ``"Chamfer-L2"``, ``"AbsNormalConsistency"`` and
        ``"F1@0.300000"`` over the highest scoring detection near each object.
        """
        detections = self._detections
        if self._distributed:
            comm.synchronize()
            gathered = comm.gather(detections, dst=0)
            if not comm.is_main_process():
                return None
            detections = list(itertools.chain(*gathered))
        results = self._average_precisions(detections)
        best = [d for d in detections if F1_TARGET in d]
        for name in MEANS if best else ():
            results[name] = float(np.mean([d[name] for d in best]))
        if self._output_dir:
            os.makedirs(self._output_dir, exist_ok=True)
            torch.save(detections, os.path.join(self._output_dir, "shape_results.pth"))
        return {"shape": results}

    def _average_precisions(self, detections: Sequence[dict[str, Any]]) -> dict[str, float]:
        counts = np.bincount(
            [self._label_of[t["category_id"]] for t in self._truth.values()],
            minlength=len(self._class_names),
        )
        of_class: dict[str, list[float]] = defaultdict(list)
        results: dict[str, float] = {}
        table = []
        for label, count in enumerate(counts.tolist()):
            found = [d for d in detections if d["label"] == label]
            scores = torch.tensor([d["score"] for d in found], dtype=torch.float64)
            for task in self._tasks if count else ():
                right = torch.tensor([d[task] for d in found])
                ap = compute_ap(scores, right, count)
                of_class[task].append(ap)
                results[f"{task}_ap@{MIN_RIGHT} - {self._class_names[label]}"] = ap
            values = [aps[-1] if count else None for aps in of_class.values()]
            table.append([self._class_names[label], count, *values])
        for task in self._tasks:
            results[f"{task}_ap@{MIN_RIGHT}"] = float(np.mean(of_class[task] or [np.nan]))
        table.append(
            ["total", int(counts.sum()), *(results[f"{t}_ap@{MIN_RIGHT}"] for t in self._tasks)]
        )
        headers = ["category", "#instances", *(f"{task}AP" for task in self._tasks)]
        logger.info("Shapes at %s:\n%s", MIN_RIGHT, format_table(table, headers))
        return results


def transform_meshes_to_camera_coord_system(
    meshes: Meshes,
    boxes: torch.Tensor,
    zranges: torch.Tensor,
    Ks: torch.Tensor,
    imsize: Sequence[int],
) -> Meshes:
    """Place meshes, each predicted in the space of its box, in front of the camera.

    Args:
        meshes: R meshes in box space; a sphere stands for an empty one.
        boxes: ``(R, 4)`` x0, y0, x1, y1 in pixels.
        zranges: ``(R, 2)`` nearest and farthest z.
        Ks: ``(R, 3)`` focal length and principal point in pixels.
        imsize: height and width in pixels.

    Raises:
        InputError: If there are not as many ranges as meshes.
    """
    if len(meshes) != len(zranges):
        raise InputError(
            "transform_meshes_to_camera_coord_system: expected a range of depth for each of"
            f" {len(meshes)} meshes; got {len(zranges)}"
        )
    if not bool(meshes.valid.all()):
        sphere = ico_sphere(3, meshes.device).get_mesh_verts_faces(0)
        pairs = zip(meshes.verts_list(), meshes.faces_list(), strict=True)
        filled = [(v, f) if len(f) else (sphere[0].to(v), sphere[1]) for v, f in pairs]
        meshes = Meshes([v for v, _ in filled], [f for _, f in filled])
    size_wh = boxes.new_tensor([[imsize[1], imsize[0]]])
    cuboids = box2D_to_cuboid3D(zranges, Ks, boxes, size_wh)
    return meshes.with_verts(
        box_to_camera(meshes.verts_packed(), meshes.verts_packed_to_mesh_idx(), cuboids)
    )
