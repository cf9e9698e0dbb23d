import json
import math

import numpy as np
import pytest
import torch

from retinue.data import MetadataCatalog
from retinue.evaluation.rotated_coco_evaluation import (
    RotatedCOCOeval,
    RotatedCOCOEvaluator,
    with_oriented_boxes,
)
from retinue.structures import Boxes, Instances, RotatedBoxes

NAME = "retinue_test_rotated"


@pytest.fixture
def evaluate(tmp_path):
    """Evaluates predicted boxes against annotated ones, in one image with one class."""

    def run(annotated, predicted, *, boxes=RotatedBoxes, output_dir=None, tasks=None):
        path = tmp_path / "a.json"
        rows = [
            {
                "id": i,
                "image_id": 1,
                "category_id": 7,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for i, box in enumerate(annotated, 1)
        ]
        image, category = {"id": 1, "height": 500, "width": 500}, {"id": 7, "name": "a"}
        path.write_text(
            json.dumps({"images": [image], "annotations": rows, "categories": [category]})
        )
        MetadataCatalog.get(NAME).set(
            json_file=str(path), thing_dataset_id_to_contiguous_id={7: 0}, thing_classes=["a"]
        )
        evaluator = RotatedCOCOEvaluator(NAME, tasks=tasks, output_dir=output_dir)
        found = Instances((500, 500))
        found.pred_boxes = boxes(torch.tensor(predicted, dtype=torch.float32))
        found.scores = torch.linspace(0.9, 0.5, len(predicted))
        found.pred_classes = torch.zeros(len(predicted), dtype=torch.int64)
        evaluator.process([{"image_id": 1}], [{"instances": found}])
        assert len(evaluator._predictions) == 1  # kept until now
        return evaluator.evaluate()["bbox"]

    yield run
    if NAME in MetadataCatalog.list():
        MetadataCatalog.remove(NAME)


@pytest.mark.parametrize("angle", [0, 30, 90, -75.5, 180])
def test_the_same_box_is_found(evaluate, angle):
    assert evaluate([[100, 100, 60, 20, angle]], [[100, 100, 60, 20, angle]])["AP"] == (
        pytest.approx(100)
    )


def test_half_a_turn_is_the_same_box_and_a_quarter_is_not(evaluate):
    assert evaluate([[100, 100, 60, 20, 30]], [[100, 100, 60, 20, 210]])["AP"] == pytest.approx(100)
    assert evaluate([[100, 100, 60, 20, 30]], [[100, 100, 60, 20, 120]])["AP"] == 0


def test_overlap_decides_at_which_threshold_a_box_counts(evaluate):
    """By hand: a box of 60 x 20, moved along its side by 10, overlaps 50/70 = 0.714: 5 of 10."""
    dx, dy = 10 * math.cos(math.radians(30)), -10 * math.sin(math.radians(30))
    got = evaluate([[100, 100, 60, 20, 30]], [[100 + dx, 100 + dy, 60, 20, 30]])
    assert got["AP"] == pytest.approx(50)
    assert (got["AP50"], got["AP75"]) == pytest.approx((100, 0))


def test_upright_annotations_and_predictions(evaluate, tmp_path):
    got = evaluate([[70, 90, 60, 20]], [[100, 100, 60, 20, 0]])
    assert got["AP"] == pytest.approx(100)
    got = evaluate(
        [[100, 100, 60, 20, 180]],
        [[70, 90, 130, 110]],
        boxes=Boxes,
        output_dir=str(tmp_path / "out"),
    )
    assert got["AP"] == pytest.approx(100)
    (row,) = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert row["bbox"] == [70, 90, 60, 20]
    assert row["category_id"] == 7


def test_nothing_predicted_and_wrong_tasks(evaluate):
    predicted = torch.zeros(0, 5).tolist()
    assert math.isnan(
        evaluate([[1, 1, 5, 5, 0]], predicted, boxes=lambda t: RotatedBoxes(t.reshape(0, 5)))["AP"]
    )
    with pytest.raises(AssertionError, match=r"tasks must be \('bbox',\); got \('segm',\)"):
        evaluate([[1, 1, 5, 5, 0]], [[1, 1, 5, 5, 0]], tasks=("segm",))


def test_the_hull_of_a_rotated_box():
    """By hand: 60 x 20 turned by 90 degrees stands in 20 x 60."""
    (row,) = with_oriented_boxes([{"bbox": [100, 100, 60, 20, 90]}])
    assert row["bbox"] == pytest.approx([90, 70, 20, 60])
    assert row["area"] == 1200
    assert with_oriented_boxes([row]) == [row]


class _Dataset:
    def __init__(self, **dataset):
        self.dataset = dataset


def test_overlaps_of_an_image_and_category(capsys):
    shared = {
        "images": [{"id": 1, "height": 500, "width": 500}],
        "categories": [{"id": 7, "name": "a"}],
    }
    row = {"image_id": 1, "category_id": 7, "iscrowd": 0}
    gt = _Dataset(
        **shared, annotations=[{**row, "id": 1, "bbox": [100, 100, 60, 20, 30], "area": 1200}]
    )
    boxes = [[300, 300, 60, 20, 30], [100, 100, 60, 20, 30]]
    dt = _Dataset(
        **shared,
        annotations=[
            {**row, "id": i + 1, "bbox": box, "score": score}
            for i, (box, score) in enumerate(zip(boxes, (0.2, 0.8), strict=True))
        ],
    )
    ev = RotatedCOCOeval(gt, dt, "bbox")
    assert ev.computeIoU(1, 7).flatten().tolist() == pytest.approx([1, 0], abs=1e-4)
    assert ev.computeIoU(1, 8) == []
    ev.evaluate()
    ev.accumulate()
    ev.summarize()
    assert ev.stats[0] == pytest.approx(1)
    upright = [[0, 0, 10, 10]]
    assert ev.compute_iou_dt_gt(upright, upright, [0]).tolist() == [[1.0]]
    with pytest.raises(AssertionError, match="expected iscrowd 0"):
        ev.compute_iou_dt_gt(boxes, boxes, [0, 1])
    with pytest.raises(ValueError, match="expected iouType 'bbox'; got 'segm'"):
        RotatedCOCOeval(gt, dt, "segm")


def test_lists_of_boxes():
    to_tensor, is_rotated = RotatedCOCOeval.boxlist_to_tensor, RotatedCOCOeval.is_rotated
    assert is_rotated(np.zeros((2, 5)))
    assert is_rotated([[1, 2, 3, 4, 5]])
    for upright in (np.zeros((2, 4)), [[1, 2, 3, 4]], [], "x"):
        assert not is_rotated(upright)
    assert to_tensor([], 5).shape == (0, 5)
    assert to_tensor([[0, 0, 10, 20]], 5).tolist() == [[5, 10, 10, 20, 0]]
    assert to_tensor(np.ones((1, 5)), 5).tolist() == [[1] * 5]
    with pytest.raises(ValueError, match="5 numbers cannot become boxes of 4"):
        to_tensor([[1, 2, 3, 4, 5]], 4)
    with pytest.raises(ValueError, match="expected a list or an array; got 'x'"):
        to_tensor("x", 5)
