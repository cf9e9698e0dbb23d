"""A report as one HTML page that needs no network: pictures, tables and charts are inside it.

``Report`` holds what there is to show; sections without content are left out. ``write_report``
fills the template ``templates/report.html`` with it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retinue.utils.file_io import atomic_write
from retinue.visualization.plots import NUM_SERIES_COLORS, Series, line_chart

__all__ = ["Chart", "Confusion", "Picture", "Report", "Tile", "image_uri", "write_report"]


@dataclass(frozen=True)
class Tile:
    """A number at the head of the page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture's annotations beside its predictions.

    Attributes:
        name: of the file.
        truth: ``(H, W, 3)`` uint8 RGB with the annotations drawn on it; None if there are none.
        predicted: the same with the predictions.
        caption: one line about it.
    """

    name: str
    truth: np.ndarray | None
    predicted: np.ndarray
    caption: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart: lines over common axes."""

    title: str
    series: Sequence[Series]
    x_label: str
    y_label: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    caption: str = ""

    @property
    def svg(self) -> str:
        return line_chart(
            self.series,
            title=self.title,
            x_label=self.x_label,
            y_label=self.y_label,
            x_range=self.x_range,
            y_range=self.y_range,
        )

    @property
    def legend(self) -> list[tuple[str, int]]:
        """Name and colour number of each line that is named."""
        return [(s.name, s.color % NUM_SERIES_COLORS) for s in self.series if not s.is_faint]


@dataclass(frozen=True)
class Confusion:
    """How often objects of each class were found as each class.

    Attributes:
        matrix: ``(K + 1, K + 1)`` counts, rows annotated, columns predicted; the last row holds
            predictions of nothing, the last column objects that were missed.
        class_names: K names.
        caption: the thresholds.
    """

    matrix: np.ndarray
    class_names: Sequence[str]
    caption: str = ""

    @property
    def counts(self) -> list[dict[str, Any]]:
        """For each class, objects found, false predictions, and objects missed."""
        matrix = np.asarray(self.matrix, dtype=np.int64)
        rows = []
        for k, name in enumerate(self.class_names):
            true = int(matrix[k, k])
            false, missed = int(matrix[:, k].sum()) - true, int(matrix[k].sum()) - true
            rows.append(
                {
                    "name": name,
                    "tp": true,
                    "fp": false,
                    "fn": missed,
                    "precision": true / (true + false) if true + false else None,
                    "recall": true / (true + missed) if true + missed else None,
                }
            )
        return rows


@dataclass
class Report:
    """What a page shows.

    Attributes:
        title: heading.
        subtitle: one line below it.
        tiles: numbers at the head.
        results: task (``bbox``, ``segm``, ...) -> metric -> value, as evaluators return them;
            ``AP-<class>`` are shown in a table of classes.
        pictures: annotations beside predictions.
        training: charts of losses and learning rate.
        curves: precision-recall charts.
        confusion: classes found as classes.
        errors: what the remaining errors cost: name, points of AP, how many, explanation.
        facts: title -> rows of (name, value): data, speed, environment.
        notes: sentences that the reader should not miss.
        config: the configuration as text.
    """

    title: str
    subtitle: str = ""
    tiles: Sequence[Tile] = ()
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    training: Sequence[Chart] = ()
    curves: Sequence[Chart] = ()
    confusion: Confusion | None = None
    errors: Sequence[tuple[str, float, int, str]] = ()
    facts: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    config: str = ""

    @property
    def overall(self) -> dict[str, list[float]]:
        """Metric -> its value in each task, NaN where it has none; single classes left out."""
        names = dict.fromkeys(n for m in self.results.values() for n in m if n[:3] != "AP-")
        return {n: [float(m.get(n, np.nan)) for m in self.results.values()] for n in names}

    @property
    def by_class(self) -> dict[str, list[float]]:
        """Class -> its AP in each task, NaN where it has none."""
        names = dict.fromkeys(n for m in self.results.values() for n in m if n[:3] == "AP-")
        return {n[3:]: [float(m.get(n, np.nan)) for m in self.results.values()] for n in names}


def image_uri(image: np.ndarray, *, quality: int = 86) -> str:
    """Encode ``(H, W, 3)`` uint8 RGB as a JPEG that is its own address."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _number(value: float | None, digits: int = 1) -> str:
    """Format a metric; what could not be measured is a dash."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.{digits}f}"


_TASKS = {"bbox": "box", "segm": "mask", "keypoints": "keypoint", "sem_seg": "semantic"}


def write_report(path: str | Path, report: Report) -> Path:
    """Write ``report`` as one HTML page to ``path``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("retinue.visualization"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, uri=image_uri)
    page = environment.get_template("report.html").render(
        report=report,
        tasks=list(report.results),
        task_names={t: _TASKS.get(t, t) for t in report.results},
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w", encoding="utf-8") as f:
        f.write(page)
    return path
