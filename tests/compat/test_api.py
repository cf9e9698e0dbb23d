"""Every name of detectron2 0.6, its projects, fvcore and iopath is served, with its signature."""

import pytest

from reference.api_comparison import ACCEPTED, missing_imports, rows


def _is_accepted(row):
    return f"{row.module}:{row.name}" in ACCEPTED


@pytest.mark.slow
def test_detectron2(hook):
    _check("api")


@pytest.mark.slow
def test_names_that_modules_import(hook):
    """``from detectron2.engine.defaults import PathManager`` is wrong, and common."""
    assert missing_imports("api") == []


def test_projects(hook):
    _check("api_projects")


def test_fvcore_and_iopath(hook):
    _check("fvcore_api")


def test_densepose(hook):
    _check("api_densepose")


def _check(name):
    found = list(rows(name))
    odd = [f"{r.module} {r.name}: {r.state}" for r in found if r.state and not _is_accepted(r)]

    assert odd == []
    assert len(found) > 50


def test_what_is_accepted_is_still_so(hook):
    found = {f"{r.module}:{r.name}" for r in rows() if r.state}

    assert sorted(ACCEPTED.keys() - found) == []
