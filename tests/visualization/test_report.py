import re

import numpy as np
import pytest

from retinue.visualization.plots import Series, line_chart, smooth, ticks
from retinue.visualization.report import Chart, Confusion, Picture, Report, Tile, write_report


def picture():
    return np.full((8, 12, 3), 90, dtype=np.uint8)


def full_report():
    curve = Series("disk <b>", [0, 0.5, 1], [1, 0.8, 0])
    return Report(
        title="A run & its <results>",
        subtitle="on shapes",
        tiles=[Tile("box AP", "71.3", "held out")],
        results={"bbox": {"AP": 71.25, "APl": float("nan"), "AP-disk": 80.0}, "segm": {"AP": 66.0}},
        pictures=[Picture("a.png", picture(), picture(), "1 found"), Picture("b", None, picture())],
        training=[Chart("Losses", [curve, Series("", [0, 1], [1, 2], is_faint=True)], "x", "y")],
        curves=[Chart("Boxes", [curve], "recall", "precision", (0, 1), (0, 1), caption="IoU 0.5")],
        confusion=Confusion(np.array([[3, 1, 2], [0, 4, 0], [5, 0, 0]]), ["disk", "ring"]),
        errors=[("wrong class", 1.5, 3, "the box is right")],
        facts={"Data": [("pictures", "12")]},
        notes=["knows the demo's shapes only"],
        config="MODEL:\n  DEVICE: cpu",
    )


def test_the_page_stands_alone(tmp_path):
    page = write_report(tmp_path / "new" / "report.html", full_report()).read_text("utf-8")

    addresses = re.findall(r"(?:src|href)=[\"']?([^\"' >]+)", page)
    assert addresses
    assert all(a.startswith(("data:", "#")) for a in addresses)
    assert "http" not in page
    assert "<script" not in page
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["report.html"]


def test_every_section_has_its_content(tmp_path):
    page = write_report(tmp_path / "report.html", full_report()).read_text("utf-8")

    for anchor in ("pictures", "ap", "curves", "errors", "training", "facts", "config"):
        assert f'id="{anchor}"' in page
        assert f'href="#{anchor}"' in page
    for text in ("71.3", "held out", "66.0", "80.0", "wrong class", "MODEL:", "12", "1 found"):
        assert text in page
    assert page.count("data:image/jpeg;base64,") == 3
    assert "A run &amp; its &lt;results&gt;" in page
    assert "disk <b>" not in page


def test_an_empty_report_has_no_sections(tmp_path):
    page = write_report(tmp_path / "report.html", Report(title="Nothing yet")).read_text("utf-8")

    assert "<section" not in page
    assert "Nothing yet" in page


def test_counts_by_hand():
    """Class disk: 3 right; 1 taken for a ring and 2 missed; 5 disks where there was nothing."""
    disk, ring = full_report().confusion.counts

    assert (disk["tp"], disk["fp"], disk["fn"]) == (3, 5, 3)
    assert (ring["tp"], ring["fp"], ring["fn"]) == (4, 1, 0)
    assert disk["precision"] == pytest.approx(3 / 8)
    assert ring["recall"] == 1.0


def test_a_class_without_objects_has_no_recall():
    rows = Confusion(np.zeros((2, 2)), ["none"]).counts

    assert rows[0]["recall"] is None
    assert rows[0]["precision"] is None


@pytest.mark.parametrize(
    ("ends", "values"),
    [((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1.0]), ((0.3, 7.2), [1, 2, 3, 4, 5, 6, 7]), ((2, 2), [2])],
)
def test_ticks_are_round(ends, values):
    assert ticks(*ends) == pytest.approx(values)


def test_the_running_median_ignores_a_spike():
    assert smooth([1, 1, 9, 1, 1], 3).tolist() == [1, 1, 1, 1, 1]
    assert smooth([], 3).tolist() == []


def test_a_line_is_interrupted_where_values_are_not_finite():
    nan = float("nan")
    svg = line_chart(
        [Series("loss", range(5), [1, nan, 2, 3, float("inf")])],
        title="t",
        x_label="x",
        y_label="y",
    )

    assert svg.count('<path class="line"') == 2
    assert "nan" not in svg
    assert "inf" not in svg


def test_long_series_are_thinned_and_empty_ones_drawn_as_axes():
    long = line_chart(
        [Series("a", range(10_000), np.zeros(10_000))], title="t", x_label="x", y_label="y"
    )
    empty = line_chart([Series("a", [], [])], title="t", x_label="x", y_label="y")

    assert long.count("L") < 700
    assert "<path" not in empty
    assert 'role="img"' in empty
