"""Cityscapes' metrics, by its own scripts; needs ``retinue[cityscapes]``.

The scripts read predictions from files, so each process writes them into one temporary folder;
all processes must be on one machine.
"""

from __future__ import annotations

import glob
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from retinue.data.catalog import MetadataCatalog
from retinue.evaluation.evaluator import DatasetEvaluator
from retinue.utils import comm
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

__all__ = ["CityscapesEvaluator", "CityscapesInstanceEvaluator", "CityscapesSemSegEvaluator"]


def _scripts(name: str) -> ModuleType:
    """Import a module of cityscapesscripts."""
    import importlib

    try:
        module = importlib.import_module(f"cityscapesscripts.{name}")
    except ImportError as error:
        raise ImportError(
            "evaluation on Cityscapes needs its scripts: pip install 'retinue[cityscapes]'"
        ) from error
    if getattr(module, "np", None) is np and not hasattr(np, "in1d"):
        module.np = _NumpyWithIn1d()  # type: ignore[attr-defined]
    return module


class _NumpyWithIn1d:
    """NumPy as the scripts know it: release 2.3.0 calls ``in1d``, which NumPy 2.4 has not."""

    in1d = staticmethod(np.isin)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class CityscapesEvaluator(DatasetEvaluator):
    """What both evaluators share: the folder that predictions are written to.

    Args:
        dataset_name: a registered dataset with ``gt_dir`` and ``thing_classes``.
    """

    _kind = ""  # of the images that hold the truth, as their names say

    def __init__(self, dataset_name: str) -> None:
        self._metadata = MetadataCatalog.get(dataset_name)
        self._cpu_device = torch.device("cpu")
        self._logger = logging.getLogger(__name__)

    def check(self) -> None:
        """Make sure, before hours of training, that an evaluation can be done.

        Raises:
            ImportError: If Cityscapes' scripts are not installed.
            InputError: If processes run on several machines, or annotations are missing.
        """
        _scripts("helpers.labels")
        self._expect_one_machine()
        if self._kind:
            self._truth()

    def _expect_one_machine(self) -> None:
        if comm.get_local_size() != comm.get_world_size():
            raise InputError(
                f"{type(self).__name__}: expected all {comm.get_world_size()} processes on one"
                f" machine; {comm.get_local_size()} are on this one"
            )

    def _truth(self) -> list[str]:
        """Find the files that hold the truth."""
        folder = PathManager.get_local_path(self._metadata.gt_dir)
        pattern = os.path.join(folder, "*", f"*_gtFine_{self._kind}.png")
        if not (truth := glob.glob(pattern)):
            raise InputError(f"Cityscapes: expected annotations at {pattern}; got none")
        return truth

    def reset(self) -> None:
        """Make an empty folder, the same for all processes.

        Raises:
            InputError: If processes run on several machines.
        """
        self._expect_one_machine()
        self._working_dir = tempfile.TemporaryDirectory(prefix="cityscapes_eval_")
        self._temp_dir = comm.all_gather(self._working_dir.name)[0]
        if self._temp_dir != self._working_dir.name:
            self._working_dir.cleanup()
        self._logger.info(f"Writing predictions to {self._temp_dir}")

    def _path(self, image: dict[str, Any], ending: str) -> str:
        name = os.path.splitext(os.path.basename(image["file_name"]))[0]
        return f"{self._temp_dir}/{name}{ending}"

    def _ready(self, script: ModuleType) -> list[str]:
        """Point the script to the predictions; return the files that hold the truth."""
        script.args.predictionPath = os.path.abspath(self._temp_dir)
        script.args.predictionWalk = None
        script.args.JSONOutput = False
        script.args.colorized = False
        return self._truth()


class CityscapesInstanceEvaluator(CityscapesEvaluator):
    """AP and AP50 of instance masks."""

    _kind = "instanceIds"

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Write the masks of one batch; an image without instances gets an empty list."""
        labels = _scripts("helpers.labels").name2label
        for image, output in zip(inputs, outputs, strict=True):
            rows = []
            instances: Any = output["instances"].to("cpu") if "instances" in output else ()
            for index in range(len(instances)):
                name = self._metadata.thing_classes[int(instances.pred_classes[index])]
                path = self._path(image, f"_{index}_{name}.png")
                mask = instances.pred_masks[index].numpy().astype(np.uint8) * 255
                Image.fromarray(mask).save(path)
                score = float(instances.scores[index])
                rows.append(f"{os.path.basename(path)} {labels[name].id} {score}\n")
            with open(self._path(image, "_pred.txt"), "w") as file:
                file.writelines(rows)

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Return ``{"segm": {"AP": ..., "AP50": ...}}``; None off the main process."""
        comm.synchronize()
        if comm.get_rank() > 0:
            return None
        script = _scripts("evaluation.evalInstanceLevelSemanticLabeling")
        truth = self._ready(script)
        script.args.gtInstancesFile = os.path.join(self._temp_dir, "gtInstances.json")
        predictions = [script.getPrediction(path, script.args) for path in truth]
        scores = _instance_scores(script, predictions, truth)
        self._working_dir.cleanup()
        return OrderedDict(
            segm={"AP": 100 * scores["allAp"], "AP50": 100 * scores["allAp50%"]},
        )


def _instance_scores(script: Any, predictions: list[str], truth: list[str]) -> dict[str, float]:
    """Take the steps of the script's evaluation, but for the file it leaves where it is run."""
    script.setInstanceLabels(script.args)
    instances = script.getGtInstances(truth, script.args)
    matches = script.matchGtWithPreds(predictions, truth, instances, script.args)
    averages: dict[str, float] = script.computeAverages(
        script.evaluateMatches(matches, script.args), script.args
    )
    return averages


class CityscapesSemSegEvaluator(CityscapesEvaluator):
    """IoU of classes and of categories, and both weighted by instance size."""

    _kind = "labelIds"

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Write the label maps of one batch, with Cityscapes' ids."""
        labels = _scripts("helpers.labels").trainId2label
        for image, output in zip(inputs, outputs, strict=True):
            classes = output["sem_seg"].argmax(dim=0).cpu().numpy()
            ids = np.full(classes.shape, 255, dtype=np.uint8)
            for train_id, label in labels.items():
                if not label.ignoreInEval:
                    ids[classes == train_id] = label.id
            Image.fromarray(ids).save(self._path(image, "_pred.png"))

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Return ``{"sem_seg": {"IoU": ..., "iIoU": ..., ...}}``; None off the main process."""
        comm.synchronize()
        if comm.get_rank() > 0:
            return None
        script = _scripts("evaluation.evalPixelLevelSemanticLabeling")
        truth = self._ready(script)
        predictions = [script.getPrediction(script.args, path) for path in truth]
        scores = script.evaluateImgLists(predictions, truth, script.args)
        self._working_dir.cleanup()
        names = {
            "IoU": "averageScoreClasses",
            "iIoU": "averageScoreInstClasses",
            "IoU_sup": "averageScoreCategories",
            "iIoU_sup": "averageScoreInstCategories",
        }
        return OrderedDict(sem_seg={name: 100 * scores[key] for name, key in names.items()})
