"""A short training as programs for detectron2 start it: files, numbers and lines it leaves."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def squares(tmp_path, hook):
    """Four pictures, each with a bright square, as a COCO dataset."""
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets import register_coco_instances

    folder = tmp_path / "images"
    folder.mkdir()
    images, annotations = [], []
    for number in range(1, 5):
        picture = np.zeros((64, 64, 3), dtype=np.uint8)
        start = 5 * number
        picture[start : start + 30, start : start + 30] = 200
        Image.fromarray(picture).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 64, "width": 64})
        box = [start, start, 30, 30]
        annotations.append(
            {"id": number, "image_id": number, "category_id": 7, "bbox": box, "area": 900}
            | {"iscrowd": 0}
        )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "square"}],
    }
    (tmp_path / "squares.json").write_text(json.dumps(content))
    register_coco_instances("squares", {}, str(tmp_path / "squares.json"), str(folder))
    yield "squares"
    DatasetCatalog.remove("squares")
    MetadataCatalog.remove("squares")


@pytest.fixture
def run(tmp_path, cfg, squares):
    """The folder of a finished run of 20 iterations."""
    from detectron2.engine import DefaultTrainer, default_setup
    from detectron2.evaluation import COCOEvaluator

    class Trainer(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name, output_folder=None):
            return COCOEvaluator(dataset_name, output_dir=f"{cfg.OUTPUT_DIR}/inference")

    cfg.OUTPUT_DIR = str(tmp_path / "output")
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (squares,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.WEIGHTS = ""
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER = 20
    cfg.SEED = 1
    default_setup(cfg, SimpleNamespace(config_file=""))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return tmp_path / "output"


def _line(log, pattern):
    found = re.search(rf"^\[\d\d/\d\d \d\d:\d\d:\d\d\] {pattern}$", log, re.MULTILINE)
    assert found, pattern
    return found


@pytest.mark.slow
def test_what_a_run_leaves(run):
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "inference/coco_instances_results.json",
        "inference/instances_predictions.pth",
        "last_checkpoint",
        "log.txt",
        "metrics.json",
        "model_final.pth",
    } <= names

    results = json.loads((run / "inference/coco_instances_results.json").read_text())
    assert {tuple(sorted(r)) for r in results} == {("bbox", "category_id", "image_id", "score")}
    assert {r["category_id"] for r in results} == {7}
    assert {r["image_id"] for r in results} <= {1, 2, 3, 4}
    assert all(len(r["bbox"]) == 4 and 0 <= r["score"] <= 1 for r in results)
    kept = torch.load(run / "inference/instances_predictions.pth", weights_only=False)
    kept = [result for picture in kept for result in picture["instances"]]
    assert {result["category_id"] for result in kept} == {0}  # before ids become the dataset's
    assert [{**result, "category_id": 7} for result in kept] == results

    checkpoint = torch.load(run / "model_final.pth", weights_only=True)
    assert {"model", "trainer", "iteration"} <= set(checkpoint)
    assert checkpoint["iteration"] == checkpoint["trainer"]["iteration"] == 19
    assert {"param_groups", "state"} <= set(checkpoint["trainer"]["_trainer"]["optimizer"])
    assert "LRScheduler" in checkpoint["trainer"]["hooks"]

    number = r"[\d.e+-]+"
    log = (run / "log.txt").read_text()
    _line(log, "detectron2 INFO: Rank of current process: 0. World size: 1")
    _line(log, "detectron2 INFO: Full config saved to .*config.yaml")
    _line(log, "d2.engine.train_loop INFO: Starting training from iteration 0")
    _line(
        log,
        rf"d2.utils.events INFO:  eta: 0:00:00  iter: 19  total_loss: {number}"
        rf"  loss_cls: {number}  loss_box_reg: {number}  loss_rpn_cls: {number}"
        rf"  loss_rpn_loc: {number}    time: {number}  last_time: {number}"
        rf"  data_time: {number}  last_data_time: {number}   lr: {number}  (max_mem: \d+M)?",
    )
    _line(
        log,
        r"d2.engine.hooks INFO: Overall training speed: 18 iterations in 0:00:\d\d"
        rf" \({number} s / it\)",
    )
    _line(
        log,
        r"d2.engine.hooks INFO: Total training time: 0:00:\d\d \(0:00:\d\d on hooks\)",
    )
    _line(log, "d2.evaluation.evaluator INFO: Start inference on 4 batches")
    _line(
        log,
        r"d2.evaluation.evaluator INFO: Total inference pure compute time: 0:00:\d\d"
        rf" \({number} s / iter per device, on 1 devices\)",
    )
    _line(log, "d2.evaluation.coco_evaluation INFO: Evaluation results for bbox: ")
    _line(log, "d2.engine.defaults INFO: Evaluation results for squares in csv format:")
    pasted = re.findall(r"d2.evaluation.testing INFO: copypaste: (.*)$", log, re.MULTILINE)
    assert len(pasted) == 3
    assert pasted[:2] == ["Task: bbox", "AP,AP50,AP75,APs,APm,APl"]
    assert re.fullmatch(r"([\d.]+|nan)(,([\d.]+|nan)){5}", pasted[2])
