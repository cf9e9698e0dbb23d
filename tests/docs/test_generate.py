"""The pages that are written before the documentation is built."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generate():
    """The program that writes them."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_written_into_a_folder_that_is_not_there_yet(generate, tmp_path):
    """As on a fresh checkout, where the folders of generated pages are missing."""
    page = tmp_path / "api" / "page.md"
    for lines in (["one", "drei · ≤"], ["two"]):
        generate._write(page, lines)
        assert page.read_text(encoding="utf-8").splitlines() == lines


def test_each_model_without_a_recorded_config_has_a_reason(generate):
    page = "\n".join(generate.zoo_page(DOCS))
    total, checked = map(int, re.search(r"(\d+) models; config checked: (\d+)", page).groups())
    said = [int(count) for count in re.findall(r"(\d+) have no recorded config: \S", page)]
    assert said == [2, 4]  # of Rethinking-BatchNorm, of Mesh R-CNN
    assert sum(said) == total - checked
    assert len(re.findall(r"\| –, \S+, \S+ \|", page)) == sum(said)
