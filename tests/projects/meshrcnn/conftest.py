"""A few generated pictures of solids, and the config of a tiny model for them."""

import pytest

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.projects.meshrcnn import example


@pytest.fixture(scope="session")
def solids_folder(tmp_path_factory):
    """Folder with both splits; tests that need them registered use ``solids``."""
    folder = tmp_path_factory.mktemp("solids")
    for seed, name in enumerate((example.TRAIN, example.VAL)):
        example.write_solids(folder / name, 4, seed=seed)
    return folder


@pytest.fixture
def solids(solids_folder):
    """Names of the two splits, registered for one test."""
    names = (example.TRAIN, example.VAL)
    for name in names:
        example.register_pix3d(
            name, "solids.json", "", str(solids_folder / name), classes=example.SOLID_CLASSES
        )
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def tiny_config(tmp_path):
    cfg = example.tiny_config(tmp_path, num_iterations=2)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.MODEL.ROI_MESH_HEAD.GT_NUM_SAMPLES = cfg.MODEL.ROI_MESH_HEAD.PRED_NUM_SAMPLES = 20
    return cfg
