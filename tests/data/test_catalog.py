import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from retinue.data import DatasetCatalog, Metadata, MetadataCatalog
from retinue.utils.errors import InputError, UnknownNameError


def test_a_dataset_is_loaded_by_its_name():
    DatasetCatalog.register("shapes", lambda: [{"file_name": "a.jpg"}])

    assert DatasetCatalog.get("shapes") == [{"file_name": "a.jpg"}]
    assert "shapes" in DatasetCatalog.list()
    DatasetCatalog.remove("shapes")
    assert "shapes" not in DatasetCatalog


@pytest.mark.parametrize("kind", [KeyError, ValueError, UnknownNameError])
def test_a_wrong_name_gets_the_nearest(kind):
    with pytest.raises(kind, match="unknown dataset 'coco_2017_trian'; did you mean"):
        DatasetCatalog.get("coco_2017_trian")


def test_a_name_is_registered_once():
    DatasetCatalog.register("shapes", list)
    with pytest.raises(AssertionError, match=r"'shapes' is registered already"):
        DatasetCatalog.register("shapes", list)
    with pytest.raises(InputError, match="needs a function that returns the samples; got list"):
        DatasetCatalog.register("others", [])
    with pytest.raises(AssertionError, match="'coco_2017_val' is registered already"):
        DatasetCatalog.register("coco_2017_val", list)


def test_metadata_is_one_object_a_name():
    meta = MetadataCatalog.get("fruit")
    meta.thing_classes = ["apple", "pear"]

    assert MetadataCatalog.get("fruit") is meta
    assert meta.as_dict() == {"name": "fruit", "thing_classes": ["apple", "pear"]}
    assert meta.get("thing_colors", 3) == 3
    meta.thing_classes = ["apple", "pear"]  # the same again is fine
    with pytest.raises(AssertionError, match=r"'thing_classes' of dataset 'fruit' can't change"):
        meta.thing_classes = ["apple"]


def test_missing_metadata_names_what_there_is():
    with pytest.raises(AttributeError, match="nothing was set on it yet"):
        MetadataCatalog.get("empty_set").thing_classes  # noqa: B018
    meta = MetadataCatalog.get("fruit").set(thing_classes=["apple"])
    with pytest.raises(AttributeError, match="did you mean 'thing_classes'"):
        meta.thing_clases  # noqa: B018
    assert not hasattr(meta, "__len__")


def test_renamed_metadata_is_found_and_said(caplog):
    meta = Metadata(name="fruit")
    meta.class_names = ["apple"]

    assert meta.thing_classes == meta.class_names == ["apple"]
    assert "'class_names' is now called 'thing_classes'" in caplog.text


def test_metadata_compares_arrays_and_travels():
    meta = Metadata(name="fruit").set(weights=np.arange(3))
    meta.weights = np.arange(3)
    with pytest.raises(InputError):
        meta.weights = np.array([0, 1, 5])

    assert (pickle.loads(pickle.dumps(meta)).weights == np.arange(3)).all()
    assert copy.deepcopy(meta).name == "fruit"


def test_metadata_needs_a_name():
    with pytest.raises(AssertionError, match="needs the name of a dataset"):
        MetadataCatalog.get("")


def test_catalogs_are_dicts():
    assert len(DatasetCatalog) == len(list(DatasetCatalog.items()))
    assert copy.copy(MetadataCatalog).keys() == MetadataCatalog.keys()
    assert "coco_2017_val" in str(DatasetCatalog)
    assert "coco_2017_val" in repr(MetadataCatalog)


@pytest.mark.slow
def test_importing_registers_nothing_and_looking_does():
    code = (
        "import sys; from retinue.data.catalog import DatasetCatalog as D, MetadataCatalog as M;"
        "assert not D._rows and not M._rows and 'retinue.data.datasets.builtin' not in sys.modules;"
        "assert M.get('voc_2007_test').year == 2007; assert len(D) == 52"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
