"""COCO's metrics for boxes, masks, keypoints and proposals.

Matching and averaging are hotcoco's, which gives pycocotools' numbers. Values are percentages; NaN
stands for what cannot be computed, such as the AP of small objects where there are none.

Reading order: COCOEvaluator (process a batch, evaluate at the end). coco_format.py has what files
hold; coco_stream.py judges predictions as they come, coco_results.py those that were kept.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import os
import pickle
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import hotcoco
import numpy as np
import torch

from retinue.config import CfgNode
from retinue.data.catalog import MetadataCatalog
from retinue.data.datasets.coco import convert_to_coco_json
from retinue.evaluation.coco_format import (
    has_annotations,
    instances_to_coco_json,
    read_annotations,
)
from retinue.evaluation.coco_results import (  # noqa: F401 - detectron2 has them here
    COCOevalMaxDets,
    _evaluate_box_proposals,
    _evaluate_predictions_on_coco,
    check_keypoints,
    params_of,
)
from retinue.evaluation.coco_stream import CocoStream
from retinue.evaluation.evaluator import DatasetEvaluator
from retinue.evaluation.fast_eval_api import COCOeval_opt  # noqa: F401 - likewise
from retinue.evaluation.proposal_recall import ProposalRecall
from retinue.structures import BoxMode, Instances
from retinue.utils import comm
from retinue.utils.errors import InputError, unknown_name
from retinue.utils.file_io import PathManager, atomic_write
from retinue.utils.logger import create_small_table
from retinue.utils.tables import format_table

__all__ = ["COCOEvaluator", "COCOevalMaxDets", "instances_to_coco_json"]

METRICS = {
    "bbox": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "segm": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
}
EVALUATING = "Evaluating predictions with unofficial COCO API..."  # scripts look for it
PROPOSAL_LIMITS = (100, 1000)
_LOOK_AT_PREDICTIONS = (
    "reset",
    "process",
    "evaluate",
    "_eval_predictions",
    "_eval_box_proposals",
)
PROPOSAL_AREAS = {"all": "", "small": "s", "medium": "m", "large": "l"}


class COCOEvaluator(DatasetEvaluator):
    """AP of boxes, masks and keypoints, and recall of proposals, by COCO's rules.

    With an ``output_dir`` the predictions are kept and written: ``coco_instances_results.json`` in
    COCO's result format, and ``instances_predictions.pth``, a list of ``{"image_id", "instances"}``
    with contiguous class ids. Without one they are matched as they come and dropped, so memory does
    not grow with the dataset.

    Args:
        dataset_name: a registered dataset; one without a COCO file is converted to it first, in
            ``output_dir``.
        tasks: ``"bbox"``, ``"segm"``, ``"keypoints"``; None is what the predictions have.
        distributed: gather the results of all processes and evaluate on the main one; else each
            process evaluates its own.
        output_dir: where files go.
        max_dets_per_image: detections that count per image, best score first; None is COCO's 100.
            COCO sorts the limits 1, 10 and this one, so less than 10 gives the AP of 10.
        use_fast_impl: accepted for detectron2's sake; there is one implementation.
        kpt_oks_sigmas: per keypoint, how far off annotators are; empty is COCO's 17 for people.
        allow_cached_coco: use a conversion that is there from an earlier run.

    Raises:
        ValueError: If the dataset needs converting and there is no ``output_dir``.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | CfgNode | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
    ) -> None:
        self._logger = logging.getLogger(__name__)
        self._distributed = distributed
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")  # subclasses use these two
        self._use_fast_impl = use_fast_impl
        self._max_dets_per_image = [
            1,
            10,
            100 if max_dets_per_image is None else max_dets_per_image,
        ]
        if isinstance(tasks, CfgNode):  # the interface of old: COCOEvaluator(name, cfg, ...)
            kpt_oks_sigmas = kpt_oks_sigmas or tasks.TEST.KEYPOINT_OKS_SIGMAS
            tasks = None
        self._tasks = None if tasks is None else tuple(tasks)
        self._kpt_oks_sigmas = list(kpt_oks_sigmas)
        self._metadata = MetadataCatalog.get(dataset_name)
        self._coco_api = self._load_annotations(dataset_name, allow_cached_coco)
        self._do_evaluation = has_annotations(self._coco_api, self._metadata.json_file)
        for task in self._tasks or ():
            if task not in METRICS:
                raise unknown_name("COCO task", task, METRICS)
        self.reset()

    def _load_annotations(self, dataset_name: str, allow_cached: bool) -> hotcoco.COCO:
        if not hasattr(self._metadata, "json_file"):
            if self._output_dir is None:
                raise ValueError(
                    f"COCOEvaluator: dataset {dataset_name!r} has no COCO file; pass output_dir, a"
                    " folder that it is converted into"
                )
            path = os.path.join(self._output_dir, f"{dataset_name}_coco_format.json")
            self._logger.info(f"Trying to convert {dataset_name!r} to COCO format ... in {path}")
            convert_to_coco_json(dataset_name, path, allow_cached=allow_cached)
            self._metadata.json_file = path
        coco = self._read_annotations(PathManager.get_local_path(self._metadata.json_file))
        for warning in coco.load_warnings:
            self._logger.warning(f"{self._metadata.json_file}: {warning}")
        return coco

    def _read_annotations(self, path: str) -> hotcoco.COCO:
        """Read a COCO file of this machine; a subclass may read more."""
        return read_annotations(path)

    # ---- taking predictions in

    def reset(self) -> None:
        """Forget what was processed."""
        self._predictions: list[dict[str, Any]] = []
        self._start_anew()

    def _start_anew(self) -> None:
        self._begun_with = self._predictions
        self._streams: dict[str, CocoStream] = {}
        self._recalls: dict[str, ProposalRecall] = {}
        self._has_any = False
        self._image_ids: set[Any] = set()
        self._refused: InputError | None = None

    @property
    def _is_streaming(self) -> bool:
        """Whether predictions may be dropped: no files are wanted, no subclass looks at them."""
        is_ours = all(
            getattr(type(self), name) is getattr(COCOEvaluator, name)
            for name in _LOOK_AT_PREDICTIONS
        )
        return self._output_dir is None and self._do_evaluation and is_ours

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take in one batch.

        Args:
            inputs: dicts with ``image_id``; of an image that comes again, the first counts.
            outputs: dicts with ``instances`` (``pred_boxes``, ``scores``, ``pred_classes`` and
                maybe ``pred_masks``, ``pred_keypoints``) or ``proposals``, or both.
        """
        if getattr(self, "_begun_with", None) is not self._predictions:
            self._start_anew()  # a subclass's reset has made a new list, and no more
        for image, output in zip(inputs, outputs, strict=True):
            if image["image_id"] in self._image_ids:  # it stood in for one that can't be read
                continue
            self._image_ids.add(image["image_id"])
            prediction = {"image_id": image["image_id"]}
            if "instances" in output:
                instances = output["instances"].to("cpu")
                prediction["instances"] = self._to_results(instances, image["image_id"])
            if "proposals" in output:
                prediction["proposals"] = output["proposals"].to("cpu")
            if len(prediction) > 1:
                self._has_any = True
                if self._is_streaming:
                    self._stream_or_refuse(prediction)
                else:
                    self._predictions.append(prediction)

    def _to_results(self, instances: Instances, image_id: int) -> list[dict[str, Any]]:
        """Return one image's predictions, a dict each."""
        return instances_to_coco_json(instances, image_id)

    def _stream_or_refuse(self, prediction: dict[str, Any]) -> None:
        """Keep an error for ``evaluate``, where detectron2 has it; it is logged at once."""
        if self._refused is not None:
            return
        try:
            self._stream(prediction)
        except InputError as error:
            self._logger.error("%s; evaluate() will fail", error)
            self._refused = error

    def _stream(self, prediction: dict[str, Any]) -> None:
        image_id = prediction["image_id"]
        if "proposals" in prediction:
            annotations = self._annotations_of(image_id)
            for name, recall in self._named_recalls().items():
                self._recalls.setdefault(name, recall).add(prediction["proposals"], annotations)
        if "instances" in prediction:
            results = prediction["instances"]
            self._to_dataset_categories(results)
            tasks = self._tasks or self._tasks_from_predictions(results)
            for task in {*tasks, *self._streams}:
                if task not in self._streams:
                    params = params_of(task, self._max_dets_per_image, self._kpt_oks_sigmas)
                    if task == "keypoints" and results:
                        check_keypoints(self._coco_api, results, params)
                    self._streams[task] = CocoStream(self._coco_api, task, params)
                self._streams[task].add(image_id, results)

    def _annotations_of(self, image_id: int) -> list[dict[str, Any]]:
        return self._coco_api.load_anns(self._coco_api.get_ann_ids(img_ids=[image_id]))

    @staticmethod
    def _named_recalls() -> dict[str, ProposalRecall]:
        return {
            f"AR{PROPOSAL_AREAS[area]}@{limit}": ProposalRecall(area, limit)
            for limit in PROPOSAL_LIMITS
            for area in PROPOSAL_AREAS
        }

    def _to_dataset_categories(self, results: Sequence[dict[str, Any]]) -> None:
        """Replace contiguous class ids by the dataset's category ids, in place."""
        to_contiguous = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if to_contiguous is None:
            back = {category: category for category in self._coco_api.get_cat_ids()}
        else:
            back = {contiguous: category for category, contiguous in to_contiguous.items()}
        for result in results:
            category = result["category_id"]
            if category not in back:
                raise InputError(
                    f"COCOEvaluator: expected classes {_ranges(back)} of the dataset's"
                    f" {len(back)}; got a prediction of class {category}; does the model's number"
                    " of classes fit, and has the dataset been loaded?"
                )
            result["category_id"] = back[category]

    # ---- judging

    def evaluate(self, img_ids: Iterable[int] | None = None) -> dict[str, Any]:
        """Return ``{"bbox": {"AP": ...}, "segm": ...}``; nothing in it off the main process.

        Args:
            img_ids: images that count; None is all of the dataset, also those without predictions.
        """
        self._results: OrderedDict[str, Any] = OrderedDict()
        if self._is_streaming:
            self._evaluate_streams(img_ids)
            return copy.deepcopy(self._results)
        predictions = self._predictions
        if self._distributed:
            comm.synchronize()
            predictions = list(itertools.chain(*comm.gather(predictions, dst=0)))
            if not comm.is_main_process():
                return {}
        if not predictions:
            self._logger.warning("[COCOEvaluator] Did not receive valid predictions.")
            return {}
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            path = os.path.join(self._output_dir, "instances_predictions.pth")
            with atomic_write(path) as file:
                torch.save(predictions, file)
        kinds = predictions[0].keys()
        if "proposals" in kinds:
            self._eval_box_proposals(predictions)
        if "instances" in kinds:
            self._eval_predictions(predictions, img_ids=img_ids)
        return copy.deepcopy(self._results)

    def _evaluate_streams(self, img_ids: Iterable[int] | None) -> None:
        """Fill ``_results`` from the streams of all processes."""
        states = {task: stream.state() for task, stream in self._streams.items()}
        shards: list[Any] = [(states, self._recalls, self._has_any, self._refused)]
        if self._distributed:
            comm.synchronize()
            shards = comm.gather(shards[0], dst=0)
            if not comm.is_main_process():
                return
        for *_, refused in shards:
            if refused is not None:
                raise refused
        if not any(has_any for _, _, has_any, _ in shards):
            self._logger.warning("[COCOEvaluator] Did not receive valid predictions.")
            return
        recalls: dict[str, ProposalRecall] = {}
        for _, shard, *_ in shards:
            for name, recall in shard.items():
                recalls.setdefault(name, ProposalRecall()).merge(recall)
        if recalls:
            self._report_recalls(recalls)
        self._logger.info(EVALUATING)
        for task in sorted({task for states, *_ in shards for task in states}):
            params = params_of(task, self._max_dets_per_image, self._kpt_oks_sigmas)
            whole = CocoStream(self._coco_api, task, params)
            whole.absorb(states[task] for states, *_ in shards if task in states)
            coco_eval = whole.finish(img_ids)
            if coco_eval is not None:
                coco_eval.summarize()
            self._results[task] = self._derive_coco_results(
                coco_eval, task, class_names=self._metadata.get("thing_classes")
            )

    def _tasks_from_predictions(self, predictions: Sequence[dict[str, Any]]) -> list[str]:
        """Return the tasks that the fields of COCO-format results stand for."""
        fields = {field for result in predictions for field in result}
        tasks = {"segmentation": "segm", "keypoints": "keypoints"}
        return sorted({"bbox"} | {task for field, task in tasks.items() if field in fields})

    def _eval_predictions(
        self, predictions: Sequence[dict[str, Any]], img_ids: Iterable[int] | None = None
    ) -> None:
        """Write kept predictions, and fill ``_results`` with the metrics of each task."""
        self._logger.info("Preparing results for COCO format ...")
        coco_results = list(itertools.chain(*[p["instances"] for p in predictions]))
        tasks = self._tasks or self._tasks_from_predictions(coco_results)
        self._to_dataset_categories(coco_results)
        self._write_results(coco_results, "coco_instances_results.json")
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        self._logger.info(EVALUATING)
        for task in sorted(tasks):
            coco_eval = None
            if coco_results:
                coco_eval = _evaluate_predictions_on_coco(
                    self._coco_api,
                    coco_results,
                    task,
                    kpt_oks_sigmas=self._kpt_oks_sigmas,
                    img_ids=img_ids,
                    max_dets_per_image=self._max_dets_per_image,
                )
            self._results[task] = self._derive_coco_results(
                coco_eval, task, class_names=self._metadata.get("thing_classes")
            )

    def _write_results(self, results: Sequence[dict[str, Any]], name: str) -> None:
        """Write results to a file of the output folder, if there is one."""
        if self._output_dir:
            path = os.path.join(self._output_dir, name)
            self._logger.info(f"Saving results to {path}")
            with atomic_write(path, "w") as file:
                file.write(json.dumps(results))  # json.dump takes five times as long

    def _eval_box_proposals(self, predictions: Sequence[dict[str, Any]]) -> None:
        """Write kept proposals, and fill ``_results`` with their average recall."""
        if self._output_dir:
            path = os.path.join(self._output_dir, "box_proposals.pkl")
            with atomic_write(path) as file:  # the format that DATASETS.PROPOSAL_FILES_... has
                pickle.dump(_proposal_table(predictions), file)
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        self._logger.info("Evaluating bbox proposals ...")
        recalls = self._named_recalls()
        for prediction in predictions:
            annotations = self._annotations_of(prediction["image_id"])
            for recall in recalls.values():
                recall.add(prediction["proposals"], annotations)
        self._report_recalls(recalls)

    def _report_recalls(self, recalls: Mapping[str, ProposalRecall]) -> None:
        scores = {name: 100 * float(r.summarize()["ar"]) for name, r in recalls.items()}
        self._logger.info("Proposal metrics: \n" + create_small_table(scores))
        self._results["box_proposals"] = scores

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Return the main metrics of an evaluation, and the AP of each class, and log both.

        Args:
            coco_eval: accumulated and summarized; None stands for no predictions.
            iou_type: the task.
            class_names: in the order of the dataset's category ids; None leaves classes out.

        Raises:
            InputError: If their number is not the dataset's.
        """
        metrics = METRICS[iou_type]
        if coco_eval is None:
            self._logger.warning("No predictions from the model!")
            return dict.fromkeys(metrics, float("nan"))
        results = {
            metric: 100 * float(value) if value >= 0 else float("nan")
            for metric, value in zip(metrics, coco_eval.stats, strict=False)
        }
        self._logger.info(f"Evaluation results for {iou_type}: \n" + create_small_table(results))
        if not np.isfinite(sum(results.values())):
            self._logger.info("Some metrics cannot be computed and is shown as NaN.")
        if class_names is None or len(class_names) <= 1:
            return results

        precision = coco_eval.eval["precision"]  # IoU, recall, class, area, limit on detections
        if len(class_names) != precision.shape[2]:
            raise InputError(
                f"COCOEvaluator: {self._metadata.json_file} has {precision.shape[2]} categories;"
                f" the metadata's thing_classes names {len(class_names)}; they must agree"
            )
        per_class = {
            name: _mean_of_valid(precision[:, :, index, 0, -1])
            for index, name in enumerate(class_names)
        }
        self._logger.info(f"Per-category {iou_type} AP: \n" + _table_of_classes(per_class))
        return results | {f"AP-{name}": ap for name, ap in per_class.items()}


def _ranges(numbers: Iterable[int]) -> str:
    """Say which numbers there are: ``"0 to 79"``, or a list where there are gaps."""
    ordered = sorted(numbers)
    if ordered and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]} to {ordered[-1]}"
    return ", ".join(map(str, ordered))


def _mean_of_valid(precision: np.ndarray) -> float:
    valid = precision[precision > -1]
    return 100 * float(valid.mean()) if valid.size else float("nan")


def _table_of_classes(per_class: Mapping[str, float]) -> str:
    """Lay classes and their AP out in three pairs of columns."""
    num_pairs = min(3, len(per_class))
    pairs = list(per_class.items())
    rows = [
        list(itertools.chain(*pairs[start : start + num_pairs]))
        for start in range(0, len(pairs), num_pairs)
    ]
    return format_table(rows, ["category", "AP"] * num_pairs)


def _proposal_table(predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    proposals = [prediction["proposals"] for prediction in predictions]
    return {
        "boxes": [p.proposal_boxes.tensor.numpy() for p in proposals],
        "objectness_logits": [p.objectness_logits.numpy() for p in proposals],
        "ids": [prediction["image_id"] for prediction in predictions],
        "bbox_mode": int(BoxMode.XYXY_ABS),
    }
