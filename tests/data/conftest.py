"""A small COCO dataset of generated images, and clean catalogs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retinue.data import DatasetCatalog, MetadataCatalog

SIZES_WH = [(40, 30), (30, 40), (60, 20), (32, 32), (50, 24), (24, 50)]


def write_image(path: Path, width: int, height: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def coco_content() -> dict:
    """Six images; the last has no annotation, the one before only a crowd."""
    images = [
        {"id": 10 + i, "file_name": f"{i}.png", "width": w, "height": h}
        for i, (w, h) in enumerate(SIZES_WH)
    ]
    triangle = [4.0, 4.0, 14.0, 4.0, 4.0, 12.0]
    annotations = [
        {
            "id": i + 1,
            "image_id": 10 + i,
            "category_id": [3, 7][i % 2],
            "iscrowd": 0,
            "bbox": [4.0, 4.0, 10.0, 8.0],
            "area": 40.0,
            "segmentation": [triangle],
        }
        for i in range(4)
    ]
    counts = [0, 24 * 50]
    annotations.append(
        {
            "id": 5,
            "image_id": 14,
            "category_id": 3,
            "iscrowd": 1,
            "bbox": [0.0, 0.0, 50.0, 24.0],
            "area": 1200.0,
            "segmentation": {"size": [24, 50], "counts": counts},
        }
    )
    categories = [{"id": 7, "name": "disc"}, {"id": 3, "name": "wedge"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def coco_folder(tmp_path):
    """A folder with ``ann.json`` and the images of ``coco_content``."""
    for i, (width, height) in enumerate(SIZES_WH):
        write_image(tmp_path / f"{i}.png", width, height, seed=i)
    (tmp_path / "ann.json").write_text(json.dumps(coco_content()))
    return tmp_path


@pytest.fixture
def change_json(coco_folder):
    """Give a function that edits the annotation file's content and writes it back."""

    def change(edit):
        path = coco_folder / "ann.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
        return path

    return change


@pytest.fixture(autouse=True)
def _clean_catalogs():
    """Forget what a test registered."""
    before = {id(catalog): set(catalog) for catalog in (DatasetCatalog, MetadataCatalog)}
    yield
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in set(catalog) - before[id(catalog)]:
            catalog.remove(name)
