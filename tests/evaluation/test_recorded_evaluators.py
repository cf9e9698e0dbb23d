"""Evaluators against detectron2's on the same predictions (tests/golden/evaluators.json).

The predictions are those of tests/reference/made_up.py. The numbers were recorded by feeding them
to detectron2's evaluators of commit 02b5c4e: rotated boxes with exact polygon overlaps in place of
its compiled ones, proposals by COCOEvaluator, panoptic quality by panopticapi 7bb4655.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reference import made_up
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.evaluation import (
    COCOEvaluator,
    COCOPanopticEvaluator,
    PascalVOCDetectionEvaluator,
    RotatedCOCOEvaluator,
    SemSegEvaluator,
)
from retinue.evaluation.panoptic_evaluation import ids_to_colors
from retinue.structures import Boxes, Instances, RotatedBoxes
from retinue.utils import comm

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "evaluators.json").read_text())
NAME = "retinue_test_recorded_evaluators"
CLASSES = [f"c{i + 1}" for i in range(made_up.NUM_CLASSES)]


@pytest.fixture
def metadata():
    yield MetadataCatalog.get(NAME)
    MetadataCatalog.remove(NAME)
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)


@pytest.fixture
def coco(metadata, tmp_path):
    def write(annotations):
        content = {
            "images": made_up.images(),
            "annotations": list(annotations),
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
        }
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        to_contiguous = {i + 1: i for i in range(len(CLASSES))}
        metadata.set(
            json_file=str(path),
            thing_classes=CLASSES,
            thing_dataset_id_to_contiguous_id=to_contiguous,
        )

    return write


def predicted(rows, image, kind=Boxes):
    """The predictions of one image."""
    rows = [row for row in rows if row["image_id"] == image["id"]]
    boxes = torch.tensor([row["bbox"] for row in rows]).reshape(len(rows), -1)
    if kind is Boxes:
        boxes = boxes.reshape(-1, 4).float()
        boxes[:, 2:] += boxes[:, :2]
    instances = Instances((made_up.HEIGHT, made_up.WIDTH))
    instances.pred_boxes = kind(boxes.reshape(-1, 4 if kind is Boxes else 5))
    instances.scores = torch.tensor([row["score"] for row in rows])
    classes = [row["category_id"] - 1 for row in rows]
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return instances


def check(got, case, tolerance=1e-6):
    want = GOLDEN[case]
    assert set(got) == set(want)
    for name, value in want.items():
        expected = math.nan if value is None else value
        assert got[name] == pytest.approx(expected, abs=tolerance, nan_ok=True), name


@pytest.mark.parametrize("year", [2007, 2012])
def test_voc(metadata, tmp_path, year):
    folder = tmp_path / "Annotations"
    folder.mkdir()
    for image in made_up.images():
        objects = "".join(
            f"<object><name>c{row['category_id']}</name><pose>Left</pose><truncated>0</truncated>"
            f"<difficult>{row['iscrowd']}</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}"
            f"</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for row in made_up.annotations()
            if row["image_id"] == image["id"]
            for x, y, w, h in [row["bbox"]]
        )
        (folder / f"{image['id']}.xml").write_text(f"<annotation>{objects}</annotation>")
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "val.txt").write_text("\n".join(str(image["id"]) for image in made_up.images()))
    metadata.set(dirname=str(tmp_path), split="val", year=year, thing_classes=CLASSES)
    evaluator = PascalVOCDetectionEvaluator(NAME)
    for image in made_up.images():
        instances = predicted(made_up.detections(), image)
        evaluator.process([{"image_id": str(image["id"])}], [{"instances": instances}])
    check(evaluator.evaluate()["bbox"], f"voc{year}")


def test_rotated_boxes(coco):
    coco(row | {"iscrowd": 0} for row in made_up.rotate(made_up.annotations()))
    found = list(made_up.rotate(made_up.detections(), seed=4))
    evaluator = RotatedCOCOEvaluator(NAME, distributed=False)
    for image in made_up.images():
        instances = predicted(found, image, kind=RotatedBoxes)
        evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    check(evaluator.evaluate()["bbox"], "rotated")


@pytest.mark.parametrize("keeps_files", [False, True])
def test_recall_of_proposals(coco, tmp_path, keeps_files):
    coco(made_up.annotations())
    evaluator = COCOEvaluator(NAME, output_dir=str(tmp_path / "out") if keeps_files else None)
    for image in made_up.images():
        instances = predicted(made_up.detections(), image)
        proposals = Instances(instances.image_size)
        proposals.proposal_boxes = instances.pred_boxes
        proposals.objectness_logits = instances.scores
        evaluator.process([{"image_id": image["id"]}], [{"proposals": proposals}])
    check(evaluator.evaluate()["box_proposals"], "proposals", tolerance=1e-4)  # float32 there


@pytest.fixture
def sem_seg(metadata, tmp_path):
    records = []
    for i, (truth, _) in enumerate(made_up.label_maps()):
        Image.fromarray(truth).save(tmp_path / f"{i}.png")
        records.append({"file_name": f"{i}.jpg", "sem_seg_file_name": str(tmp_path / f"{i}.png")})
    DatasetCatalog.register(NAME, lambda: records)
    metadata.set(stuff_classes=[f"s{i}" for i in range(7)], ignore_label=255)


def sem_seg_outputs():
    for i, (_, found) in enumerate(made_up.label_maps()):
        scores = torch.nn.functional.one_hot(torch.from_numpy(found).long(), 7).permute(2, 0, 1)
        yield {"file_name": f"{i}.jpg"}, {"sem_seg": scores}


def test_sem_seg(sem_seg):
    evaluator = SemSegEvaluator(NAME, distributed=False)
    for image, output in sem_seg_outputs():
        evaluator.process([image], [output])
    check(evaluator.evaluate()["sem_seg"], "sem_seg")


def test_sem_seg_of_two_processes(sem_seg, monkeypatch):
    """What one process collected, in two halves and merged, gives the numbers of all."""
    shards = []
    for half in range(2):
        evaluator = SemSegEvaluator(NAME)
        for image, output in list(sem_seg_outputs())[half::2]:
            evaluator.process([image], [output])
        shards.append(
            (evaluator._conf_matrix, evaluator._b_conf_matrix, list(evaluator._predictions))
        )
    monkeypatch.setattr("retinue.evaluation.sem_seg_evaluation.all_gather", lambda shard: shards)
    check(evaluator.evaluate()["sem_seg"], "sem_seg")


@pytest.fixture
def panoptic(metadata, tmp_path):
    """Writes the annotations; returns the predictions."""
    truths, predictions = made_up.panoptic_annotations()
    images, rows = [], []
    (tmp_path / "gt").mkdir()
    for i, (ids, segments) in enumerate(truths):
        Image.fromarray(ids_to_colors(ids)).save(tmp_path / "gt" / f"{i}.png")
        images.append(
            {"id": i, "file_name": f"{i}.jpg", "height": ids.shape[0], "width": ids.shape[1]}
        )
        rows.append({"image_id": i, "file_name": f"{i}.png", "segments_info": segments})
    categories = [
        {"id": i, "name": str(i), "isthing": int(i in made_up.THINGS)}
        for i in (*made_up.THINGS, *made_up.STUFF)
    ]
    content = {"images": images, "annotations": rows, "categories": categories}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    metadata.set(
        panoptic_json=str(tmp_path / "gt.json"),
        panoptic_root=str(tmp_path / "gt"),
        thing_dataset_id_to_contiguous_id=made_up.THINGS,
        stuff_dataset_id_to_contiguous_id=made_up.STUFF,
        label_divisor=made_up.LABEL_DIVISOR,
    )
    return predictions


def panoptic_evaluator(outputs):
    evaluator = COCOPanopticEvaluator(NAME)
    for i, output in outputs:
        evaluator.process([{"file_name": f"{i}.jpg", "image_id": i}], [{"panoptic_seg": output}])
    return evaluator


def test_panoptic_quality(panoptic):
    outputs = [(torch.from_numpy(ids), segments) for ids, segments in panoptic]
    evaluator = panoptic_evaluator(enumerate(outputs))
    check(evaluator.evaluate()["panoptic_seg"], "panoptic")


def test_panoptic_quality_of_labels_without_segments(panoptic):
    """Without segments -1 is void, and the class is the label // label_divisor."""
    outputs = [
        (torch.from_numpy(made_up.as_labels(ids, segments)), None) for ids, segments in panoptic
    ]
    evaluator = panoptic_evaluator(enumerate(outputs))
    check(evaluator.evaluate()["panoptic_seg"], "panoptic_labels")


def test_panoptic_ids_without_a_segment_are_void(panoptic):
    """Ids that the segments leave out count like 0, whichever they are."""
    outputs = []
    for ids, segments in panoptic:
        ids = np.where(ids == 0, 40, ids)
        ids[:2, :5] = 41
        outputs.append((torch.from_numpy(ids), segments))
    zeroed = [
        (torch.where(ids >= 40, torch.zeros_like(ids), ids), segments) for ids, segments in outputs
    ]
    got = panoptic_evaluator(enumerate(outputs)).evaluate()
    assert got == panoptic_evaluator(enumerate(zeroed)).evaluate()


def test_panoptic_quality_of_two_processes(panoptic, monkeypatch):
    outputs = [(torch.from_numpy(ids), segments) for ids, segments in panoptic]
    rows = list(enumerate(outputs))
    shards = [panoptic_evaluator(rows[half::2])._predictions for half in range(2)]
    monkeypatch.setattr(comm, "gather", lambda predictions, dst=0: shards)
    check(panoptic_evaluator([]).evaluate()["panoptic_seg"], "panoptic")


def test_voc_of_two_processes(metadata, tmp_path, monkeypatch):
    """Lines of several processes are judged as one file."""
    test_voc_lines = {0: ["100 0.900 1.0 1.0 9.0 9.0"]}, {0: ["101 0.800 1.0 1.0 9.0 9.0"]}
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    (tmp_path / "Annotations").mkdir()
    for image in (100, 101):
        text = f"<annotation><object><name>c1</name>{box}</object></annotation>"
        (tmp_path / "Annotations" / f"{image}.xml").write_text(text)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("100\n101\n")
    metadata.set(dirname=str(tmp_path), split="val", year=2012, thing_classes=["c1"])
    monkeypatch.setattr(comm, "gather", lambda predictions, dst=0: list(test_voc_lines))
    got = PascalVOCDetectionEvaluator(NAME).evaluate()["bbox"]
    assert got == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100})
