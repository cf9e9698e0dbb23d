"""Panoptic, LVIS, VOC and Cityscapes readers on generated files."""

import json

import numpy as np
import pytest
from hotcoco import mask as runs
from PIL import Image

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets import (
    load_lvis_json,
    load_voc_instances,
    register_coco_panoptic,
    register_coco_panoptic_separated,
    register_lvis_instances,
    register_pascal_voc,
)
from retinue.data.datasets.cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from retinue.data.datasets.cityscapes_panoptic import (
    load_cityscapes_panoptic,
    register_all_cityscapes_panoptic,
)
from retinue.data.datasets.coco_panoptic import load_coco_panoptic_json, merge_to_panoptic
from retinue.data.transforms.clip import mask_to_polygons
from retinue.structures import BoxMode

META = {
    "thing_dataset_id_to_contiguous_id": {1: 0},
    "stuff_dataset_id_to_contiguous_id": {7: 1},
}


@pytest.fixture
def panoptic(tmp_path):
    segments = [{"id": 5, "category_id": 1}, {"id": 6, "category_id": 7}]
    anno = {"file_name": "000.png", "image_id": 3, "segments_info": segments}
    (tmp_path / "pan.json").write_text(json.dumps({"annotations": [anno]}))
    for name in ("000.jpg", "000.png"):
        (tmp_path / name).touch()
    return tmp_path


def test_panoptic_annotations(panoptic):
    (record,) = load_coco_panoptic_json(
        str(panoptic / "pan.json"), str(panoptic), str(panoptic), META
    )
    assert record == {
        "file_name": str(panoptic / "000.jpg"),
        "image_id": 3,
        "pan_seg_file_name": str(panoptic / "000.png"),
        "segments_info": [
            {"id": 5, "category_id": 0, "isthing": True},
            {"id": 6, "category_id": 1, "isthing": False},
        ],
    }


def test_wrong_panoptic_annotations(panoptic):
    arguments = (str(panoptic / "pan.json"), str(panoptic), str(panoptic))
    lacking = {**META, "stuff_dataset_id_to_contiguous_id": {}}
    with pytest.raises(KeyError, match="segment 6 has category_id 7, which is neither"):
        load_coco_panoptic_json(*arguments, lacking)
    (panoptic / "000.jpg").unlink()
    with pytest.raises(AssertionError, match=r"its first file_name does not exist: .*000.jpg"):
        load_coco_panoptic_json(*arguments, META)
    (panoptic / "pan.json").write_text(json.dumps({"annotations": []}))
    with pytest.raises(AssertionError, match="lists no images"):
        load_coco_panoptic_json(*arguments, META)


def test_registered_panoptic_annotations(panoptic):
    root = str(panoptic)
    register_coco_panoptic("pan", META, root, root, str(panoptic / "pan.json"))
    assert len(DatasetCatalog.get("pan")) == 1
    assert MetadataCatalog.get("pan").label_divisor == 1000


def test_separated_panoptic_annotations(coco_folder):
    maps = coco_folder / "maps"
    maps.mkdir()
    for i in range(6):
        (coco_folder / f"{i}.jpg").touch()
        (maps / f"{i}.png").touch()
    path = coco_folder / "ann.json"
    path.write_text(path.read_text().replace(".png", ".jpg"))
    root, maps = str(coco_folder), str(maps)
    register_coco_panoptic_separated("pan", {"color": 1}, root, root, "p.json", maps, str(path))

    records = DatasetCatalog.get("pan_separated")
    assert len(records) == 6
    assert records[2]["sem_seg_file_name"] == f"{maps}/2.png"
    assert len(records[2]["annotations"]) == 1
    assert "annotations" not in DatasetCatalog.get("pan_stuffonly")[0]
    assert MetadataCatalog.get("pan_stuffonly").evaluator_type == "sem_seg"


def test_merging_needs_both():
    with pytest.raises(AssertionError, match="got no semantic segmentation"):
        merge_to_panoptic([{"file_name": "a"}], [])
    with pytest.raises(KeyError, match="1 images have no semantic segmentation, among them a"):
        merge_to_panoptic([{"file_name": "a"}], [{"file_name": "b"}])


def lvis_file(folder, **change):
    anno = {"id": 1, "image_id": 9, "category_id": 4, "bbox": [1, 1, 2, 2], "area": 4}
    anno |= {"segmentation": [[1, 1, 3, 1, 3, 3]], **change}
    url = "http://images.cocodataset.org/val2017/9.jpg"
    image = {"id": 9, "coco_url": url, "height": 5, "width": 6, "neg_category_ids": [2]}
    content = {"images": [image], "annotations": [anno, {**anno, "id": 2}]}
    (folder / "lvis.json").write_text(json.dumps(content))
    return str(folder / "lvis.json")


def test_lvis(tmp_path):
    register_lvis_instances("my_lvis_v1", {}, lvis_file(tmp_path), "coco/")
    (record,) = DatasetCatalog.get("my_lvis_v1")
    assert record["file_name"] == "coco/val2017/9.jpg"
    assert record["neg_category_ids"] == [2]
    assert record["not_exhaustive_category_ids"] == []
    assert [a["category_id"] for a in record["annotations"]] == [3, 3]  # from 0
    assert len(MetadataCatalog.get("my_lvis_v1").thing_classes) == 1203
    assert load_lvis_json(lvis_file(tmp_path), "", None, ["area"])[0]["annotations"][0]["area"] == 4


def test_lvis_with_cocos_classes(tmp_path):
    (record,) = load_lvis_json(lvis_file(tmp_path, category_id=90), "coco/", "lvis_cocofied_mine")
    assert record["annotations"][0]["category_id"] == 79


def test_wrong_lvis_files(tmp_path):
    with pytest.raises(AssertionError, match="annotation 1 of image 9 has a polygon of"):
        load_lvis_json(lvis_file(tmp_path, segmentation=[[1, 2, 3, 4]]), "")
    path = tmp_path / "lvis.json"
    path.write_text(lvis_file_text_with_one_id(tmp_path))
    with pytest.raises(AssertionError, match="annotation ids must be unique; 1 is not"):
        load_lvis_json(str(path), "")


def lvis_file_text_with_one_id(folder):
    with open(lvis_file(folder)) as file:
        return file.read().replace('"id": 2', '"id": 1')


VOC_XML = """<annotation><size><width>40</width><height>30</height></size>
<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>40</xmax><ymax>9</ymax></bndbox>
</object></annotation>"""


@pytest.fixture
def voc(tmp_path):
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("000007\n")
    (tmp_path / "Annotations" / "000007.xml").write_text(VOC_XML.format("dog"))
    return tmp_path


def test_voc(voc):
    """Their pixels count from 1: xmin 1 to xmax 40 is the whole width."""
    register_pascal_voc("my_voc", str(voc), "val", 2007, ["cat", "dog"])
    assert DatasetCatalog.get("my_voc") == [
        {
            "file_name": str(voc / "JPEGImages" / "000007.jpg"),
            "image_id": "000007",
            "height": 30,
            "width": 40,
            "annotations": [
                {"category_id": 1, "bbox": [0, 1, 40, 9], "bbox_mode": BoxMode.XYXY_ABS}
            ],
        }
    ]
    assert MetadataCatalog.get("my_voc").thing_classes == ["cat", "dog"]


def test_an_unknown_voc_class(voc):
    with pytest.raises(ValueError, match=r"class in .*000007.xml 'dog'"):
        load_voc_instances(str(voc), "val", ["cat"])


SQUARE = [[10, 10], [29, 10], [29, 29], [10, 29]]


@pytest.fixture
def cityscapes(tmp_path):
    """A car of 20 x 20 pixels, half hidden by a wall in front, and a group of people."""
    images, truth = tmp_path / "leftImg8bit", tmp_path / "gtFine"
    for folder in (images, truth):
        (folder / "aachen").mkdir(parents=True)
    start = str(truth / "aachen" / "aachen_000_019_gtFine_")
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(
        images / "aachen" / "aachen_000_019_leftImg8bit.png"
    )
    objects = [
        {"label": "car", "polygon": SQUARE},
        {"label": "wall", "polygon": [[20, 0], [59, 0], [59, 49], [20, 49]]},
        {"label": "persongroup", "polygon": [[2, 40], [5, 40], [5, 43], [2, 43]]},
        {"label": "license plate", "polygon": SQUARE},
        {"label": "rider", "polygon": SQUARE, "deleted": 1},
        {"label": "dog", "polygon": [[0, 0], [1, 0], [1, 1]]},
    ]
    content = {"imgHeight": 50, "imgWidth": 60, "objects": objects}
    with open(start + "polygons.json", "w") as file:
        json.dump(content, file)
    ids = np.zeros((50, 60), dtype=np.uint16)
    ids[10:30, 10:20] = 26001  # a car
    ids[40:44, 2:6] = 24  # a group of people
    ids[0, 0] = 7  # road
    Image.fromarray(ids).save(start + "instanceIds.png")
    for name in ("labelIds.png", "labelTrainIds.png"):
        Image.fromarray(np.zeros((50, 60), np.uint8)).save(start + name)
    return str(images), str(truth)


@pytest.mark.parametrize("from_json", [True, False])
@pytest.mark.parametrize("to_polygons", [True, False])
def test_cityscapes_instances(cityscapes, from_json, to_polygons):
    (record,) = load_cityscapes_instances(*cityscapes, from_json, to_polygons)

    assert (record["height"], record["width"]) == (50, 60)
    found = {(a["category_id"], a["iscrowd"]): a for a in record["annotations"]}
    assert set(found) == {(2, False), (0, True)}  # person, rider, car, ...
    car = found[2, False]
    assert car["bbox"] == (10, 10, 20, 30)
    if to_polygons:
        assert car["segmentation"] == [[10, 10, 20, 10, 20, 30, 10, 30]]
    else:
        assert runs.area(car["segmentation"]) == 200


def test_cityscapes_labels(cityscapes):
    (record,) = load_cityscapes_semantic(*cityscapes)
    assert record["sem_seg_file_name"].endswith("aachen_000_019_gtFine_labelTrainIds.png")
    assert record["width"] == 60


def test_missing_cityscapes_files(cityscapes, tmp_path):
    (tmp_path / "gtFine" / "aachen" / "aachen_000_019_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(AssertionError, match=r"make it by createTrainIdLabelImgs.py"):
        load_cityscapes_semantic(*cityscapes)
    (tmp_path / "leftImg8bit" / "aachen" / "x.jpg").touch()
    with pytest.raises(AssertionError, match=r"x.jpg: Cityscapes' images end with leftImg8bit.png"):
        load_cityscapes_semantic(*cityscapes)


@pytest.fixture
def cityscapes_panoptic(cityscapes, tmp_path):
    folder = tmp_path / "gtFine" / "pan"
    folder.mkdir()
    (folder / "a.png").touch()
    segments = [{"id": 1, "category_id": 26}, {"id": 2, "category_id": 7}]
    anno = {"image_id": "aachen_000_019", "file_name": "a.png", "segments_info": segments}
    path = tmp_path / "pan.json"
    path.write_text(json.dumps({"annotations": [anno]}))
    return cityscapes[0], str(folder), str(path)


def test_cityscapes_panoptic(cityscapes_panoptic):
    meta = MetadataCatalog.get("cityscapes_fine_panoptic_val").as_dict()
    (record,) = load_cityscapes_panoptic(*cityscapes_panoptic, meta)
    assert record["image_id"] == "aachen_000_019"
    assert record["sem_seg_file_name"].endswith("gtFine_labelTrainIds.png")
    assert record["segments_info"] == [{"id": 1, "category_id": 13}, {"id": 2, "category_id": 0}]


def test_wrong_cityscapes_panoptic(cityscapes_panoptic, tmp_path):
    images, maps, path = cityscapes_panoptic
    with pytest.raises(
        AssertionError, match=r"no.json does not exist; make it by createPanopticImgs"
    ):
        load_cityscapes_panoptic(images, maps, str(tmp_path / "no.json"), META)
    text = (tmp_path / "pan.json").read_text().replace("aachen_000_019", "bonn_1_2")
    (tmp_path / "pan.json").write_text(text)
    with pytest.raises(AssertionError, match=r"no image 'bonn_1_2' for annotation 'a.png'"):
        load_cityscapes_panoptic(images, maps, path, META)


def test_cityscapes_panoptic_names(monkeypatch):
    for catalog in (DatasetCatalog, MetadataCatalog):
        monkeypatch.setattr(catalog, "_rows", {})
    register_all_cityscapes_panoptic("root")
    assert DatasetCatalog.list() == [
        "cityscapes_fine_panoptic_train",
        "cityscapes_fine_panoptic_val",
    ]


def test_traced_cars_keep_their_pixels():
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:5, 3:8] = True
    assert [p.tolist() for p in mask_to_polygons(mask)] == [[3, 2, 8, 2, 8, 5, 3, 5]]
