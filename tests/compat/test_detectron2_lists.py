"""What ``make d2-tests`` leaves out of detectron2's own tests is listed, each with its reason."""

import re
from pathlib import Path

import pytest

LISTS = ("torchscript_only", "needs_network", "fails_upstream")


def rows(name):
    """Return ``(id, reason)`` of a list."""
    text = Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8")
    return [line.partition("  # ")[::2] for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("name", LISTS)
def test_a_line_is_an_id_and_its_reason(name):
    node = re.compile(r"(projects/\w+/)?tests/[\w/]+\.py(::\w+::\w+)?")
    odd = [row for row in rows(name) if not node.fullmatch(row[0]) or not row[1].strip()]

    assert odd == []


def test_an_id_stands_on_one_line():
    ids = [row[0] for name in LISTS for row in rows(name)]

    assert len(ids) == len(set(ids))


def test_the_losses_are_those_that_were_counted():
    """33 of the 284 that detectron2 passes, 9 that download, 1 that reads COCO; and 3 modules."""
    cases = [i for i, _ in rows("torchscript_only") if "::" in i]
    modules = [i for i, _ in rows("torchscript_only") if "::" not in i]

    assert len(cases) == 33 + 9 + 1
    assert modules == [
        "tests/test_export_onnx.py",
        "tests/test_export_caffe2.py",
        "tests/export/test_c10.py",
    ]
