"""The report page of a run, from the files it left: metrics, predictions, config, checkpoint.

Reading order: ``write_run_report`` puts a page together from ``training_charts``, ``analyse_coco``
(what COCO's evaluation says beyond AP) and ``compare_pictures``.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.data.images import UnreadableImageError, read_image
from retinue.engine.detector import _FONT_SIZE, Detector, draw_instances
from retinue.visualization.plots import Series, smooth
from retinue.visualization.report import Chart, Confusion, Picture, Report, Tile, write_report

__all__ = ["Analysis", "analyse_coco", "compare_pictures", "training_charts", "write_run_report"]

_MIN_SCORE = 0.5  # of the predictions that are drawn and counted
_IOU = 0.5
_SURE = 0.9  # score of a prediction that makes one doubt the annotation
_MAX_SUSPECTS = 8
_MAX_CURVES = 8  # classes that a chart can still tell apart
_ERRORS = {
    "Cls": ("wrong class", "the box fits an object of another class"),
    "Loc": ("wrong box", "right class, IoU between 0.1 and 0.5"),
    "Both": ("wrong box and class", "another class, IoU between 0.1 and 0.5"),
    "Dupe": ("found twice", "an object that a better prediction has found already"),
    "Bkg": ("nothing there", "no object at that place"),
    "Miss": ("missed", "an object that no prediction comes near to"),
}


@dataclass
class Analysis:
    """What COCO's evaluation tells beyond AP.

    Attributes:
        curves: precision over recall.
        confusion: classes found as classes.
        errors: kind, AP lost, how often, meaning.
        suspects: file of an image, and why its annotations are worth a second look.
    """

    curves: list[Chart] = field(default_factory=list)
    confusion: Confusion | None = None
    errors: list[tuple[str, float, int, str]] = field(default_factory=list)
    suspects: list[tuple[str, str]] = field(default_factory=list)


def _read_metrics(folder: Path) -> list[dict[str, float]]:
    """Read ``metrics.json``, one JSON object a line; of a resumed run, the last word counts."""
    path = folder / "metrics.json"
    if not path.is_file():
        return []
    rows: dict[int, dict[str, float]] = {}
    for line in path.read_text("utf-8").splitlines():
        with contextlib.suppress(ValueError):  # the last line of a killed run may be cut off
            row = json.loads(line)
            rows.setdefault(int(row["iteration"]), {}).update(row)
    return [rows[i] for i in sorted(rows)]


def training_charts(folder: Path) -> list[Chart]:
    """Draw losses, validation AP and learning rate from the metrics that a run wrote."""
    rows = _read_metrics(folder)

    def column(name: str) -> tuple[list[float], list[float]]:
        pairs = [(r["iteration"], r[name]) for r in rows if name in r]
        return [float(i) for i, _ in pairs], [float(v) for _, v in pairs]

    names = list(dict.fromkeys(n for r in rows for n in r))
    losses = [n for n in names if "loss" in n and "/" not in n]
    losses.sort(key=lambda n: n != "total_loss")
    series = []
    for number, name in enumerate(losses):
        x, y = column(name)
        if len(x) > 30:
            series.append(Series(name, x, y, number, is_faint=True))
            y = smooth(y, max(5, len(x) // 30)).tolist()
        series.append(Series(name, x, y, number))
    charts = [Chart("Losses", series, "iteration", "loss")] if series else []
    scores = [n for n in names if n.endswith("/AP")]
    if scores and max(len(column(n)[0]) for n in scores) > 1:
        lines = [Series(n, *column(n), i) for i, n in enumerate(scores)]
        charts.append(Chart("AP on held-out pictures", lines, "iteration", "AP"))
    if "lr" in names:
        line = Series("learning rate", *column("lr"))
        charts.append(Chart("Learning rate", [line], "iteration", "learning rate"))
    return charts


def analyse_coco(
    json_file: str, predictions: str | Sequence[dict[str, Any]], tasks: Iterable[str]
) -> Analysis:
    """Evaluate predictions once more for curves, confusions and kinds of errors.

    Args:
        json_file: the annotations.
        predictions: in COCO's result format, or the file with them.
        tasks: any of ``"bbox"``, ``"segm"``, ``"keypoints"``.
    """
    from hotcoco import COCO, COCOeval

    found = Analysis()
    rows: Any = predictions
    if isinstance(rows, str):
        rows = json.loads(Path(rows).read_text("utf-8"))
    if not rows:
        return found
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(json_file)
        results = truth.loadRes(list(rows))
        for task in tasks:
            if task not in ("bbox", "segm", "keypoints"):
                continue
            run = COCOeval(truth, results, task)
            run.evaluate()
            run.accumulate()
            found.curves.append(_curves(run, task, truth))
            if task == "bbox":
                _count_errors(run, found, truth)
    return found


def _curves(run: Any, task: str, truth: Any) -> Chart:
    """Draw precision over recall at IoU 0.5, of each class if they are few, and of all."""
    precision = np.asarray(run.eval["precision"])[0, :, :, 0, -1]  # (recalls, classes)
    recall = np.asarray(run.params.recThrs)
    names = {c["id"]: c["name"] for c in truth.loadCats(truth.getCatIds())}
    known = [k for k in range(precision.shape[1]) if (precision[:, k] > -1).any()]
    series = []
    if 1 < len(known) <= _MAX_CURVES:
        for color, k in enumerate(known):
            series.append(Series(names[run.params.catIds[k]], recall, precision[:, k], color))
    else:
        mean = precision[:, known].mean(axis=1) if known else np.zeros(0)
        series.append(Series("mean of classes", recall[: len(mean)], mean))
    title = {"bbox": "Boxes", "segm": "Masks", "keypoints": "Keypoints"}[task]
    kind = "OKS" if task == "keypoints" else "IoU"
    return Chart(f"{title}, {kind} 0.5", series, "recall", "precision", (0, 1), (0, 1))


def _count_errors(run: Any, found: Analysis, truth: Any) -> None:
    table = run.confusion_matrix(iou_thr=_IOU, min_score=_MIN_SCORE)
    caption = f"IoU {_IOU}, score at least {_MIN_SCORE}."
    found.confusion = Confusion(np.asarray(table["matrix"]), table["cat_names"], caption)
    tide = run.tide_errors(pos_thr=_IOU)
    found.errors = [
        (name, 100 * tide["delta_ap"][kind], tide["counts"][kind], meaning)
        for kind, (name, meaning) in _ERRORS.items()
    ]
    doubts = run.image_diagnostics(iou_thr=_IOU, score_thr=_SURE)["label_errors"]
    found.suspects = [_suspicion(doubt, truth) for doubt in doubts[:_MAX_SUSPECTS]]


def _suspicion(doubt: dict[str, Any], truth: Any) -> tuple[str, str]:
    """Say why the annotation that a sure prediction contradicts may be wrong."""
    name = truth.loadImgs([doubt["image_id"]])[0]["file_name"]
    seen = f"{doubt['dt_category']} {doubt['dt_score']:.0%}"
    if doubt.get("gt_category"):
        return name, f"annotated as {doubt['gt_category']}, predicted as {seen}"
    return name, f"{seen} predicted, nothing annotated there"


def compare_pictures(
    detector: Detector, records: Sequence[dict[str, Any]], metadata: Any, *, num: int = 12
) -> tuple[list[Picture], float]:
    """Draw predictions beside annotations for pictures spread over a dataset.

    Args:
        detector: finds the objects.
        records: dataset dicts.
        metadata: of the dataset.
        num: how many pictures.

    Returns:
        The pictures, and how many the detector takes a second, one at a time.
    """
    chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, num).astype(int))]
    pictures, seconds = [], []
    for record in chosen:
        try:
            rgb = np.ascontiguousarray(read_image(record["file_name"], "RGB"))
        except (UnreadableImageError, FileNotFoundError):  # the log names it
            continue
        start = time.perf_counter()
        found = detector.predict(rgb, threshold=_MIN_SCORE)
        seconds.append(time.perf_counter() - start)
        truth = _draw_annotations(rgb, record, metadata)
        num_true = sum(not a.get("iscrowd", 0) for a in record.get("annotations", ()))
        caption = f"{num_true} annotated, {len(found)} predicted with a score of 50% or more"
        predicted = draw_instances(rgb, found, metadata)
        pictures.append(Picture(os.path.basename(record["file_name"]), truth, predicted, caption))
    return pictures, 1 / float(np.median(seconds)) if seconds else float("nan")


def _draw_annotations(rgb: np.ndarray, record: Mapping[str, Any], metadata: Any) -> np.ndarray:
    """Draw a record's annotations in the way ``draw_instances`` draws predictions."""
    from retinue.structures import BoxMode
    from retinue.visualization.colors import palette_color
    from retinue.visualization.visualizer import Visualizer

    annotations = record.get("annotations", ())
    scale = max(1.0, round(384 / max(1, min(rgb.shape[:2]))))
    names = metadata.get("thing_classes") or []
    classes = [a["category_id"] for a in annotations]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    with_masks = bool(annotations) and all("segmentation" in a for a in annotations)
    with_keypoints = bool(annotations) and all("keypoints" in a for a in annotations)
    points = [np.reshape(a["keypoints"], (-1, 3)) for a in annotations] if with_keypoints else None
    visualizer = Visualizer(rgb, metadata, scale=scale, font_size_scale=_FONT_SIZE)
    return visualizer.overlay_instances(
        boxes=np.reshape(np.asarray(boxes, dtype=np.float64), (-1, 4)),
        masks=[a["segmentation"] for a in annotations] if with_masks else None,
        keypoints=points,
        labels=[names[c] if c < len(names) else str(c) for c in classes],
        assigned_colors=[palette_color(c) for c in classes],
    ).get_image()


_HEADLINES = {"bbox": "box AP", "segm": "mask AP", "keypoints": "keypoint AP"}


def _headline(name: str, score: float) -> Tile:
    """A score at the head of the page; COCO's metrics are not a number without a prediction."""
    return Tile(name, f"{score:.1f}", "no prediction" if math.isnan(score) else "held-out pictures")


def write_run_report(
    folder: str | Path,
    detector: Detector,
    results: Mapping[str, Any],
    *,
    title: str,
    dataset: str,
    tiles: Sequence[Tile] = (),
    facts: Mapping[str, Sequence[tuple[str, str]]] = {},
    notes: Sequence[str] = (),
    subtitle: str = "",
    num_pictures: int = 12,
) -> Path:
    """Write ``report.html`` into the folder of a run.

    Args:
        folder: with ``metrics.json`` and ``inference/coco_instances_results.json``, as far as the
            run wrote them.
        detector: the trained model.
        results: of the evaluation: task -> metric -> value.
        title: heading of the page.
        dataset: name of the evaluated dataset.
        tiles: numbers to show at the head, after the APs.
        facts: further facts to list.
        notes: sentences to highlight.
        subtitle: a line below the heading.
        num_pictures: how many pictures to show.
    """
    folder = Path(folder)
    metadata = MetadataCatalog.get(dataset)
    records = DatasetCatalog.get(dataset)
    json_file = metadata.get("json_file", "")
    predictions = folder / "inference" / "coco_instances_results.json"
    tables = {task: m for task, m in results.items() if isinstance(m, Mapping)}
    analysis = Analysis()
    if json_file and predictions.is_file():
        analysis = analyse_coco(json_file, str(predictions), tables)
    pictures, speed = compare_pictures(detector, records, metadata, num=num_pictures)
    heads = [
        _headline(name, tables[task].get("AP", float("nan")))
        for task, name in _HEADLINES.items()
        if task in tables
    ]
    suspects = {"Annotations worth a second look": analysis.suspects} if analysis.suspects else {}
    page = Report(
        title=title,
        subtitle=subtitle,
        tiles=[*heads, Tile("prediction", f"{speed:.3g} img/s", "one at a time"), *tiles],
        results=tables,
        pictures=pictures,
        training=training_charts(folder),
        curves=analysis.curves,
        confusion=analysis.confusion,
        errors=analysis.errors,
        facts={**facts, **suspects},
        notes=notes,
        config=detector.cfg.dump(),
    )
    return write_report(folder / "report.html", page)
