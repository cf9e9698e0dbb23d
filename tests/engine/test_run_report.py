import json
import math

import pytest

from retinue.engine.progress import ProgressBar
from retinue.engine.run_report import (
    _headline,
    analyse_coco,
    compare_pictures,
    training_charts,
)
from retinue.utils.events import EventStorage
from retinue.visualization.report import Tile

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.fixture
def truth(tmp_path):
    """Three objects in one picture: two cats, a dog."""
    boxes = [(1, [0, 0, 20, 20]), (1, [30, 0, 20, 20]), (2, [60, 0, 20, 20])]
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": 90, "width": 90}],
        "categories": CATEGORIES,
        "annotations": [
            {"id": i + 1, "image_id": 7, "category_id": c, "bbox": b, "area": 400, "iscrowd": 0}
            for i, (c, b) in enumerate(boxes)
        ],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_confusions_by_hand(truth):
    """A cat found, a cat taken for a dog, the dog missed, one dog where there is nothing."""
    predictions = [
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.99},
        {"image_id": 7, "category_id": 2, "bbox": [30, 0, 20, 20], "score": 0.95},
        {"image_id": 7, "category_id": 2, "bbox": [0, 60, 20, 20], "score": 0.7},
        {"image_id": 7, "category_id": 2, "bbox": [60, 60, 20, 20], "score": 0.2},
    ]
    found = analyse_coco(truth, predictions, ["bbox", "sem_seg"])

    assert found.confusion.matrix.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert list(found.confusion.class_names) == ["cat", "dog"]
    counts = {name: count for name, _, count, _ in found.errors}
    assert counts["wrong class"] == 1
    assert counts["missed"] == 1
    assert ("a.png", "annotated as cat, predicted as dog 95%") in found.suspects
    (chart,) = found.curves
    assert chart.title == "Boxes, IoU 0.5"
    assert [name for name, _ in chart.legend] == ["cat", "dog"]


def test_no_predictions_give_no_curves(truth, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    found = analyse_coco(truth, str(tmp_path / "none.json"), ["bbox"])

    assert found.curves == []
    assert found.confusion is None


def test_scores_at_the_head_of_the_page():
    assert _headline("box AP", 71.26) == Tile("box AP", "71.3", "held-out pictures")
    assert _headline("box AP", math.nan) == Tile("box AP", "nan", "no prediction")


def test_charts_of_a_resumed_run_with_a_cut_off_line(tmp_path):
    lines = [
        {"iteration": 0, "total_loss": 3.0, "loss_cls": 2.0, "lr": 0.1},
        {"iteration": 19, "total_loss": 2.0, "loss_cls": 1.0, "lr": 0.1, "bbox/AP": 10.0},
        {"iteration": 9, "total_loss": 2.5, "loss_cls": 1.5, "lr": 0.1},
        {"iteration": 39, "total_loss": math.nan, "loss_cls": 0.5, "lr": 0.01, "bbox/AP": 20.0},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"iteration": 59, "total'
    (tmp_path / "metrics.json").write_text(text)
    charts = {chart.title: chart for chart in training_charts(tmp_path)}

    assert list(charts) == ["Losses", "AP on held-out pictures", "Learning rate"]
    total, cls = charts["Losses"].series
    assert (total.name, list(total.x)) == ("total_loss", [0, 9, 19, 39])
    assert list(cls.y) == [2.0, 1.5, 1.0, 0.5]
    assert "<path" in charts["Losses"].svg


def test_a_run_without_metrics_has_no_charts(tmp_path):
    assert training_charts(tmp_path) == []


def test_the_progress_bar_shows_losses(capsys):
    with EventStorage() as storage:
        bar = ProgressBar(max_iter=2)
        for value in (3.0, 1.0):
            storage.put_scalars(total_loss=value, loss_cls=value / 2, lr=0.1)
            bar.write()
            storage.step()
        bar.write()
        bar.close()
        bar.close()

    shown = capsys.readouterr().out
    assert "2/2" in shown
    assert "3/2" not in shown
    assert "cls" in shown


def test_pictures_that_cannot_be_read_are_left_out(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    records = [{"file_name": str(tmp_path / name)} for name in ("a.png", "missing.png")]
    pictures, rate = compare_pictures(None, records, {})

    assert pictures == []
    assert math.isnan(rate)
