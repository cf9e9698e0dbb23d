"""Evaluates DensePose on a dataset: GPS AP, masked GPS AP and AP of masks.

Reading order: DensePoseCOCOEvaluator.process, prediction_to_dict, then evaluate.
"""

import copy
import io
import itertools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from retinue.config import CfgNode
from retinue.data import MetadataCatalog
from retinue.data.datasets.coco_file import read_annotation_file
from retinue.evaluation import DatasetEvaluator
from retinue.projects.densepose.converters.to_chart_result import ToChartResultConverter
from retinue.projects.densepose.converters.to_mask import ToMaskConverter
from retinue.projects.densepose.data.datasets.coco import maybe_filter_and_map_categories_cocoapi
from retinue.projects.densepose.evaluation.annotations import Annotations
from retinue.projects.densepose.evaluation.densepose_coco_evaluation import (
    DensePoseCocoEval,
    DensePoseEvalMode,
)
from retinue.projects.densepose.evaluation.matching import encode
from retinue.projects.densepose.evaluation.mesh_alignment_evaluator import MeshAlignmentEvaluator
from retinue.projects.densepose.evaluation.tensor_storage import (
    SingleProcessFileTensorStorage,
    SingleProcessRamTensorStorage,
    SingleProcessTensorStorage,
    SizeData,
    storage_gather,
)
from retinue.projects.densepose.structures.chart import DensePoseChartPredictorOutput
from retinue.projects.densepose.structures.chart_result import quantize_densepose_chart_result
from retinue.projects.densepose.structures.cse import DensePoseEmbeddingPredictorOutput
from retinue.structures import BoxMode, Instances
from retinue.utils import comm
from retinue.utils.errors import InputError, unknown_name
from retinue.utils.file_io import PathManager, atomic_write
from retinue.utils.logger import create_small_table

__all__ = [
    "DensePoseCOCOEvaluator",
    "build_densepose_evaluator_storage",
    "densepose_chart_predictions_to_dict",
    "densepose_chart_predictions_to_storage_dict",
    "densepose_cse_predictions_to_dict",
    "prediction_to_dict",
]

CHART_FIELDS = ("coarse_segm", "fine_segm", "u", "v")


class DensePoseCOCOEvaluator(DatasetEvaluator):
    """Average precision of dense correspondences.

    Args:
        dataset_name: a registered dataset with a COCO file, whose loader was built already.
        distributed: gather the predictions of all processes and evaluate on the main one.
        output_dir: where ``coco_densepose_predictions.pth`` is written.
        evaluator_type: ``"iuv"`` or ``"cse"``.
        min_iou_threshold: the lowest threshold of similarity.
        storage: where predictions are kept until all are there; by default, in their dicts.
        embedder: embeds the vertices of meshes.
        should_evaluate_mesh_alignment: compare the embeddings of meshes, too.
        mesh_alignment_mesh_names: of which meshes.

    Raises:
        InputError: If meshes should be aligned without an embedder.
    """

    def __init__(
        self,
        dataset_name: str,
        distributed: bool,
        output_dir: str | None = None,
        evaluator_type: str = "iuv",
        min_iou_threshold: float = 0.5,
        storage: SingleProcessTensorStorage | None = None,
        embedder: Any = None,
        should_evaluate_mesh_alignment: bool = False,
        mesh_alignment_mesh_names: Sequence[str] | None = None,
    ) -> None:
        self._distributed, self._output_dir, self._storage = distributed, output_dir, storage
        self._evaluator_type, self._embedder = evaluator_type, embedder
        self._should_evaluate_mesh_alignment = should_evaluate_mesh_alignment
        if should_evaluate_mesh_alignment:
            if embedder is None:
                raise InputError(
                    "DENSEPOSE_EVALUATION.EVALUATE_MESH_ALIGNMENT needs a model with"
                    " MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS; it has none"
                )
            self._mesh_alignment_evaluator = MeshAlignmentEvaluator(
                embedder, mesh_alignment_mesh_names
            )
        self._logger = logging.getLogger(__name__)
        self._metadata = MetadataCatalog.get(dataset_name)
        self._min_threshold = min_iou_threshold
        self._coco_api = Annotations(read_annotation_file(self._metadata.json_file))
        maybe_filter_and_map_categories_cocoapi(dataset_name, self._coco_api)
        self.reset()

    def reset(self) -> None:
        """Forget the predictions so far."""
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take in one batch: ``image_id`` of inputs, ``instances`` with ``pred_densepose``."""
        for image, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            if not instances.has("pred_densepose"):
                continue
            results = prediction_to_dict(
                instances,
                image["image_id"],
                self._embedder,
                self._metadata.get("class_to_mesh_name"),
                self._storage is not None,
            )
            self._predictions.extend(map(self._stored, results))

    def _stored(self, result: dict[str, Any]) -> dict[str, Any]:
        """Move the tensors of a result to the storage, if there is one."""
        if self._storage is None:
            return result
        number = self._storage.put({name: result.pop(name) for name in self._storage.data_schema})
        return result | {"record_id": number, "rank": comm.get_rank()}

    def evaluate(self, img_ids: Iterable[Any] | None = None) -> Any:
        """Return metrics of ``densepose_gps``, ``densepose_gpsm`` and ``densepose_segm``.

        Nothing off the main process.
        """
        predictions = self._predictions
        if self._distributed:
            comm.synchronize()
            predictions = list(itertools.chain(*comm.gather(predictions)))
        storage = None if self._storage is None else storage_gather(self._storage)
        if not comm.is_main_process():
            return None
        return copy.deepcopy(self._eval_predictions(predictions, storage, img_ids))

    def _eval_predictions(
        self,
        predictions: Sequence[dict[str, Any]],
        multi_storage: Any = None,
        img_ids: Iterable[Any] | None = None,
    ) -> dict[str, Any]:
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            path = os.path.join(self._output_dir, "coco_densepose_predictions.pth")
            with atomic_write(path) as file:
                torch.save(predictions, file)
        results: dict[str, Any] = {
            f"densepose_{name}": self._evaluate_by(mode, predictions, multi_storage, img_ids)
            for name, mode in (
                ("gps", DensePoseEvalMode.GPS),
                ("gpsm", DensePoseEvalMode.GPSM),
                ("segm", DensePoseEvalMode.IOU),
            )
        }
        if self._should_evaluate_mesh_alignment:
            results["densepose_mesh_alignment"] = self._evaluate_mesh_alignment()
        return results

    def _evaluate_by(
        self,
        mode: DensePoseEvalMode,
        predictions: Sequence[dict[str, Any]],
        multi_storage: Any,
        img_ids: Iterable[Any] | None,
    ) -> dict[str, float]:
        """Return the metrics, in percent, by one kind of similarity; -1 without predictions."""
        metrics = _metric_names(self._min_threshold)
        if not predictions:
            self._logger.warning("There are no predictions: all metrics are -1.")
            return dict.fromkeys(metrics, -1.0)
        evaluation = DensePoseCocoEval(
            self._coco_api,
            self._coco_api.loadRes(predictions),
            multi_storage=multi_storage,
            embedder=self._embedder,
            dpEvalMode=mode,
        )
        if img_ids is not None:
            evaluation.params.imgIds = list(img_ids)
        num_steps = round((0.95 - self._min_threshold) / 0.05)
        evaluation.params.iouThrs = np.linspace(self._min_threshold, 0.95, num_steps + 1)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        results = dict(zip(metrics, (100 * evaluation.stats).tolist(), strict=True))
        self._logger.info("Results by %s:\n%s", mode.value, create_small_table(results))
        classes = self._metadata.get("thing_classes") or ()
        if len(classes) > 1:
            results |= _of_each_class(classes, evaluation.eval["precision"])
        return results

    def _evaluate_mesh_alignment(self) -> dict[str, float]:
        error, similarity, per_mesh = self._mesh_alignment_evaluator.evaluate()
        results = {"GE": 100 * error, "GPS": 100 * similarity}
        for metric, values in per_mesh.items():
            results |= {f"{metric}-{mesh}": 100 * value for mesh, value in values.items()}
        self._print_mesh_alignment_results(results, per_mesh["GE"])
        return results

    def _print_mesh_alignment_results(
        self, results: Mapping[str, float], mesh_names: Iterable[str]
    ) -> None:
        for mesh in mesh_names:
            gerr, gps = results[f"GE-{mesh}"], results[f"GPS-{mesh}"]
            self._logger.info("Mesh %s: geodesic error %.2f, GPS %.2f", mesh, gerr, gps)
        self._logger.info("All meshes: error %.2f, GPS %.2f", results["GE"], results["GPS"])


def _metric_names(min_threshold: float) -> list[str]:
    lower = [f"AP{t}" for t in (20, 30, 40) if min_threshold <= t / 100 + 0.001]
    return ["AP", *lower, *["AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]]


def _of_each_class(classes: Sequence[str], precision: np.ndarray) -> dict[str, float]:
    """Return the AP, in percent, of each class; NaN where there are no bodies."""
    if len(classes) != precision.shape[2]:
        raise InputError(
            f"the dataset has {precision.shape[2]} categories, its metadata {len(classes)} classes;"
            " is its loader built, which merges categories?"
        )
    values = [precision[:, :, number, 0, -1] for number in range(len(classes))]
    values = [value[value > -1] for value in values]
    return {
        f"AP-{name}": float(100 * value.mean()) if value.size else float("nan")
        for name, value in zip(classes, values, strict=True)
    }


def prediction_to_dict(
    instances: Instances,
    img_id: Any,
    embedder: Any,
    class_to_mesh_name: Mapping[int, str] | None,
    use_storage: bool,
) -> list[dict[str, Any]]:
    """Return an image's predictions as :class:`.DensePoseCocoEval` takes them.

    Args:
        instances: on the CPU, with ``pred_boxes``, ``scores``, ``pred_classes``,
            ``pred_densepose``.
        img_id: the image's id in the dataset.
        embedder: not used; kept with the predictor's kind in mind.
        class_to_mesh_name: likewise.
        use_storage: give raw predictions of charts, to be stored; else quantised results.
    """
    if isinstance(instances.pred_densepose, DensePoseEmbeddingPredictorOutput):
        found = densepose_cse_predictions_to_dict(
            instances, embedder, class_to_mesh_name, use_storage
        )
    elif use_storage:
        found = densepose_chart_predictions_to_storage_dict(instances)
    else:
        found = densepose_chart_predictions_to_dict(instances)
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    rows = zip(
        instances.pred_classes.tolist(),
        boxes.tolist(),
        instances.scores.tolist(),
        found,
        strict=True,
    )
    return [
        {"image_id": img_id, "category_id": category, "bbox": box, "score": score} | densepose
        for category, box, score, densepose in rows
    ]


def densepose_chart_predictions_to_dict(instances: Instances) -> list[dict[str, Any]]:
    """Return ``densepose``, a quantised result, and ``segmentation``, runs, of each instance."""
    masks = ToMaskConverter.convert(
        instances.pred_densepose, instances.pred_boxes, instances.image_size
    )
    results = []
    for i, mask in enumerate(masks.tensor.numpy()):
        result = ToChartResultConverter.convert(
            instances.pred_densepose[i], instances.pred_boxes[i]
        )
        rle = encode(mask)
        rle["counts"] = rle["counts"].decode("utf-8")
        results.append({"densepose": quantize_densepose_chart_result(result), "segmentation": rle})
    return results


def densepose_chart_predictions_to_storage_dict(instances: Instances) -> list[dict[str, Any]]:
    """Return what the predictor gave for each instance: ``coarse_segm``, ``fine_segm``, u, v."""
    output: DensePoseChartPredictorOutput = instances.pred_densepose
    return [
        {name: getattr(output, name)[i].cpu() for name in CHART_FIELDS} for i in range(len(output))
    ]


def densepose_cse_predictions_to_dict(
    instances: Instances,
    embedder: Any,
    class_to_mesh_name: Mapping[int, str] | None,
    use_storage: bool,
) -> list[dict[str, Any]]:
    """Return ``coarse_segm`` and ``embedding`` of each instance; only ``instances`` is used."""
    output: DensePoseEmbeddingPredictorOutput = instances.pred_densepose
    return [
        {"coarse_segm": segm.cpu(), "embedding": embedding.cpu()}
        for segm, embedding in zip(output.coarse_segm, output.embedding, strict=True)
    ]


def build_densepose_evaluator_storage(
    cfg: CfgNode, output_folder: str
) -> SingleProcessTensorStorage | None:
    """Build the storage that ``DENSEPOSE_EVALUATION.STORAGE`` names; None for ``"none"``.

    Args:
        cfg: the model's.
        output_folder: where a file goes.

    Raises:
        UnknownNameError: If the storage, or the type of the evaluation, is not known.
    """
    spec, kind = cfg.DENSEPOSE_EVALUATION.STORAGE, cfg.DENSEPOSE_EVALUATION.TYPE
    if spec == "none":
        return None
    head = cfg.MODEL.ROI_DENSEPOSE_HEAD
    charts = head.NUM_PATCHES + 1
    channels_of = {
        "iuv": {"coarse_segm": head.NUM_COARSE_SEGM_CHANNELS}
        | dict.fromkeys(CHART_FIELDS[1:], charts),
        "cse": {
            "coarse_segm": head.NUM_COARSE_SEGM_CHANNELS,
            "embedding": head.CSE.EMBED_SIZE,
        },
    }
    if kind not in channels_of:
        raise unknown_name("DENSEPOSE_EVALUATION.TYPE", kind, channels_of)
    side = head.HEATMAP_SIZE
    schema = {
        name: SizeData("float32", (channels, side, side))
        for name, channels in channels_of[kind].items()
    }
    if spec == "ram":
        return SingleProcessRamTensorStorage(schema, io.BytesIO())
    if spec == "file":
        PathManager.mkdirs(output_folder)
        name = f"DensePoseEvaluatorStorage.{comm.get_rank()}.bin"
        return SingleProcessFileTensorStorage(schema, os.path.join(output_folder, name), "wb")
    raise unknown_name("DENSEPOSE_EVALUATION.STORAGE", spec, ["none", "ram", "file"])
