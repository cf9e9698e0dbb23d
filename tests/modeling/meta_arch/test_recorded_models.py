"""Two released configs against numbers that detectron2 (commit 02b5c4e, torch 2.13) gave.

Outputs, intermediate features, losses and gradient norms in float64, for weights and images made
from formulas. `make parity` runs the same check on many more.
"""

import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def check(monkeypatch):
    folder = GOLDEN.parent / "parity"
    monkeypatch.syspath_prepend(str(folder))
    import checks_models

    yield checks_models.check
    for file in folder.glob("*.py"):  # plain names like "compare" are not ours to keep
        sys.modules.pop(file.stem, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rpn_R_50_C4_1x", "retinanet_R_50_FPN_1x"])
def test_the_numbers_are_detectron2s(name, check):
    check(GOLDEN, name, None)
