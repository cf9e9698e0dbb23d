"""Metrics of semantic segmentation: intersection over union and accuracy, also along boundaries.

Boundary IoU follows Cheng et al. (2021), https://arxiv.org/abs/2103.16562, as detectron2 computes
it: on the difference between a label map and its erosion. Values are percentages.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import hotcoco.mask
import numpy as np
import torch
from PIL import Image

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.evaluation.evaluator import DatasetEvaluator
from retinue.utils.comm import all_gather, is_main_process, synchronize
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager, atomic_write

__all__ = ["SemSegEvaluator", "load_image_into_numpy_array"]


def load_image_into_numpy_array(
    filename: str, dtype: np.dtype[Any] | type | str | None = None
) -> np.ndarray:
    """Read an image file as an array, e.g. a label map as ``(H, W)``."""
    with PathManager.open(filename, "rb") as file, Image.open(file) as image:
        return np.array(image, dtype=dtype)


class SemSegEvaluator(DatasetEvaluator):
    """Mean IoU, frequency-weighted IoU, mean and overall accuracy, and those of each class.

    Args:
        dataset_name: a registered dataset whose dicts have ``sem_seg_file_name``.
        distributed: gather the results of all processes and evaluate on the main one.
        output_dir: where ``sem_seg_predictions.json`` and ``sem_seg_evaluation.pth`` go; only
            then are predictions kept.
        sem_seg_loading_fn: reads a label map.
        num_classes: must be the metadata's number, if given.
        ignore_label: of pixels that do not count; the metadata's by default.
    """

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        sem_seg_loading_fn: Callable[..., np.ndarray] = load_image_into_numpy_array,
        num_classes: int | None = None,
        ignore_label: int | None = None,
    ) -> None:
        self._logger = logging.getLogger(__name__)
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")  # for subclasses
        self.sem_seg_loading_fn = sem_seg_loading_fn
        self.input_file_to_gt_file = {
            record["file_name"]: record["sem_seg_file_name"]
            for record in DatasetCatalog.get(dataset_name)
        }
        metadata = MetadataCatalog.get(dataset_name)
        to_contiguous = metadata.get("stuff_dataset_id_to_contiguous_id")
        self._contiguous_id_to_dataset_id = (
            None if to_contiguous is None else {v: k for k, v in to_contiguous.items()}
        )
        self._class_names = metadata.stuff_classes
        self._num_classes = len(self._class_names)
        if num_classes not in (None, self._num_classes):
            raise InputError(
                f"SemSegEvaluator: {dataset_name!r} has {self._num_classes} stuff_classes;"
                f" got num_classes={num_classes}"
            )
        self._ignore_label = metadata.ignore_label if ignore_label is None else ignore_label
        self._compute_boundary_iou = self._num_classes < np.iinfo(np.uint8).max
        self.reset()

    def reset(self) -> None:
        """Forget what was processed."""
        # Rows are predicted classes, columns annotated ones; the last stands for ignored pixels.
        shape = (self._num_classes + 1, self._num_classes + 1)
        self._conf_matrix = np.zeros(shape, dtype=np.int64)
        self._b_conf_matrix = np.zeros(shape, dtype=np.int64)
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take in one batch.

        Args:
            inputs: dicts with ``file_name``.
            outputs: dicts with ``sem_seg``, ``(C, H, W)`` scores of each class.
        """
        for image, output in zip(inputs, outputs, strict=True):
            predicted = output["sem_seg"].argmax(dim=0).cpu().numpy()
            path = self.input_file_to_gt_file[image["file_name"]]
            annotated = self.sem_seg_loading_fn(path, dtype=int)
            annotated = np.where(annotated == self._ignore_label, self._num_classes, annotated)
            if annotated.min(initial=0) < 0 or annotated.max(initial=0) > self._num_classes:
                raise InputError(
                    f"{path}: expected labels 0 to {self._num_classes - 1} or {self._ignore_label};"
                    f" got {annotated.min()} to {annotated.max()}"
                )
            self._conf_matrix += self._confusion(predicted, annotated)
            if self._compute_boundary_iou:
                edges = (self._mask_to_boundary(m.astype(np.uint8)) for m in (predicted, annotated))
                self._b_conf_matrix += self._confusion(*edges)
            if self._output_dir:
                self._predictions.extend(self.encode_json_sem_seg(predicted, image["file_name"]))

    def _confusion(self, predicted: np.ndarray, annotated: np.ndarray) -> np.ndarray:
        size = self._num_classes + 1
        pairs = size * predicted.astype(np.int64).ravel() + annotated.ravel()
        return np.bincount(pairs, minlength=size * size).reshape(size, size)

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Return ``{"sem_seg": {"mIoU": ..., "IoU-road": ...}}``; None off the main process."""
        if self._distributed:
            synchronize()
            shards = all_gather((self._conf_matrix, self._b_conf_matrix, self._predictions))
            if not is_main_process():
                return None
            regions, edges, predictions = zip(*shards, strict=True)
            self._conf_matrix, self._b_conf_matrix = sum(regions), sum(edges)
            self._predictions = list(itertools.chain(*predictions))
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            path = os.path.join(self._output_dir, "sem_seg_predictions.json")
            with atomic_write(path, "w") as file:
                file.write(json.dumps(self._predictions))
        scores = self._scores()
        if self._output_dir:
            with atomic_write(os.path.join(self._output_dir, "sem_seg_evaluation.pth")) as file:
                torch.save(scores, file)
        self._logger.info(f"sem_seg: {scores}")
        return OrderedDict(sem_seg=scores)

    def _scores(self) -> dict[str, float]:
        matrix = self._conf_matrix[:-1, :-1].astype(float)
        correct, num_annotated = matrix.diagonal(), matrix.sum(axis=0)
        total = num_annotated.sum()
        is_there = num_annotated > 0
        iou = np.where(is_there, _iou(matrix), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy = correct / num_annotated  # NaN for classes that are not there
            share = num_annotated / total
            overall = correct.sum() / total
            scores = {
                "mIoU": 100 * iou[is_there].sum() / is_there.sum(),
                "fwIoU": 100 * (iou[is_there] * share[is_there]).sum(),
            }
            mean_accuracy = accuracy[is_there].sum() / is_there.sum()
        edge_iou = _iou(self._b_conf_matrix[:-1, :-1].astype(float))
        for index, name in enumerate(self._class_names):
            scores[f"IoU-{name}"] = 100 * iou[index]
            if self._compute_boundary_iou:
                scores[f"BoundaryIoU-{name}"] = 100 * edge_iou[index]
                scores[f"min(IoU, B-Iou)-{name}"] = 100 * min(iou[index], edge_iou[index])
        scores |= {"mACC": 100 * mean_accuracy, "pACC": 100 * overall}
        scores |= {f"ACC-{name}": 100 * accuracy[i] for i, name in enumerate(self._class_names)}
        return {name: float(value) for name, value in scores.items()}

    def encode_json_sem_seg(
        self, sem_seg: np.ndarray, input_file_name: str
    ) -> list[dict[str, Any]]:
        """Return a label map in COCO's format for stuff: a dict with run lengths per label.

        Raises:
            InputError: If a label has no id in the dataset.
        """
        rows = []
        for label in np.unique(sem_seg).tolist():
            ids = self._contiguous_id_to_dataset_id
            if ids is not None and label not in ids:
                raise InputError(
                    f"SemSegEvaluator: expected labels {sorted(ids)} of {self._dataset_name!r};"
                    f" got {label} for {input_file_name}"
                )
            rle = hotcoco.mask.encode(sem_seg == label)
            rows.append(
                {
                    "file_name": input_file_name,
                    "category_id": label if ids is None else ids[label],
                    "segmentation": {
                        "size": list(rle["size"]),
                        "counts": rle["counts"].decode("utf-8"),
                    },
                }
            )
        return rows

    def _mask_to_boundary(self, mask: np.ndarray, dilation_ratio: float = 0.02) -> np.ndarray:
        """Return a label map minus its erosion, which is not 0 near edges between labels.

        Args:
            mask: ``(H, W)`` uint8.
            dilation_ratio: how near, as a part of the image's diagonal.
        """
        if mask.ndim != 2:
            raise InputError(f"_mask_to_boundary: expected (H, W); got {mask.shape}")
        reach = max(1, round(dilation_ratio * float(np.hypot(*mask.shape))))
        eroded = np.pad(mask, reach)  # beyond the image there is label 0
        for axis in (0, 1):
            eroded = _sliding_min(eroded, 2 * reach + 1, axis)
        return np.asarray(mask - eroded)


def _iou(matrix: np.ndarray) -> np.ndarray:
    """Return the IoU of each class from a confusion matrix; NaN where it is nowhere."""
    correct = matrix.diagonal()
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - correct
    with np.errstate(invalid="ignore"):
        return np.asarray(correct / union)


def _sliding_min(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Return the minimum over each window of ``size``; windows double until large enough."""
    values = np.moveaxis(values, axis, 0)
    width = 1
    while width < size:
        step = min(width, size - width)
        values = np.minimum(values[:-step], values[step:])
        width += step
    return np.moveaxis(values, 0, axis)
