"""Evaluators against pycocotools, lvis and cityscapesscripts on the same predictions."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from reference import made_up
from retinue.data import MetadataCatalog
from retinue.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    COCOEvaluator,
    LVISEvaluator,
)
from retinue.evaluation.cityscapes_evaluation import _scripts
from retinue.structures import Boxes, Instances

pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore"),  # of the peers
]

NAME = "retinue_test_evaluator_peers"
CLASSES = [f"c{i + 1}" for i in range(made_up.NUM_CLASSES)]


@pytest.fixture
def metadata():
    yield MetadataCatalog.get(NAME)
    MetadataCatalog.remove(NAME)


def predicted(image, *, with_masks=True, with_keypoints=True):
    rows = [row for row in made_up.detections() if row["image_id"] == image["id"]]
    boxes = torch.tensor([row["bbox"] for row in rows]).reshape(-1, 4).float()
    boxes[:, 2:] += boxes[:, :2]
    instances = Instances((made_up.HEIGHT, made_up.WIDTH))
    instances.pred_boxes = Boxes(boxes)
    instances.scores = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
    classes = [row["category_id"] - 1 for row in rows]
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    if with_masks:
        masks = [made_up.ellipse(row["bbox"]) for row in rows]
        shape = (len(rows), made_up.HEIGHT, made_up.WIDTH)
        instances.pred_masks = torch.from_numpy(np.array(masks).reshape(shape)).bool()
    if with_keypoints:
        points = torch.tensor([row["keypoints"] for row in rows]).reshape(len(rows), -1, 3)
        instances.pred_keypoints = points + torch.tensor([0.5, 0.5, 0.0])
    return instances


def feed(evaluator, **fields):
    evaluator.reset()
    for image in made_up.images():
        evaluator.process([{"image_id": image["id"]}], [{"instances": predicted(image, **fields)}])
    return evaluator.evaluate()


def dataset(metadata, tmp_path, **extra):
    content = {
        "info": {},
        "images": made_up.images(),
        "annotations": made_up.annotations(),
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    path = tmp_path / "annotations.json"
    metadata.set(json_file=str(path), thing_classes=CLASSES, **extra)
    return content, path


@pytest.mark.parametrize("keeps_files", [False, True])
def test_coco(metadata, tmp_path, keeps_files):
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    to_contiguous = {i + 1: i for i in range(len(CLASSES))}
    content, path = dataset(metadata, tmp_path, thing_dataset_id_to_contiguous_id=to_contiguous)
    path.write_text(json.dumps(content))
    got = feed(COCOEvaluator(NAME, output_dir=str(tmp_path / "out") if keeps_files else None))

    assert set(got) == {"bbox", "segm", "keypoints"}
    for task, scores in got.items():
        with contextlib.redirect_stdout(io.StringIO()):
            truth = coco.COCO(str(path))
            rows = [dict(row) for row in made_up.detections()]
            for row in rows:
                if task == "segm":
                    row.pop("bbox")
                row["segmentation"] = coco.maskUtils.frPyObjects(
                    row["segmentation"], made_up.HEIGHT, made_up.WIDTH
                )
            if task == "bbox":
                rows = [{k: v for k, v in row.items() if k != "segmentation"} for row in rows]
            reference = cocoeval.COCOeval(truth, truth.loadRes(rows), task)
            reference.evaluate()
            reference.accumulate()
            reference.summarize()
        names = ("AP", "AP50", "AP75", *(("APs",) if task != "keypoints" else ()), "APm", "APl")
        for name, want in zip(names, reference.stats, strict=False):
            want = float("nan") if want < 0 else 100 * want
            assert scores[name] == pytest.approx(want, abs=1e-9, nan_ok=True), (task, name)


def test_lvis(metadata, tmp_path, monkeypatch):
    for name in ("float", "int", "bool"):  # its last release is older than numpy's
        if name not in np.__dict__:
            monkeypatch.setattr(np, name, getattr(__import__("builtins"), name), raising=False)
    lvis = pytest.importorskip("lvis")
    coco_mask = pytest.importorskip("pycocotools.mask")
    content, path = dataset(metadata, tmp_path)
    draw = made_up.Draw(9)
    for image in content["images"]:
        image["neg_category_ids"] = [draw.below(5) + 1]
        image["not_exhaustive_category_ids"] = [draw.below(5) + 1]
    for category, frequency in zip(content["categories"], "rccff", strict=True):
        category["frequency"] = frequency
    for row in content["annotations"]:
        del row["iscrowd"], row["keypoints"]
    path.write_text(json.dumps(content))
    got = feed(LVISEvaluator(NAME, tasks=("bbox", "segm")), with_keypoints=False)

    truth = lvis.LVIS(str(path))
    for task, scores in got.items():
        rows = [{k: v for k, v in r.items() if k != "keypoints"} for r in made_up.detections()]
        for row in rows:
            if task == "segm":
                row.pop("bbox")
                row["segmentation"] = coco_mask.frPyObjects(
                    row["segmentation"], made_up.HEIGHT, made_up.WIDTH
                )
            else:
                row.pop("segmentation")
        reference = lvis.LVISEval(truth, lvis.LVISResults(truth, rows), task)
        reference.run()
        for name, value in scores.items():
            want = 100 * reference.get_results()[name]  # -100 where there is nothing, as ever
            assert value == pytest.approx(want, abs=1e-9), (task, name)


@pytest.fixture
def city(metadata, tmp_path):
    """Two Cityscapes pictures, annotated with a car, a person and a road."""
    folder = tmp_path / "city"
    folder.mkdir()
    boxes = [[5, 5, 40, 30], [60, 20, 30, 50]]
    for i in range(2):
        ids = np.full((made_up.HEIGHT, made_up.WIDTH), 7, dtype=np.int32)  # road
        instance_ids = ids.copy()
        for label, box in zip((26, 24), boxes, strict=True):  # car, person
            inside = made_up.ellipse([box[0] + 7 * i, box[1], box[2], box[3]])
            ids[inside], instance_ids[inside] = label, label * 1000
        Image.fromarray(ids.astype(np.uint8)).save(
            folder / f"city_{i:06d}_000019_gtFine_labelIds.png"
        )
        Image.fromarray(instance_ids.astype(np.uint16)).save(
            folder / f"city_{i:06d}_000019_gtFine_instanceIds.png"
        )
    metadata.set(gt_dir=str(tmp_path), thing_classes=["person", "car"])
    images = [{"file_name": f"city_{i:06d}_000019_leftImg8bit.png"} for i in range(2)]
    return images, boxes


def test_cityscapes_instances(city):
    """By hand: cars are exact, so all their precisions are 1; of the persons one of two is found,

    above it stands a false one: precision 1/2 at recall 1/2, which Cityscapes integrates between
    the points of its curve. The scripts are the reference, so this checks what they are given."""
    pytest.importorskip("cityscapesscripts")
    images, boxes = city
    evaluator = CityscapesInstanceEvaluator(NAME)
    evaluator.reset()
    for i, image in enumerate(images):
        car, person = ([box[0] + 7 * i, *box[1:]] for box in boxes)
        found = [(1, car, 0.9)] + ([(0, person, 0.8)] if i == 0 else [(0, [1, 60, 20, 20], 0.95)])
        instances = Instances((made_up.HEIGHT, made_up.WIDTH))
        instances.pred_classes = torch.tensor([label for label, _, _ in found])
        instances.scores = torch.tensor([score for _, _, score in found])
        masks = np.stack([made_up.ellipse(box) for _, box, _ in found])
        instances.pred_masks = torch.from_numpy(masks)
        evaluator.process([image], [{"instances": instances}])
    folder = evaluator._temp_dir
    want = run_scripts("evalInstanceLevelSemanticLabeling", folder, city, "instanceIds")
    got = evaluator.evaluate()["segm"]
    averages = want["averages"]
    assert averages["classes"]["car"]["ap"] == 1
    assert 0 < averages["classes"]["person"]["ap"] < 0.5
    assert got["AP"] == pytest.approx(100 * averages["allAp"])
    assert got["AP50"] == pytest.approx(100 * averages["allAp50%"])


def test_cityscapes_labels(city):
    """By hand: every pixel is right but a third of the first picture's rows, taken for sky,

    which has an IoU of 0, for it is nowhere."""
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    images, boxes = city
    road, car, person, sky = (
        labels.name2label[name].trainId for name in ("road", "car", "person", "sky")
    )
    truth, found = [], []
    for i in range(2):
        classes = np.full((made_up.HEIGHT, made_up.WIDTH), road)
        for label, box in zip((car, person), boxes, strict=True):
            classes[made_up.ellipse([box[0] + 7 * i, *box[1:]])] = label
        truth.append(classes.copy())
        if i == 0:
            classes[64:] = sky
        found.append(classes)
    evaluator = CityscapesSemSegEvaluator(NAME)
    evaluator.reset()
    for image, classes in zip(images, found, strict=True):
        scores = torch.nn.functional.one_hot(torch.from_numpy(classes), 19).permute(2, 0, 1)
        evaluator.process([image], [{"sem_seg": scores}])
    got = evaluator.evaluate()["sem_seg"]

    truth, found = np.stack(truth), np.stack(found)
    ious = [
        ((truth == c) & (found == c)).sum() / ((truth == c) | (found == c)).sum()
        for c in (road, car, person)
    ]
    assert got["IoU"] == pytest.approx(100 * (sum(ious) + 0) / 4, abs=1e-6)
    assert 0 < got["iIoU"] <= 100
    assert set(got) == {"IoU", "iIoU", "IoU_sup", "iIoU_sup"}


def run_scripts(name, folder, city, kind):
    """Call Cityscapes' script on the files of a folder, as its command does."""
    import copy
    import glob

    script = _scripts(f"evaluation.{name}")
    args = copy.copy(script.args)
    args.predictionPath, args.predictionWalk, args.JSONOutput = folder, None, False
    args.gtInstancesFile = f"{folder}/own.json"
    pattern = f"{MetadataCatalog.get(NAME).gt_dir}/*/*_gtFine_{kind}.png"
    truth = sorted(glob.glob(pattern))
    found = [script.getPrediction(path, args) for path in truth]
    script.writeDict2JSON = lambda *args: None  # fails for NumPy's integers, and is not wanted
    with contextlib.redirect_stdout(io.StringIO()):
        return script.evaluateImgLists(found, truth, args)
