import hashlib
import json

import pytest

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets import builtin, builtin_meta, get_lvis_instances_meta
from retinue.data.datasets.lvis_v0_5_categories import LVIS_CATEGORIES as LVIS_V0_5
from retinue.data.datasets.lvis_v1_categories import LVIS_CATEGORIES as LVIS_V1


def digest(value):
    def plain(x):
        if isinstance(x, dict):  # keys may be numbers, and order matters
            return {"dict": [[plain(k), plain(v)] for k, v in x.items()]}
        if isinstance(x, tuple):
            return {"tuple": list(map(plain, x))}
        return list(map(plain, x)) if isinstance(x, list) else x

    return hashlib.sha256(json.dumps(plain(value)).encode()).hexdigest()[:16]


@pytest.fixture
def registered(monkeypatch):
    """Fresh catalogs with the built-in datasets below the root "datasets", their default."""
    for catalog in (DatasetCatalog, MetadataCatalog):
        assert catalog.keys() is not None  # filled, so that the patched rows stay as they are
        monkeypatch.setattr(catalog, "_rows", {})
    builtin.register_all_builtin("datasets")


def test_names_are_those_of_detectron2(registered):
    """Recorded from detectron2 02b5c4e, in its order."""
    assert len(DatasetCatalog) == len(MetadataCatalog) == 52
    assert digest(DatasetCatalog.list()) == "c89a06dc674228f0"


def test_metadata_is_that_of_detectron2(registered):
    """Recorded from detectron2 02b5c4e: sorted attributes of all 52."""
    rows = []
    for name in sorted(MetadataCatalog):
        meta = MetadataCatalog.get(name).as_dict()
        rows.append({key: meta[key] for key in sorted(meta)})

    assert digest(rows) == "461d171b9bfba353"


def test_category_tables():
    """Recorded from detectron2 02b5c4e, LVIS without definitions."""
    tables = [
        builtin_meta.COCO_CATEGORIES,
        builtin_meta.CITYSCAPES_CATEGORIES,
        builtin_meta.ADE20K_SEM_SEG_CATEGORIES,
        LVIS_V1,
        LVIS_V0_5,
    ]

    assert list(map(len, tables)) == [133, 19, 150, 1203, 1230]
    assert [
        digest([sorted(row.items()) if isinstance(row, dict) else row for row in table])
        for table in tables
    ] == [
        "2c5644795a1c3c69",
        "6fc9a89bfda8283f",
        "78a9e17744d1b6c0",
        "6faed65b0695fdb8",
        "c715920e972dbd39",
    ]


def test_a_few_facts_by_eye():
    meta = MetadataCatalog.get("coco_2017_val")
    assert meta.thing_classes[:3] == ["person", "bicycle", "car"]
    assert meta.thing_dataset_id_to_contiguous_id[90] == 79
    keypoints = MetadataCatalog.get("keypoints_coco_2017_val")
    assert keypoints.keypoint_names[5] == "left_shoulder"
    assert MetadataCatalog.get("coco_2017_train_panoptic_separated").stuff_classes[0] == "things"
    assert get_lvis_instances_meta("lvis_v1_train")["class_image_count"][0]["image_count"] == 64


def test_unknown_metadata_is_refused():
    with pytest.raises(KeyError, match="unknown built-in metadata 'coco_persons'; did you mean"):
        builtin_meta._get_builtin_metadata("coco_persons")
    with pytest.raises(ValueError, match="no metadata for LVIS dataset 'lvis_v7'"):
        get_lvis_instances_meta("lvis_v7")


def test_files_lie_below_the_root(registered):
    assert MetadataCatalog.get("coco_2014_minival").json_file == (
        "datasets/coco/annotations/instances_minival2014.json"
    )
    assert MetadataCatalog.get("lvis_v1_val").image_root == "datasets/coco/"
