import json
import math
import sys
import types

import numpy as np
import pytest
import torch
from hotcoco import mask
from PIL import Image

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    COCOPanopticEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    SemSegEvaluator,
)
from retinue.evaluation.cityscapes_evaluation import CityscapesEvaluator
from retinue.evaluation.lvis_evaluation import _evaluate_box_proposals
from retinue.evaluation.panoptic_evaluation import ids_to_colors
from retinue.evaluation.pascal_voc_evaluation import parse_rec, voc_ap
from retinue.structures import Boxes, Instances

NAME = "retinue_test_other_evaluators"


@pytest.fixture
def metadata():
    yield MetadataCatalog.get(NAME)
    MetadataCatalog.remove(NAME)
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)


def detections(boxes, scores, classes, masks=None):
    instances = Instances((100, 100))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor(scores, dtype=torch.float32)
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    if masks is not None:
        instances.pred_masks = masks
    return instances


# ---- LVIS


@pytest.fixture
def lvis(metadata, tmp_path):
    """A rare, a common and a frequent category; image 2 of 2 says nothing of the rare one."""
    boxes = [(1, 1, [10, 10, 20, 20]), (1, 2, [50, 50, 40, 40]), (2, 3, [0, 0, 60, 90])]
    dataset = {
        "images": [
            {
                "id": i,
                "height": 100,
                "width": 100,
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
            }
            for i in (1, 2)
        ],
        "categories": [
            {"id": i, "name": n, "frequency": n[0]}
            for i, n in enumerate(("rare", "common", "frequent"), 1)
        ],
        "annotations": [
            {
                "id": i,
                "image_id": image,
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": w * h,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }
            for i, (image, category, (x, y, w, h)) in enumerate(boxes, 1)
        ],
    }
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(dataset))
    metadata.json_file = str(path)
    return dataset


def lvis_outputs():
    """The rare object is found, the common one is missed, the frequent one has a rival above it.

    The false rare detection in image 2 does not count: that image is not annotated for it.
    """
    first = detections([[10, 10, 30, 30]], [0.9], [0])
    second = detections([[0, 0, 60, 90], [70, 0, 99, 50], [1, 1, 9, 9]], [0.5, 0.8, 0.7], [2, 2, 0])
    for instances in (first, second):
        masks = torch.zeros(len(instances), 100, 100, dtype=torch.bool)
        for m, (x0, y0, x1, y1) in zip(masks, instances.pred_boxes.tensor.int(), strict=True):
            m[y0:y1, x0:x1] = True
        instances.pred_masks = masks
    return [(1, first), (2, second)]


def test_lvis_by_hand(lvis, tmp_path, capsys):
    """By hand: AP of the rare one 100, of the common 0, of the frequent 50 (precision 1/2)."""
    evaluator = LVISEvaluator(NAME, output_dir=str(tmp_path / "out"))
    for image_id, instances in lvis_outputs() * 2:  # an image that comes again counts once
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    got = evaluator.evaluate()
    for task in ("bbox", "segm"):
        assert got[task]["APr"] == pytest.approx(100)
        assert got[task]["APc"] == pytest.approx(0)
        assert got[task]["APf"] == pytest.approx(50)
        assert got[task]["AP"] == pytest.approx(50)
        assert list(got[task])[-4:] == ["APl", "APr", "APc", "APf"]
    rows = json.loads((tmp_path / "out" / "lvis_instances_results.json").read_text())
    assert sorted(row["category_id"] for row in rows) == [1, 1, 3, 3]  # counted from 1
    assert (tmp_path / "out" / "instances_predictions.pth").exists()


def test_lvis_keeps_predictions_until_it_evaluates(lvis):
    evaluator = LVISEvaluator(NAME)
    for image_id, instances in lvis_outputs():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    assert [len(p["instances"]) for p in evaluator._predictions] == [1, 3]


def test_lvis_without_predictions_and_with_proposals(lvis, metadata, caplog):
    evaluator = LVISEvaluator(NAME, tasks=("bbox",), max_dets_per_image=5)
    assert (evaluator._max_dets_per_image, evaluator._lvis_api) == (5, evaluator._coco_api)
    assert evaluator.evaluate() == {}
    evaluator.process([{"image_id": 1}], [{"instances": detections([], [], [])}])
    assert math.isnan(evaluator.evaluate()["bbox"]["AP"])
    found = Instances((100, 100))
    found.proposal_boxes = Boxes(torch.tensor([[10.0, 10, 30, 30], [50, 50, 90, 90]]))
    found.objectness_logits = torch.zeros(2)
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"proposals": found}])
    assert evaluator.evaluate()["box_proposals"]["AR@100"] == pytest.approx(100)
    predictions = [{"image_id": 1, "proposals": found}]
    assert _evaluate_box_proposals(predictions, evaluator._coco_api)["num_pos"] == 2

    metadata.thing_dataset_id_to_contiguous_id = {1: 0, 2: 1, 3: 2}
    rows = [{"category_id": 2}]
    evaluator._to_dataset_categories(rows)
    assert rows == [{"category_id": 3}]


def test_lvis_test_set_is_only_written(lvis, metadata, caplog):
    caplog.set_level("INFO")
    with open(metadata.json_file, "w") as file:
        json.dump({**lvis, "annotations": []}, file)
    evaluator = LVISEvaluator(NAME)
    evaluator.process([{"image_id": 1}], [{"instances": detections([[1, 1, 5, 5]], [0.5], [0])}])
    assert evaluator.evaluate() == {}
    assert "Annotations are not available for evaluation." in caplog.text


# ---- Pascal VOC


@pytest.fixture
def voc(metadata, tmp_path):
    """Three images: two cats, one of them difficult; a dog; nothing."""

    def write(image, *objects):
        rows = "".join(
            f"<object><name>{name}</name><pose>x</pose><truncated>0</truncated>"
            f"<difficult>{difficult}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for name, difficult, x0, y0, x1, y1 in objects
        )
        path = tmp_path / "Annotations" / f"{image}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<annotation>{rows}</annotation>")

    write("a", ("cat", 0, 11, 11, 30, 30), ("cat", 1, 51, 51, 90, 90))
    write("b", ("dog", 0, 1, 1, 50, 50))
    write("c")
    folder = tmp_path / "ImageSets" / "Main"
    folder.mkdir(parents=True)
    (folder / "val.txt").write_text("a\nb\nc\n")
    metadata.set(dirname=str(tmp_path), split="val", thing_classes=["cat", "dog"])
    parse_rec.cache_clear()
    return metadata


@pytest.mark.parametrize(("year", "cat", "dog"), [(2012, 50.0, 0.0), (2007, 50.0, 0.0)])
def test_voc_by_hand(voc, year, cat, dog):
    """By hand: a false cat stands above the true one (precision 1/2 at recall 1), the difficult one
    counts neither way, a second hit of the true one comes after it. The dog's box overlaps 0.45."""
    voc.year = year
    evaluator = PascalVOCDetectionEvaluator(NAME)
    assert evaluator._cpu_device == torch.device("cpu")
    in_a = detections(
        [[10, 10, 30, 30], [10, 10, 30, 30], [50, 50, 90, 90]], [0.8, 0.3, 0.95], [0, 0, 0]
    )
    in_b = detections([[0, 0, 50, 22.5]], [0.9], [1])
    in_c = detections([[0, 0, 50, 50]], [0.9], [0])
    for image, instances in (("a", in_a), ("b", in_b), ("c", in_c)):
        evaluator.process([{"image_id": image}], [{"instances": instances}])
    got = evaluator.evaluate()["bbox"]
    expected = (cat + dog) / 2
    assert got == pytest.approx({"AP": expected, "AP50": expected, "AP75": expected})


def test_voc_annotations(voc, tmp_path):
    objects = parse_rec(str(tmp_path / "Annotations" / "a.xml"))
    assert objects[1] == {
        "name": "cat",
        "pose": "x",
        "truncated": 0,
        "difficult": 1,
        "bbox": [51, 51, 90, 90],
    }
    bad = tmp_path / "bad.xml"
    bad.write_text("<annotation><object><name>cat</name></object></annotation>")
    with pytest.raises(ValueError, match=r"bad\.xml: an object has no bndbox with xmin"):
        parse_rec(str(bad))
    voc.year = 2013
    with pytest.raises(AssertionError, match="expected year 2007 or 2012; got 2013"):
        PascalVOCDetectionEvaluator(NAME)


def test_voc_ap_of_2007():
    """By hand: best precision is 1 at recalls 0 to 0.5, 2/3 at 0.6 to 1: (6 + 5 * 2/3) / 11."""
    recall, precision = np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3])
    assert voc_ap(recall, precision, use_07_metric=True) == pytest.approx((6 + 10 / 3) / 11)
    assert voc_ap(np.zeros(0), np.zeros(0)) == 0


# ---- panoptic


@pytest.fixture
def panoptic(metadata, tmp_path):
    """One image: a thing on the left (category 7), stuff on the right (category 20)."""
    ids = np.full((4, 8), 300)
    ids[:, 4:] = 70_000
    (tmp_path / "gt").mkdir()
    Image.fromarray(ids_to_colors(ids)).save(tmp_path / "gt" / "a.png")
    segments = [
        {"id": 300, "category_id": 7, "area": 16, "bbox": [0, 0, 4, 4], "iscrowd": 0},
        {"id": 70_000, "category_id": 20, "area": 16, "bbox": [4, 0, 4, 4], "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 8}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [
            {"id": 7, "name": "thing", "isthing": 1},
            {"id": 20, "name": "stuff", "isthing": 0},
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    metadata.set(
        panoptic_json=str(tmp_path / "gt.json"),
        panoptic_root=str(tmp_path / "gt"),
        thing_dataset_id_to_contiguous_id={7: 0},
        stuff_dataset_id_to_contiguous_id={20: 1},
        label_divisor=1000,
    )
    return tmp_path


def test_panoptic_by_hand(panoptic):
    """By hand: the thing misses a column of four (IoU 12/16), the stuff gains it (IoU 16/20)."""
    ids = torch.ones(4, 8, dtype=torch.int32)
    ids[:, 3:] = 2
    segments = [
        {"id": 1, "isthing": True, "category_id": 0, "score": 0.9},
        {"id": 2, "isthing": False, "category_id": 1},
    ]
    evaluator = COCOPanopticEvaluator(NAME, str(panoptic / "out"))
    evaluator.process(
        [{"file_name": "x/a.jpg", "image_id": 1}], [{"panoptic_seg": (ids, segments)}]
    )
    got = evaluator.evaluate()["panoptic_seg"]
    assert (got["PQ_th"], got["PQ_st"], got["PQ"]) == pytest.approx((75, 80, 77.5))
    assert (got["SQ"], got["RQ"]) == pytest.approx((77.5, 100))
    assert list(got) == [m + s for s in ("", "_th", "_st") for m in ("PQ", "SQ", "RQ")]
    assert "isthing" in segments[0]  # the model's own output stays as it is
    written = json.loads((panoptic / "out" / "predictions.json").read_text())
    assert [s["category_id"] for s in written["annotations"][0]["segments_info"]] == [7, 20]


def test_panoptic_from_labels_alone(panoptic):
    """Category * 1000 + instance, -1 where there is nothing; the left half is exact."""
    ids = torch.full((4, 8), 3)
    ids[:, 4:] = -1
    evaluator = COCOPanopticEvaluator(NAME)
    evaluator.process([{"file_name": "a.jpg", "image_id": 1}], [{"panoptic_seg": (ids, None)}])
    got = evaluator.evaluate()["panoptic_seg"]
    assert (got["PQ_th"], got["PQ_st"]) == pytest.approx((100, 0))


def test_panoptic_images_may_have_names(panoptic):
    """As those of Cityscapes; written predictions keep them."""
    content = json.loads((panoptic / "gt.json").read_text())
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = "frankfurt_000000_000294"
    (panoptic / "gt.json").write_text(json.dumps(content))
    ids = torch.full((4, 8), 3)
    ids[:, 4:] = -1
    evaluator = COCOPanopticEvaluator(NAME, str(panoptic))
    image = {"file_name": "a.jpg", "image_id": "frankfurt_000000_000294"}
    evaluator.process([image], [{"panoptic_seg": (ids, None)}])
    got = evaluator.evaluate()["panoptic_seg"]
    assert (got["PQ_th"], got["PQ_st"]) == pytest.approx((100, 0))
    written = json.loads((panoptic / "predictions.json").read_text())
    assert written["annotations"][0]["image_id"] == "frankfurt_000000_000294"


def test_panoptic_category_ids_of_the_dataset_stay(panoptic):
    evaluator = COCOPanopticEvaluator(NAME)
    assert evaluator._convert_category_id({"category_id": 20}) == {"category_id": 20}


# ---- semantic segmentation


@pytest.fixture
def sem_seg(metadata, tmp_path):
    def add(labels, **extra):
        path = tmp_path / "gt.png"
        Image.fromarray(np.array(labels, dtype=np.uint8)).save(path)
        DatasetCatalog.register(
            NAME, lambda: [{"file_name": "a.jpg", "sem_seg_file_name": str(path)}]
        )
        metadata.set(stuff_classes=["sky", "road", "tree"], ignore_label=255, **extra)
        return metadata

    return add


def scores(labels, num_classes=3):
    return {
        "sem_seg": torch.nn.functional.one_hot(torch.tensor(labels), num_classes).permute(2, 0, 1)
    }


def test_sem_seg_by_hand(sem_seg, tmp_path):
    """By hand: sky 3 pixels, 2 found; road 2, 2 found and 1 too many; a pixel is ignored.

    IoU 2/3 and 2/3, accuracy 2/3 and 1, 4 of 5 pixels right; there is no tree.
    """
    sem_seg([[0, 0, 0], [1, 1, 255]], stuff_dataset_id_to_contiguous_id={10: 0, 20: 1, 30: 2})
    evaluator = SemSegEvaluator(NAME, output_dir=str(tmp_path / "out"), num_classes=3)
    evaluator.process([{"file_name": "a.jpg"}], [scores([[0, 0, 1], [1, 1, 2]])])
    got = evaluator.evaluate()["sem_seg"]
    assert got["mIoU"] == pytest.approx(200 / 3)
    assert got["fwIoU"] == pytest.approx(200 / 3)
    assert (got["mACC"], got["pACC"]) == pytest.approx((250 / 3, 80))
    assert (got["ACC-sky"], got["ACC-road"]) == pytest.approx((200 / 3, 100))
    assert math.isnan(got["IoU-tree"])
    rows = json.loads((tmp_path / "out" / "sem_seg_predictions.json").read_text())
    assert [row["category_id"] for row in rows] == [10, 20, 30]
    assert mask.decode(rows[0]["segmentation"]).tolist() == [[1, 1, 0], [0, 0, 0]]
    assert torch.load(tmp_path / "out" / "sem_seg_evaluation.pth")["pACC"] == got["pACC"]


def test_sem_seg_keeps_predictions_only_for_files(sem_seg):
    sem_seg([[0, 1]])
    evaluator = SemSegEvaluator(NAME, distributed=False)
    assert evaluator._cpu_device == torch.device("cpu")  # subclasses use it
    evaluator.process([{"file_name": "a.jpg"}], [scores([[0, 1]])])
    assert evaluator._predictions == []
    got = evaluator.evaluate()["sem_seg"]
    assert got["mIoU"] == 100
    assert got["BoundaryIoU-road"] == 100
    assert evaluator.encode_json_sem_seg(np.array([[4]]), "a.jpg")[0]["category_id"] == 4


def test_sem_seg_wrong_input(sem_seg):
    sem_seg([[0, 7]], stuff_dataset_id_to_contiguous_id={10: 0})
    with pytest.raises(AssertionError, match="has 3 stuff_classes; got num_classes=4"):
        SemSegEvaluator(NAME, num_classes=4)
    evaluator = SemSegEvaluator(NAME)
    with pytest.raises(ValueError, match=r"gt\.png: expected labels 0 to 2 or 255; got 0 to 7"):
        evaluator.process([{"file_name": "a.jpg"}], [scores([[0, 1]])])
    with pytest.raises(AssertionError, match=r"expected labels \[0\] .*got 1 for a\.jpg"):
        evaluator.encode_json_sem_seg(np.array([[1]]), "a.jpg")
    with pytest.raises(AssertionError, match=r"expected \(H, W\); got \(1, 2, 3\)"):
        evaluator._mask_to_boundary(np.zeros((1, 2, 3), dtype=np.uint8))


def test_boundaries_equal_a_plain_loop(sem_seg):
    """The erosion is the least label within reach, where beyond the image there is label 0."""
    sem_seg([[0]])
    evaluator = SemSegEvaluator(NAME)
    y, x = np.mgrid[:40, :60]
    labels = ((np.sin(x / 7) + np.cos(y / 5) > 0.3) + (x > 45)).astype(np.uint8)
    reach = round(0.02 * math.hypot(40, 60))
    padded = np.pad(labels, reach)
    expected = np.array(
        [
            [
                labels[i, j] - padded[i : i + 2 * reach + 1, j : j + 2 * reach + 1].min()
                for j in range(60)
            ]
            for i in range(40)
        ]
    )
    assert np.array_equal(evaluator._mask_to_boundary(labels), expected)


# ---- Cityscapes


@pytest.fixture
def scripts(monkeypatch, metadata, tmp_path):
    """Stands in for Cityscapes' scripts: remembers what it is asked, and answers with numbers."""
    asked = {}
    label = types.SimpleNamespace(id=26, ignoreInEval=False)
    ignored = types.SimpleNamespace(id=99, ignoreInEval=True)
    labels = types.ModuleType("cityscapesscripts.helpers.labels")
    labels.name2label, labels.trainId2label = {"car": label}, {0: label, 1: ignored}

    def make(name, scores):
        module = types.ModuleType(f"cityscapesscripts.evaluation.{name}")
        module.args = types.SimpleNamespace()
        module.getPrediction = lambda *a: "p:" + next(x for x in a if isinstance(x, str))[-24:]

        def evaluate(predictions, truth, args):
            asked.update(predictions=predictions, truth=truth, args=args)
            return scores

        def match(predictions, truth, instances, args):
            evaluate(predictions, truth, args)
            return "matches"

        module.evaluateImgLists = evaluate
        module.setInstanceLabels = lambda args: None
        module.getGtInstances = lambda truth, args: "instances"
        module.matchGtWithPreds = match
        module.evaluateMatches = lambda matches, args: matches
        module.computeAverages = lambda matches, args: scores
        return module

    averages = {"allAp": 0.25, "allAp50%": 0.5}
    classes = {
        "averageScoreClasses": 0.1,
        "averageScoreInstClasses": 0.2,
        "averageScoreCategories": 0.3,
        "averageScoreInstCategories": 0.4,
    }
    for module in (
        types.ModuleType("cityscapesscripts"),
        types.ModuleType("cityscapesscripts.helpers"),
        types.ModuleType("cityscapesscripts.evaluation"),
        labels,
        make("evalInstanceLevelSemanticLabeling", averages),
        make("evalPixelLevelSemanticLabeling", classes),
    ):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    metadata.set(gt_dir=str(tmp_path), thing_classes=["car"])
    (tmp_path / "city").mkdir()
    return asked


def test_cityscapes_instances(scripts, tmp_path):
    evaluator = CityscapesInstanceEvaluator(NAME)
    evaluator.reset()
    found = detections([[0, 0, 1, 1]], [0.5], [0], torch.ones(1, 2, 2, dtype=torch.bool))
    evaluator.process(
        [{"file_name": "x/one_leftImg8bit.png"}, {"file_name": "x/two.png"}],
        [{"instances": found}, {"sem_seg": None}],
    )
    folder = evaluator._temp_dir
    with open(f"{folder}/one_leftImg8bit_pred.txt") as file:
        assert file.read() == "one_leftImg8bit_0_car.png 26 0.5\n"
    with open(f"{folder}/two_pred.txt") as file:
        assert file.read() == ""
    with Image.open(f"{folder}/one_leftImg8bit_0_car.png") as image:
        assert np.asarray(image).tolist() == [[255, 255], [255, 255]]
    with pytest.raises(
        AssertionError, match=r"expected annotations at .*instanceIds\.png; got none"
    ):
        evaluator.evaluate()
    (tmp_path / "city" / "one_gtFine_instanceIds.png").write_bytes(b"")
    assert evaluator.evaluate() == {"segm": {"AP": 25, "AP50": 50}}
    assert scripts["args"].predictionPath == folder
    assert len(scripts["predictions"]) == len(scripts["truth"]) == 1


def test_cityscapes_labels(scripts, tmp_path):
    evaluator = CityscapesSemSegEvaluator(NAME)
    evaluator.reset()
    evaluator.process([{"file_name": "one.png"}], [scores([[0, 1]], num_classes=2)])
    with Image.open(f"{evaluator._temp_dir}/one_pred.png") as image:
        assert np.asarray(image).tolist() == [[26, 255]]
    (tmp_path / "city" / "one_gtFine_labelIds.png").write_bytes(b"")
    got = evaluator.evaluate()["sem_seg"]
    assert got == pytest.approx({"IoU": 10, "iIoU": 20, "IoU_sup": 30, "iIoU_sup": 40})


def test_cityscapes_can_be_checked_before_there_are_predictions(scripts, tmp_path):
    CityscapesEvaluator(NAME).check()  # of other truth than its two
    for evaluator in (CityscapesInstanceEvaluator(NAME), CityscapesSemSegEvaluator(NAME)):
        with pytest.raises(ValueError, match=r"expected annotations at .*Ids\.png; got none"):
            evaluator.check()
        (tmp_path / "city" / f"one_gtFine_{evaluator._kind}.png").write_bytes(b"")
        evaluator.check()


def test_cityscapes_needs_its_scripts_and_one_machine(metadata, monkeypatch):
    evaluator = CityscapesInstanceEvaluator(NAME)
    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)
    with pytest.raises(ImportError, match=r"pip install 'retinue\[cityscapes\]'"):
        evaluator.process([], [])
    monkeypatch.setattr("retinue.utils.comm.get_world_size", lambda: 4)
    with pytest.raises(AssertionError, match="all 4 processes on one machine; 1 are on this one"):
        evaluator.reset()
