"""Runs of ``train_net`` write the lines that scripts search for, from the loggers that they know.

``golden/log_lines.txt`` has what detectron2 0.6 (d0f2af8) wrote into ``log.txt`` in three runs like
these: logger, level and the beginning of the sentence, folders left out, a ``#`` for each number.
"""

import argparse
import json
import logging
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retinue.utils.logger import _LOG_COUNTER

GOLDEN = (Path(__file__).parents[1] / "golden" / "log_lines.txt").read_text("utf-8")
RUNS = [run.splitlines() for run in GOLDEN.strip("\n").split("\n\n")]
NAME = "lines_of_logs"

pytestmark = pytest.mark.usefixtures("hook")


def said(text):
    """The lines of a log in the form of the golden ones, but with their ends."""
    lines = re.findall(r"^\[\S+ \S+\] (\S+ \S+: )(.*)", text, flags=re.MULTILINE)
    return [
        source + re.sub(r"\d[\d.:e+-]*", "#", re.sub(r"\S*/(?=\S)", "", sentence))
        for source, sentence in lines
    ]


def first_missing(golden, lines):
    """The first golden line that doesn't come in its turn; empty if all do."""
    rest = iter(lines)
    return next((line for line in golden if not any(x.startswith(line) for x in rest)), "")


@pytest.fixture
def config(cfg, tmp_path):
    """A file with the config of a run of 4 iterations on 4 pictures."""
    from detectron2.data.datasets import register_coco_instances

    names = [{"id": number + 1, "name": name} for number, name in enumerate("abc")]
    images, annotations = [], []
    for number in range(1, 5):
        file_name = f"{number}.png"
        Image.fromarray(np.full((32, 40, 3), 60 * number, np.uint8)).save(tmp_path / file_name)
        images.append({"id": number, "file_name": file_name, "height": 32, "width": 40})
        box = {"bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0, "category_id": 1 + number % 3}
        annotations.append({"id": number, "image_id": number, **box})
    content = {"images": images, "annotations": annotations, "categories": names}
    (tmp_path / "data.json").write_text(json.dumps(content))
    register_coco_instances(NAME, {}, str(tmp_path / "data.json"), str(tmp_path))

    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (NAME,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (32,), 32
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 2
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER = 2, 1e-4, 4
    cfg.SOLVER.STEPS, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = (), 2, 2
    cfg.SEED = 1
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    (tmp_path / "cfg.yaml").write_text(cfg.dump())
    return tmp_path / "cfg.yaml"


def run(config, *options, resume=False, eval_only=False):
    """What detectron2's ``train_net.py`` does; returns the log."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultTrainer, default_setup
    from detectron2.evaluation import COCOEvaluator

    class Trainer(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name):
            return COCOEvaluator(dataset_name, output_dir=os.path.join(cfg.OUTPUT_DIR, "inference"))

    _LOG_COUNTER.clear()  # as in a process of its own
    cfg = get_cfg()
    cfg.merge_from_file(str(config))
    cfg.merge_from_list(list(options))
    args = argparse.Namespace(config_file=str(config), resume=resume, eval_only=eval_only)
    default_setup(cfg, args)
    if eval_only:
        model = Trainer.build_model(cfg)
        DetectionCheckpointer(model, cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS)
        Trainer.test(cfg, model)
    else:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=resume)
        trainer.train()
    return Path(cfg.OUTPUT_DIR, "log.txt").read_text("utf-8")


@pytest.mark.slow
def test_lines_of_three_runs(config, tmp_path):
    first = run(config)
    assert first_missing(RUNS[0], said(first)) == ""

    both = run(config, "SOLVER.MAX_ITER", 5, resume=True)
    assert first_missing(RUNS[1], said(both.removeprefix(first))) == ""

    options = ["OUTPUT_DIR", str(tmp_path / "other"), "MODEL.ROI_BOX_HEAD.FC_DIM", 4]
    options += ["MODEL.WEIGHTS", str(tmp_path / "out" / "model_final.pth")]
    third = run(config, *options, "MODEL.RPN.CONV_DIMS", [-1, -1], eval_only=True)
    assert first_missing(RUNS[2], said(third)) == ""


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("retinue.checkpoint.checkpointer", "fvcore.common.checkpoint"),
        ("retinue.checkpoint.detection_checkpoint", "detectron2.checkpoint.detection_checkpoint"),
        ("retinue.layers.precise_bn", "fvcore.nn.precise_bn"),
        ("retinue.projects.densepose.evaluation.evaluator", "densepose.evaluation.evaluator"),
        ("retinue.projects.point_rend.mask_head", "detectron2.projects.point_rend.mask_head"),
    ],
)
def test_a_handler_hears_what_it_is_attached_for(ours, theirs):
    heard = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append((record.name, record.getMessage()))
    package = logging.getLogger(theirs.partition(".")[0])
    package.addHandler(listener)
    logging.getLogger(ours).warning("said")
    package.removeHandler(listener)
    assert heard == [(theirs, "said")]
