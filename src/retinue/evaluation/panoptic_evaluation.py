"""Panoptic quality by COCO's rules: Kirillov et al. (2019), https://arxiv.org/abs/1801.00868.

hotcoco computes it, with the numbers of panopticapi. Segments are PNG files whose colours are ids.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from retinue.data.catalog import MetadataCatalog
from retinue.evaluation.evaluator import DatasetEvaluator
from retinue.utils import comm
from retinue.utils.file_io import PathManager, atomic_write
from retinue.utils.tables import format_table

__all__ = ["COCOPanopticEvaluator"]

logger = logging.getLogger(__name__)

GROUPS = {"All": "", "Things": "_th", "Stuff": "_st"}


def ids_to_colors(ids: np.ndarray) -> np.ndarray:
    """Return ``(H, W, 3)`` uint8 colours for ``(H, W)`` ids: red + 256 green + 256² blue."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


class COCOPanopticEvaluator(DatasetEvaluator):
    """Panoptic, segmentation and recognition quality of all classes, of things and of stuff.

    Args:
        dataset_name: a registered dataset with ``panoptic_json`` and ``panoptic_root``.
        output_dir: where ``predictions.json`` goes; None writes it to a temporary folder only.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None) -> None:
        self._metadata = MetadataCatalog.get(dataset_name)
        things = self._metadata.thing_dataset_id_to_contiguous_id
        stuff = self._metadata.stuff_dataset_id_to_contiguous_id
        self._thing_contiguous_id_to_dataset_id = {v: k for k, v in things.items()}
        self._stuff_contiguous_id_to_dataset_id = {v: k for k, v in stuff.items()}
        self._output_dir = output_dir
        if output_dir is not None:
            PathManager.mkdirs(output_dir)
        self.reset()

    def reset(self) -> None:
        """Forget what was processed."""
        self._predictions: list[dict[str, Any]] = []

    def _convert_category_id(self, segment_info: dict[str, Any]) -> dict[str, Any]:
        """Replace a contiguous class id by the dataset's, which one without ``isthing`` has."""
        is_thing = segment_info.pop("isthing", None)
        if is_thing is not None:
            back = (
                self._thing_contiguous_id_to_dataset_id
                if is_thing
                else self._stuff_contiguous_id_to_dataset_id
            )
            segment_info["category_id"] = back[segment_info["category_id"]]
        return segment_info

    def _segments_of(self, labels: np.ndarray) -> list[dict[str, Any]]:
        """List the segments of a map of ``category * label_divisor + instance``; -1 is nothing."""
        things = set(self._metadata.thing_dataset_id_to_contiguous_id.values())
        segments = []
        for label in np.unique(labels[labels != -1]).tolist():
            category = label // self._metadata.label_divisor
            segments.append(
                {"id": label + 1, "category_id": category, "isthing": category in things}
            )
        return segments

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take in one batch.

        Args:
            inputs: dicts with ``file_name`` and ``image_id``.
            outputs: dicts with ``panoptic_seg``: ``(H, W)`` ids, and a dict per segment, where
                ids without a segment are void; or ids that say the category themselves
                (``category * label_divisor + instance``, -1 is void), and None.
        """
        for image, output in zip(inputs, outputs, strict=True):
            panoptic, segments = output["panoptic_seg"]
            ids = panoptic.cpu().numpy()
            if segments is None:
                segments = self._segments_of(ids)
                ids = ids + 1  # in the files 0 is nothing
            named = np.isin(ids, [segment["id"] for segment in segments])
            ids = np.where(named, ids, 0)
            name = os.path.splitext(os.path.basename(image["file_name"]))[0] + ".png"
            with io.BytesIO() as png:
                Image.fromarray(ids_to_colors(ids)).save(png, format="PNG")
                self._predictions.append(
                    {
                        "image_id": image["image_id"],
                        "file_name": name,
                        "png_string": png.getvalue(),
                        "segments_info": [self._convert_category_id(dict(s)) for s in segments],
                    }
                )

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Return ``{"panoptic_seg": {"PQ": ..., "SQ_th": ...}}``; None off the main process."""
        comm.synchronize()
        predictions = list(itertools.chain(*comm.gather(self._predictions)))
        if not comm.is_main_process():
            return None
        from hotcoco.panoptic import pq_compute

        gt_json = PathManager.get_local_path(self._metadata.panoptic_json)
        gt_folder = PathManager.get_local_path(self._metadata.panoptic_root)
        with tempfile.TemporaryDirectory(prefix="panoptic_eval") as folder:
            for prediction in predictions:
                with open(os.path.join(folder, prediction["file_name"]), "wb") as png:
                    png.write(prediction["png_string"])
            with open(gt_json, encoding="utf-8") as text:
                truth = json.load(text)
            found = [{k: v for k, v in p.items() if k != "png_string"} for p in predictions]
            path = os.path.join(self._output_dir or folder, "predictions.json")
            _dump({**truth, "annotations": found}, path)
            files = [gt_json, PathManager.get_local_path(path)]
            names = [image["id"] for image in truth["images"]]
            if not all(isinstance(name, int) for name in names):  # as in Cityscapes
                names += [prediction["image_id"] for prediction in found]
                numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
                files = [os.path.join(folder, f"{kind}.numbered.json") for kind in ("gt", "dt")]
                for file, annotations in zip(files, (truth["annotations"], found), strict=True):
                    _dump(_numbered({**truth, "annotations": annotations}, numbers), file)
            quality = pq_compute(files[0], files[1], gt_folder=gt_folder, pred_folder=folder)
        _print_panoptic_results(quality)
        scores = {
            metric.upper() + suffix: 100 * quality[group][metric]
            for group, suffix in GROUPS.items()
            for metric in ("pq", "sq", "rq")
        }
        return OrderedDict(panoptic_seg=scores)


def _numbered(content: Mapping[str, Any], numbers: Mapping[Any, int]) -> dict[str, Any]:
    """Return COCO's panoptic format with numbers for the names of images."""
    images = [row | {"id": numbers[row["id"]]} for row in content["images"]]
    annotations = [row | {"image_id": numbers[row["image_id"]]} for row in content["annotations"]]
    return {**content, "images": images, "annotations": annotations}


def _dump(content: Mapping[str, Any], path: str) -> None:
    with atomic_write(path, "w") as file:
        json.dump(content, file)


def _print_panoptic_results(pq_res: Mapping[str, Any]) -> None:
    rows = [
        [group, *(100 * float(pq_res[group][m]) for m in ("pq", "sq", "rq")), pq_res[group]["n"]]
        for group in GROUPS
    ]
    table = format_table(rows, ["", "PQ", "SQ", "RQ", "#categories"], align="center")
    logger.info("Panoptic Evaluation Results:\n" + table)
