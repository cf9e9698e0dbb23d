import copy
import json
import math
import re
from pathlib import Path

import hotcoco
import numpy as np
import pytest
import torch
from hotcoco import COCO, mask

from retinue.config import get_cfg
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.evaluation.coco_evaluation import (
    COCOevalMaxDets,
    COCOEvaluator,
    _evaluate_box_proposals,
    _evaluate_predictions_on_coco,
    instances_to_coco_json,
)
from retinue.evaluation.coco_params import Params
from retinue.evaluation.coco_stream import CocoStream
from retinue.evaluation.fast_eval_api import COCOeval_opt
from retinue.evaluation.proposal_recall import ProposalRecall, best_pairs
from retinue.structures import Boxes, Instances

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "coco_evaluation.json").read_text())
SIGMAS = [0.05, 0.1, 0.15]
NAMES = ["disc", "box", "none", "never"]


@pytest.fixture
def register(tmp_path):
    """Registers a dataset from its COCO dict, and forgets it after the test."""
    names = []

    def add(dataset, **metadata):
        name = f"retinue_test_{tmp_path.name}_{len(names)}"
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(dataset))
        MetadataCatalog.get(name).set(json_file=str(path), **metadata)
        names.append(name)
        return name

    yield add
    for name in names:
        MetadataCatalog.remove(name)


@pytest.fixture
def golden_name(register):
    return register(
        GOLDEN["dataset"],
        thing_classes=NAMES,
        thing_dataset_id_to_contiguous_id={3: 0, 5: 1, 9: 2, 11: 3},
    )


def predicted(results, size=(240, 320)):
    """COCO results of one image as the model would give them."""
    to_class = {3: 0, 5: 1, 9: 2, 11: 3}
    boxes = torch.tensor([r["bbox"] for r in results]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances = Instances(size)
    instances.pred_boxes = Boxes(boxes)
    instances.scores = torch.tensor([r["score"] for r in results])
    instances.pred_classes = torch.tensor(
        [to_class[r["category_id"]] for r in results], dtype=torch.int64
    )
    if results:
        masks = np.stack([mask.decode(r["segmentation"]) for r in results])
        instances.pred_masks = torch.from_numpy(masks).bool()
        keypoints = torch.tensor([r["keypoints"] for r in results]).reshape(len(results), -1, 3)
        instances.pred_keypoints = keypoints + torch.tensor([0.5, 0.5, 0.0])
    return instances


def feed(evaluator, image_ids=None):
    evaluator.reset()
    for image in GOLDEN["dataset"]["images"]:
        if image_ids is None or image["id"] in image_ids:
            results = [r for r in GOLDEN["results"] if r["image_id"] == image["id"]]
            if results:
                evaluator.process([{"image_id": image["id"]}], [{"instances": predicted(results)}])
    return evaluator


def check(got, want):
    assert set(got) == set(want)
    for task, metrics in want.items():
        assert list(got[task]) == list(metrics)
        for name, value in metrics.items():
            expected = math.nan if value is None else value
            assert got[task][name] == pytest.approx(expected, abs=1e-9, nan_ok=True), (task, name)


@pytest.mark.parametrize("keeps_files", [False, True])
@pytest.mark.parametrize(("case", "max_dets"), [("default", None), ("max_dets_2", 2)])
def test_numbers_are_pycocotools(golden_name, tmp_path, capsys, keeps_files, case, max_dets):
    """Recorded from pycocotools 2.0.11: crowds, empty images, ties, categories without objects."""
    folder = str(tmp_path / "out") if keeps_files else None
    evaluator = COCOEvaluator(
        golden_name, output_dir=folder, max_dets_per_image=max_dets, kpt_oks_sigmas=SIGMAS
    )
    got = feed(evaluator).evaluate()
    check(got, GOLDEN["expected"][case])
    assert capsys.readouterr().out.count("Average Precision") == 17
    assert bool(evaluator._predictions) == keeps_files


@pytest.mark.parametrize("keeps_files", [False, True])
def test_some_images_only(golden_name, tmp_path, keeps_files):
    images = [10, 30, 70, 80]
    folder = str(tmp_path) if keeps_files else None
    evaluator = COCOEvaluator(golden_name, output_dir=folder, kpt_oks_sigmas=SIGMAS)
    got = feed(evaluator, None if keeps_files else images).evaluate(img_ids=images)
    check(got, GOLDEN["expected"]["some_images"])


def test_dropped_predictions_cannot_be_left_out_later(golden_name):
    evaluator = feed(COCOEvaluator(golden_name, kpt_oks_sigmas=SIGMAS))
    with pytest.raises(ValueError, match="give the evaluator an output_dir"):
        evaluator.evaluate(img_ids=[10])


def test_files_have_detectron2s_layout(golden_name, tmp_path):
    feed(COCOEvaluator(golden_name, output_dir=str(tmp_path), kpt_oks_sigmas=SIGMAS)).evaluate()
    results = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert set(results[0]) == {
        "image_id",
        "category_id",
        "bbox",
        "score",
        "segmentation",
        "keypoints",
    }
    assert results[0]["category_id"] in (3, 5, 9)
    saved = torch.load(tmp_path / "instances_predictions.pth", weights_only=True)
    assert saved[0]["image_id"] == 10
    assert saved[0]["instances"][0]["category_id"] in (0, 1, 2)  # contiguous, as predicted


def test_shards_of_two_processes_give_the_whole(golden_name, caplog):
    coco = COCO(GOLDEN["dataset"])
    from hotcoco import Params

    whole, first, second = (CocoStream(coco, "segm", Params("segm")) for _ in range(3))
    for image in GOLDEN["dataset"]["images"]:
        results = [r for r in GOLDEN["results"] if r["image_id"] == image["id"]]
        whole.add(image["id"], results)
        whole.add(image["id"], results)  # a repeated image counts once
        (first if image["id"] % 20 else second).add(image["id"], results)
    merged = CocoStream(coco, "segm", Params("segm"))
    merged.absorb([first.state(), second.state(), first.state()])
    expected, got = whole.finish(), merged.finish()
    assert np.array_equal(expected.eval["precision"], got.eval["precision"])
    assert caplog.text == ""

    again = CocoStream(coco, "segm", Params("segm"))
    second.add(10, [])
    again.absorb([first.state(), second.state()])
    assert "1 images were evaluated by two processes" in caplog.text


def test_memory_does_not_hold_predictions(golden_name):
    evaluator = feed(COCOEvaluator(golden_name, kpt_oks_sigmas=SIGMAS))
    assert evaluator._predictions == []
    assert sum(len(s.state()[0]) for s in evaluator._streams.values()) < 40_000


def test_subclasses_that_look_at_predictions_get_them(golden_name):
    class Mine(COCOEvaluator):
        def _eval_predictions(self, predictions, img_ids=None):
            self._results["mine"] = {"n": sum(len(p["instances"]) for p in predictions)}

    assert feed(Mine(golden_name)).evaluate() == {"mine": {"n": len(GOLDEN["results"])}}


@pytest.mark.parametrize("keeps_files", [False, True])
def test_nothing_predicted(golden_name, tmp_path, caplog, keeps_files):
    folder = str(tmp_path) if keeps_files else None
    evaluator = COCOEvaluator(golden_name, output_dir=folder)
    assert evaluator.evaluate() == {}
    assert "[COCOEvaluator] Did not receive valid predictions." in caplog.text
    evaluator.process([{"image_id": 10}], [{"instances": predicted([])}])
    got = evaluator.evaluate()
    assert list(got) == ["bbox"]
    assert all(math.isnan(value) for value in got["bbox"].values())
    assert "No predictions from the model!" in caplog.text
    evaluator.process([{"image_id": 20}], [{"sem_seg": None}])


def test_the_summary_has_the_spaces_of_pycocotools(golden_name, capsys):
    feed(COCOEvaluator(golden_name, ("bbox",))).evaluate()
    lines = [line.partition(" = ")[0] for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 12
    assert lines[0] == " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ]"
    assert lines[6] == " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ]"


def test_a_class_outside_the_dataset_is_named(golden_name, caplog):
    """In the log at once, and by ``evaluate``, which is where detectron2 raises."""
    instances = predicted([])
    row = Instances((10, 10))
    row.pred_boxes, row.scores = Boxes(torch.ones(1, 4)), torch.ones(1)
    row.pred_classes = torch.tensor([4])
    evaluator = COCOEvaluator(golden_name)
    evaluator.process([{"image_id": 10}], [{"instances": instances}])
    evaluator.process([{"image_id": 20}], [{"instances": row}])
    message = r"classes 0 to 3 .*got a prediction of class 4"
    assert re.search(message, caplog.text)
    evaluator.process([{"image_id": 30}], [{"instances": row}])
    assert len(re.findall(message, caplog.text)) == 1
    with pytest.raises(AssertionError, match=message):
        evaluator.evaluate()
    evaluator.reset()
    assert evaluator.evaluate() == {}


def test_an_image_that_stands_in_for_an_unreadable_one_counts_once(golden_name, tmp_path):
    row = Instances((240, 320))
    row.pred_boxes, row.scores = Boxes(torch.ones(1, 4)), torch.ones(1)
    row.pred_classes = torch.tensor([0])
    evaluator = COCOEvaluator(golden_name, output_dir=str(tmp_path))
    evaluator.process([{"image_id": 10}] * 2, [{"instances": row}] * 2)
    evaluator.evaluate()
    assert len(json.loads((tmp_path / "coco_instances_results.json").read_text())) == 1


def test_class_names_that_do_not_fit(register):
    mapping = {3: 0, 5: 1, 9: 2, 11: 3}
    name = register(
        GOLDEN["dataset"], thing_classes=["a", "b"], thing_dataset_id_to_contiguous_id=mapping
    )
    with pytest.raises(ValueError, match="has 4 categories; the metadata's thing_classes names 2"):
        feed(COCOEvaluator(name, tasks=("bbox",))).evaluate()


def test_a_dataset_without_a_mapping_has_its_own_ids(register):
    with pytest.raises(AssertionError, match=r"classes 3, 5, 9, 11 .*has the dataset been loaded"):
        feed(COCOEvaluator(register(GOLDEN["dataset"]))).evaluate()


def test_a_file_that_is_not_cocos(register):
    with pytest.raises(ValueError, match=r"\.json: expected a COCO annotation file"):
        COCOEvaluator(register({"images": [{"no": "id"}], "annotations": []}))


def test_wrong_arguments(golden_name, register):
    with pytest.raises(KeyError, match="unknown COCO task 'boxes'"):
        COCOEvaluator(golden_name, tasks=("boxes",))
    with pytest.raises(ValueError, match="has no COCO file; pass output_dir"):
        COCOEvaluator("retinue_test_without_file")
    MetadataCatalog.remove("retinue_test_without_file")
    evaluator = COCOEvaluator(golden_name)
    with pytest.raises(AssertionError, match="predictions have 3, annotations 3, and there are 17"):
        feed(evaluator).evaluate()


def test_a_config_in_place_of_tasks(golden_name):
    cfg = get_cfg()
    cfg.TEST.KEYPOINT_OKS_SIGMAS = SIGMAS
    check(feed(COCOEvaluator(golden_name, cfg, False)).evaluate(), GOLDEN["expected"]["default"])


def test_a_test_set_without_annotations_is_only_written(register, tmp_path, caplog):
    dataset = {k: v for k, v in GOLDEN["dataset"].items() if k != "annotations"}
    name = register(dataset, thing_dataset_id_to_contiguous_id={3: 0, 5: 1, 9: 2, 11: 3})
    caplog.set_level("INFO")
    assert feed(COCOEvaluator(name, output_dir=str(tmp_path / "out"))).evaluate() == {}
    assert "Annotations are not available for evaluation." in caplog.text
    written = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert len(written) == len(GOLDEN["results"])
    mapping = {3: 0, 5: 1, 9: 2, 11: 3}
    empty = register(
        {**dataset, "annotations": []},
        thing_classes=NAMES,
        thing_dataset_id_to_contiguous_id=mapping,
    )
    got = feed(COCOEvaluator(empty, tasks=("bbox",))).evaluate()
    assert math.isnan(got["bbox"]["AP"])


def test_a_dataset_of_dicts_is_converted(tmp_path):
    name = "retinue_test_dicts"
    box = {"bbox": [0, 0, 10, 10], "bbox_mode": 1, "category_id": 0}
    DatasetCatalog.register(
        name,
        lambda: [
            {"file_name": "a.png", "image_id": 1, "height": 20, "width": 20, "annotations": [box]}
        ],
    )
    try:
        MetadataCatalog.get(name).thing_classes = ["a"]
        evaluator = COCOEvaluator(name, output_dir=str(tmp_path))
        found = Instances((20, 20))
        found.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
        found.scores, found.pred_classes = torch.ones(1), torch.zeros(1, dtype=torch.int64)
        evaluator.process([{"image_id": 1}], [{"instances": found}])
        assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
        assert (tmp_path / f"{name}_coco_format.json").exists()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


# ---- one image


def test_instances_in_cocos_format():
    """By hand: a 2 x 1 mask in the first column, and a keypoint at a pixel's centre."""
    instances = Instances((2, 3))
    instances.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 4.0, 6.5]]))
    instances.scores, instances.pred_classes = torch.tensor([0.5]), torch.tensor([7])
    instances.pred_masks = torch.tensor([[[True, False, False], [True, False, False]]])
    instances.pred_keypoints = torch.tensor([[[3.5, 4.5, 0.25]]])
    keypoints = instances.pred_keypoints.clone()

    (row,) = instances_to_coco_json(instances, 42)
    assert (row["image_id"], row["category_id"], row["score"]) == (42, 7, 0.5)
    assert row["bbox"] == [1.0, 2.0, 3.0, 4.5]
    assert row["keypoints"] == [3.0, 4.0, 0.25]
    assert row["segmentation"]["size"] == [2, 3]
    assert mask.decode(row["segmentation"]).tolist() == [[1, 0, 0], [1, 0, 0]]
    assert torch.equal(instances.pred_keypoints, keypoints)
    assert json.loads(json.dumps(row)) == row
    assert instances_to_coco_json(instances[:0], 42) == []


# ---- proposals


def proposals(boxes, logits):
    instances = Instances((200, 200))
    instances.proposal_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.objectness_logits = torch.tensor(logits, dtype=torch.float32)
    return instances


def test_pairs_are_made_best_first():
    """By hand: (1, 0) at 0.9 takes row 1, so column 1 is left with row 0 at 0.2."""
    overlaps = torch.tensor([[0.6, 0.2], [0.9, 0.8]])
    assert best_pairs(overlaps).tolist() == pytest.approx([0.9, 0.2])
    assert overlaps[1, 0] == pytest.approx(0.9)
    assert best_pairs(torch.zeros(0, 3)).tolist() == [0, 0, 0]
    assert best_pairs(torch.zeros(2, 0)).tolist() == []


def test_recall_by_hand():
    """One object is covered exactly, one to 0.8 (thresholds up to 0.8 count), one not at all.

    The thresholds are 0.5, 0.55 ... 0.95: 7 of 10 count for the second. AR = (1 + 0.7 + 0) / 3.
    The small crowd and the image without proposals do not count.
    """
    annotations = [
        {"bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0},
        {"bbox": [100, 100, 50, 50], "area": 2500, "iscrowd": 0},
        {"bbox": [0, 150, 20, 20], "area": 400},
        {"bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 1},
    ]
    found = proposals([[100, 100, 140, 150], [0, 0, 50, 50]], [0.1, 0.9])
    recall = ProposalRecall()
    recall.add(found, annotations)
    recall.add(proposals([], []), annotations)
    recall.add(found, [])
    summary = recall.summarize(torch.arange(10) * 0.05 + 0.5 - 1e-4)
    assert summary["ar"].item() == pytest.approx((1 + 0.7 + 0) / 3)
    assert summary["num_pos"] == 3

    best_only = ProposalRecall("medium", limit=1)
    best_only.add(found, annotations)
    assert best_only.summarize()["ar"].item() == pytest.approx(0.5)
    assert math.isnan(ProposalRecall("large").summarize()["ar"])
    with pytest.raises(KeyError, match="unknown area range 'huge'"):
        ProposalRecall("huge")


@pytest.mark.parametrize("keeps_files", [False, True])
def test_proposals_are_evaluated(golden_name, tmp_path, keeps_files):
    """True boxes as proposals cover everything."""
    evaluator = COCOEvaluator(golden_name, output_dir=str(tmp_path) if keeps_files else None)
    kept = []
    for image in GOLDEN["dataset"]["images"]:
        boxes = [
            [x, y, x + w, y + h]
            for a in GOLDEN["dataset"]["annotations"]
            if a["image_id"] == image["id"]
            for x, y, w, h in [a["bbox"]]
        ]
        kept.append({"image_id": image["id"], "proposals": proposals(boxes, [0.0] * len(boxes))})
        evaluator.process([{"image_id": image["id"]}], [{"proposals": kept[-1]["proposals"]}])
    got = evaluator.evaluate()
    assert set(got["box_proposals"]) == {
        f"AR{suffix}@{limit}" for suffix in ("", "s", "m", "l") for limit in (100, 1000)
    }
    assert all(value == pytest.approx(100) for value in got["box_proposals"].values())
    if keeps_files:
        assert (tmp_path / "box_proposals.pkl").exists()
    direct = _evaluate_box_proposals(kept, COCO(GOLDEN["dataset"]), limit=100)
    assert direct["ar"].item() == pytest.approx(1)


# ---- the interface of pycocotools


class _Pycocotools:
    """A dataset of another library: its content is in ``dataset``."""

    def __init__(self, dataset):
        self.dataset = dataset

    def getImgIds(self):
        return [image["id"] for image in self.dataset["images"]]

    def getCatIds(self):
        return [category["id"] for category in self.dataset["categories"]]


def test_cocoeval_opt_takes_datasets_of_other_libraries(capsys):
    coco = COCO(GOLDEN["dataset"])
    found = coco.loadRes(copy.deepcopy(GOLDEN["results"]))
    ours = COCOeval_opt(_Pycocotools(coco.dataset), _Pycocotools(found.dataset), "bbox")
    ours.params.maxDets = [1, 2, 10]
    ours.evaluate()
    ours.accumulate()
    ours.summarize()  # without a warning about the limits
    want = GOLDEN["expected"]["max_dets_2"]["bbox"]["AP"]
    assert ours.stats[0] * 100 == pytest.approx(want)
    assert issubclass(COCOevalMaxDets, COCOeval_opt)
    with pytest.raises(AttributeError):
        ours.nothing  # noqa: B018 - asking is what raises


def test_cocoeval_opt_has_the_parameters_of_pycocotools():
    """As scripts use them: arrays, lists changed in place, datasets that are set later."""
    coco = COCO(GOLDEN["dataset"])
    ours = COCOeval_opt(iouType="bbox")
    with pytest.raises(ValueError, match=r"nothing to accumulate; run evaluate\(\) first"):
        ours.accumulate()
    with pytest.raises(AssertionError, match=r"run evaluate\(\) and accumulate\(\) first"):
        ours.summarize()
    assert (ours.eval, ours.evalImgs, ours.stats) == ({}, [], [])
    assert ours.params.imgIds == []
    ours.cocoGt, ours.cocoDt = coco, coco.loadRes(copy.deepcopy(GOLDEN["results"]))
    ours.params.maxDets[2] = 50
    ours.params.iouThrs = ours.params.iouThrs[np.where(ours.params.iouThrs == 0.5)]
    ours.params.useCats = 0
    ours.evaluate()
    ours.accumulate()
    assert ours.eval["precision"].shape == (1, 101, 1, 4, 3)
    assert {image["maxDet"] for image in ours.evalImgs if image} == {50}

    with_data = COCOeval_opt(coco, ours.cocoDt, "keypoints")
    assert with_data.params.imgIds == sorted(coco.getImgIds())
    assert with_data.params.catIds == sorted(coco.getCatIds())
    assert (with_data.params.maxDets, len(with_data.params.kpt_oks_sigmas)) == ([20], 17)
    assert with_data.params.areaRngLbl == ["all", "medium", "large"]
    with pytest.raises(KeyError, match="unknown iouType 'boxes'"):
        COCOeval_opt(iouType="boxes")


def test_parameters_are_those_of_hotcoco():
    for task in ("bbox", "segm", "keypoints"):
        ours, theirs = Params(task), hotcoco.Params(task)
        for name in ("iouThrs", "recThrs", "maxDets", "areaRng", "areaRngLbl", "useCats"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), (task, name)
    assert ours.kpt_oks_sigmas == pytest.approx(np.array(theirs.kpt_oks_sigmas))


def test_evaluating_a_list_of_results():
    coco = COCO(GOLDEN["dataset"])
    got = _evaluate_predictions_on_coco(coco, GOLDEN["results"], "segm")
    assert got.stats[0] * 100 == pytest.approx(GOLDEN["expected"]["default"]["segm"]["AP"])
    with pytest.raises(AssertionError, match="expected results; got none"):
        _evaluate_predictions_on_coco(coco, [], "bbox")
    with pytest.raises(AssertionError, match=r"expected 3 limits; got \[1\]"):
        _evaluate_predictions_on_coco(coco, GOLDEN["results"], "bbox", max_dets_per_image=[1])


def test_annotations_may_be_changed_in_place(golden_name):
    """As DensePose's evaluator drops the categories that it doesn't map."""
    evaluator = COCOEvaluator(golden_name)
    coco = evaluator._coco_api
    kept = [c for c in coco.dataset["categories"] if c["id"] in (3, 9)]
    coco.dataset["categories"] = kept
    coco.dataset["annotations"] = [
        row for row in coco.dataset["annotations"] if row["category_id"] in (3, 9)
    ]
    coco.createIndex()
    assert sorted(coco.getCatIds()) == sorted(c["id"] for c in kept)
    assert {row["category_id"] for row in coco.loadAnns(coco.getAnnIds())} == {3}  # none has 9
    assert len(coco.getAnnIds()) == len(coco.dataset["annotations"])
