"""Every published config of a project builds, and uses the parts that the catalogs name."""

import pytest
import torch

from retinue.config import instantiate
from retinue.modeling import build_model, catalog
from retinue.projects import get_config, zoo


def build(path):
    """Build the model on the meta device: shapes, no values."""
    cfg = get_config(path)
    with torch.device("meta"):
        if path.endswith(".py"):
            return instantiate(cfg.model)
        cfg.MODEL.DEVICE = "meta"
        return build_model(cfg)


MODELS = [path for path in zoo.config_paths() if "/common/" not in path]


@pytest.mark.parametrize("path", MODELS)
def test_it_builds(path):
    assert next(build(path).parameters()).is_meta


def test_each_row_of_a_project_is_used_by_one_of_its_configs():
    """A row that no published config names is listed here, with how it is reached."""
    elsewhere = {"PointRendROIHeads"}  # configs of PointRend's first version
    rows = {
        name
        for registry in (getattr(catalog, n) for n in catalog.__all__)
        for name, home in registry._catalog.items()
        if home.startswith("retinue.projects.")
    }
    texts = [get_config(p).dump() for p in zoo.config_paths() if p.endswith(".yaml")]
    unused = {name for name in rows if not any(f": {name}\n" in text for text in texts)}

    assert unused == elsewhere
