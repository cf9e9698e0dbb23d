import json
import logging

import numpy as np
import pytest

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets import (
    convert_to_coco_json,
    load_coco_json,
    load_sem_seg,
    register_coco_instances,
)
from retinue.data.datasets.coco import convert_to_coco_dict
from retinue.structures import BoxMode
from retinue.utils.errors import UnknownNameError


def test_a_file_becomes_one_dict_an_image(coco_folder):
    records = load_coco_json(coco_folder / "ann.json", coco_folder, "things")

    assert [r["image_id"] for r in records] == [10, 11, 12, 13, 14, 15]
    assert records[1] == {
        "file_name": str(coco_folder / "1.png"),
        "height": 40,
        "width": 30,
        "image_id": 11,
        "annotations": [
            {
                "id": 2,
                "iscrowd": 0,
                "bbox": [4.0, 4.0, 10.0, 8.0],
                "category_id": 1,
                "segmentation": [[4.0, 4.0, 14.0, 4.0, 4.0, 12.0]],
                "bbox_mode": BoxMode.XYWH_ABS,
            }
        ],
    }
    assert records[5]["annotations"] == []


def test_category_ids_are_numbered_and_it_is_said(coco_folder, caplog):
    load_coco_json(coco_folder / "ann.json", coco_folder, "things")

    meta = MetadataCatalog.get("things")
    assert meta.thing_classes == ["wedge", "disc"]
    assert meta.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert "classes are numbered in their order: 3 -> 0 (wedge), 7 -> 1 (disc)" in caplog.text


def test_ids_from_one_are_taken_as_they_are(change_json, coco_folder, caplog):
    def edit(content):
        for row in content["categories"]:
            row["id"] = {3: 1, 7: 2}[row["id"]]
        for row in content["annotations"]:
            row["category_id"] = {3: 1, 7: 2}[row["category_id"]]

    with caplog.at_level(logging.INFO):
        records = load_coco_json(change_json(edit), coco_folder, "things")

    assert records[0]["annotations"][0]["category_id"] == 0
    assert "numbered in their order" not in caplog.text


def test_without_a_name_ids_stay(coco_folder):
    records = load_coco_json(coco_folder / "ann.json", coco_folder)
    assert records[0]["annotations"][0]["category_id"] == 3


def test_uncompressed_rle_is_compressed(coco_folder):
    from hotcoco import mask as runs

    (crowd,) = load_coco_json(coco_folder / "ann.json", coco_folder, "things")[4]["annotations"]

    assert crowd["iscrowd"] == 1
    assert runs.decode(crowd["segmentation"]).shape == (24, 50)
    assert runs.decode(crowd["segmentation"]).all()


def test_keypoints_move_to_pixel_centres_and_extra_keys_stay(change_json, coco_folder):
    def edit(content):
        content["annotations"][0]["keypoints"] = [5, 6, 2, 0, 0, 0]
        content["annotations"][0]["color"] = "red"

    path = change_json(edit)
    anno = load_coco_json(path, coco_folder, "things", ["color"])[0]["annotations"][0]

    assert anno["keypoints"] == [5.5, 6.5, 2, 0.5, 0.5, 0]
    assert anno["color"] == "red"


def test_instances_without_a_polygon_are_left_out_and_named(change_json, coco_folder, caplog):
    def edit(content):
        content["annotations"][1]["segmentation"] = [[1, 1, 2, 2], [1, 2, 3, 4, 5, 6, 7]]
        content["annotations"][2]["segmentation"].append([1, 1, 2, 2])

    records = load_coco_json(change_json(edit), coco_folder, "things")

    assert records[1]["annotations"] == []
    assert len(records[2]["annotations"][0]["segmentation"]) == 1
    assert "instances dropped: 1," in caplog.text
    assert "annotation ids 2" in caplog.text


def test_annotations_of_no_image_are_counted(change_json, coco_folder, caplog):
    load_coco_json(
        change_json(lambda c: c["annotations"][0].update(image_id=99)), coco_folder, "things"
    )
    assert "1 of 5 annotations belong to no image in the file (ids 1)" in caplog.text


def set_annotation(**change):
    return lambda content: content["annotations"][0].update(**change)


@pytest.mark.parametrize(
    ("edit", "kind", "match"),
    [
        (
            set_annotation(category_id=8),
            KeyError,
            r"image 10 \(0.png\), annotation 1: category_id 8 is not among .* \(3, 7\)",
        ),
        (set_annotation(id=2), AssertionError, "1 occur more than once: 2"),
        (set_annotation(ignore=1), AssertionError, "annotation 1: 'ignore' is not supported"),
        (set_annotation(bbox=[]), ValueError, "annotation 1: has an empty bbox"),
        (set_annotation(segmentation="x"), ValueError, "an RLE with size and counts; got str"),
        (
            set_annotation(segmentation={"size": [30, 40], "counts": [7]}),
            ValueError,
            r"counts of its RLE add up to 7; its size \[height, width\] \[30, 40\] has 1200",
        ),
        (lambda c: c["annotations"][0].pop("id"), ValueError, "number 0 needs an id"),
        (lambda c: c["images"].append(c["images"][0]), ValueError, "be unique; 10 occur more"),
        (
            lambda c: c["images"][2].update(file_name=None),
            ValueError,
            "image number 2: file_name must be text",
        ),
        (
            lambda c: c["categories"][1].pop("name"),
            ValueError,
            "category number 1 needs an id and a name",
        ),
        (lambda c: c["images"][2].pop("width"), ValueError, "image number 2 has no width"),
        (lambda c: c.pop("images"), ValueError, "an object with lists 'images'"),
        (lambda c: c.pop("categories"), ValueError, "has no 'categories'"),
        (
            lambda c: c["categories"].append({"id": 3, "name": "x"}),
            ValueError,
            "category ids 3 occur more",
        ),
    ],
)
def test_wrong_files_are_named(change_json, coco_folder, edit, kind, match):
    path = change_json(edit)
    with pytest.raises(kind, match=match) as caught:
        load_coco_json(path, coco_folder, "things")
    assert str(path) in str(caught.value)


def test_the_class_error_is_a_lookup_error(change_json, coco_folder):
    with pytest.raises(UnknownNameError):
        load_coco_json(change_json(set_annotation(category_id=8)), coco_folder, "things")


def test_a_cut_off_file_is_named(coco_folder):
    path = coco_folder / "ann.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=r"ann.json is not JSON: .*is the file whole"):
        load_coco_json(path, coco_folder)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no.json' does not exist; .*RETINUE_DATASETS"):
        load_coco_json(tmp_path / "no.json", tmp_path)


def test_images_only(change_json, coco_folder):
    path = change_json(lambda content: content.pop("annotations"))
    assert all(r["annotations"] == [] for r in load_coco_json(path, coco_folder, "things"))


def test_registered_data_goes_there_and_back(coco_folder):
    register_coco_instances("things", {"color": "red"}, coco_folder / "ann.json", coco_folder)
    records = DatasetCatalog.get("things")
    assert MetadataCatalog.get("things").color == "red"
    assert MetadataCatalog.get("things").evaluator_type == "coco"

    out = coco_folder / "sub" / "copy.json"
    convert_to_coco_json("things", str(out))
    again = load_coco_json(out, "/", "copy")

    for record, copied in zip(records, again, strict=True):
        assert record["image_id"] == copied["image_id"]
        for anno, twin in zip(record["annotations"], copied["annotations"], strict=True):
            assert anno["bbox"] == twin["bbox"]
            assert anno["category_id"] == twin["category_id"]
    content = json.loads(out.read_text())
    assert content["annotations"][0]["area"] == 40.0  # half of 10 x 8
    assert content["annotations"][4]["area"] == 1200.0
    assert {row["id"] for row in content["categories"]} == {3, 7}


def test_a_converted_file_is_kept_unless_told(coco_folder, caplog):
    register_coco_instances("things", {}, coco_folder / "ann.json", coco_folder)
    out = coco_folder / "copy.json"
    out.write_text("old")
    convert_to_coco_json("things", str(out))
    assert out.read_text() == "old"
    assert "as converted earlier" in caplog.text

    convert_to_coco_json("things", str(out), allow_cached=False)
    assert json.loads(out.read_text())["images"]


def convert_one(**anno):
    record = {"file_name": "a.jpg", "width": 9, "height": 9}
    anno = {"category_id": 0, "bbox_mode": BoxMode.XYXY_ABS, **anno}
    DatasetCatalog.register("one", lambda: [{**record, "annotations": [anno]}])
    MetadataCatalog.get("one").thing_classes = ["x"]
    return convert_to_coco_dict("one")["annotations"][0]


def test_converting_boxes_and_keypoints():
    anno = convert_one(bbox=np.array([1.0, 2.0, 4.0, 8.0]), keypoints=[1.5, 2.5, 2, 0.5, 0.5, 0])

    assert anno["bbox"] == [1.0, 2.0, 3.0, 6.0]
    assert anno["area"] == 18.0
    assert anno["keypoints"] == [1.0, 2.0, 2, 0.0, 0.0, 0]
    assert anno["num_keypoints"] == 1


def test_converting_rotated_boxes():
    anno = convert_one(bbox=[5, 5, 4, 2, 30], bbox_mode=BoxMode.XYWHA_ABS)
    assert anno["bbox"] == [5, 5, 4, 2, 30]
    assert anno["area"] == pytest.approx(8.0)


def test_converting_what_cannot_be():
    with pytest.raises(ValueError, match="4 numbers, or 5 if rotated; got shape"):
        convert_one(bbox=[1, 2, 3])
    DatasetCatalog.remove("one")
    with pytest.raises(TypeError, match="polygons or an RLE; got str"):
        convert_one(bbox=[1, 2, 3, 4], segmentation="x")


def test_registering_checks_its_arguments():
    with pytest.raises(AssertionError, match="name must be a str"):
        register_coco_instances(3, {}, "a.json", "images")
    with pytest.raises(AssertionError, match="image_root must be a path; got None"):
        register_coco_instances("things", {}, "a.json", None)


def make_files(folder, names):
    folder.mkdir()
    for name in names:
        (folder / name).touch()


def test_label_maps_belong_to_images_of_their_name(tmp_path, caplog):
    make_files(tmp_path / "images", ["b.jpg", "a.jpg", "c.jpg"])
    make_files(tmp_path / "maps", ["c.png", "a.png"])

    records = load_sem_seg(str(tmp_path / "maps"), str(tmp_path / "images"))

    assert [r["file_name"].rsplit("/")[-1] for r in records] == ["a.jpg", "c.jpg"]
    assert records[1]["sem_seg_file_name"] == str(tmp_path / "maps" / "c.png")
    assert "using the 2 of the same name" in caplog.text


def test_label_maps_of_other_names_are_paired_in_order(tmp_path, caplog):
    make_files(tmp_path / "images", ["b.jpg", "a.jpg"])
    make_files(tmp_path / "maps", ["b_map.png", "a_map.png"])
    records = load_sem_seg(str(tmp_path / "maps"), str(tmp_path / "images"))
    assert records[0]["sem_seg_file_name"].endswith("a_map.png")
    assert "paired in order" in caplog.text


def test_no_label_map(tmp_path):
    make_files(tmp_path / "images", ["b.jpg"])
    with pytest.raises(AssertionError, match=r"no file in .* ends with 'png'"):
        load_sem_seg(str(tmp_path / "images"), str(tmp_path / "images"))
