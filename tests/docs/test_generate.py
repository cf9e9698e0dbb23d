"""The pages that are written before the documentation is built."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_pages_are_written_into_a_folder_that_is_not_there_yet(tmp_path):
    """As on a fresh checkout, where the folders of generated pages are missing."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    page = tmp_path / "api" / "page.md"
    for lines in (["one", "drei · ≤"], ["two"]):
        generate._write(page, lines)
        assert page.read_text(encoding="utf-8").splitlines() == lines
