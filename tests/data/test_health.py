import io

import numpy as np
import pytest
from rich.console import Console

from retinue.data import DatasetCatalog, MetadataCatalog, report_dataset
from retinue.data.datasets import register_coco_instances
from retinue.data.health import compare_classes, report_files
from retinue.structures import BoxMode
from retinue.utils.errors import InputError


@pytest.fixture
def things(coco_folder):
    register_coco_instances("things", {}, coco_folder / "ann.json", coco_folder)
    return "things"


def codes(report):
    return {problem.code for problem in report.problems}


def report_of(change=None, *, record=None, **options):
    anno = {"id": 7, "bbox": [4, 4, 10, 8], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    anno.update(change or {})
    image = {"file_name": "a.jpg", "image_id": 1, "width": 40, "height": 30, "annotations": [anno]}
    image.update(record or {})
    options = {"class_names": ["x"], "check_files": False, **options}
    return report_dataset([image], **options)


def test_a_good_dataset(things):
    report = report_dataset(things, num_classes=2, use_masks=True)

    assert report.class_names == ["wedge", "disc"]
    assert (report.num_images, report.num_empty_images) == (6, 2)
    assert (report.num_instances, report.num_crowds) == (4, 1)
    assert report.instances_of_class == {0: 2, 1: 2}
    assert report.annotated == {"polygons": 4}
    assert report.fatal == []
    assert codes(report) == {"empty_image_dropped"}
    assert "DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps them" in report.problems[0].message
    report.raise_if_fatal()


def test_it_can_be_read(things):
    report = report_dataset(things, num_classes=1)
    text = str(report)
    assert text.startswith(
        "Dataset things: 6 images, 4 instances (4 with polygons), 1 crowds; 2 images without"
    )
    assert "| 0       | wedge  | 2           | 2        |" in text
    assert "ERROR: the model is configured for fewer classes" in text
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report)
    assert "wedge" in console.export_text()


def test_kept_empty_images(things):
    report = report_dataset(things, filter_empty=False)
    assert codes(report) == set()
    assert "2 images without objects, kept" in str(report)


def test_the_first_of_many_are_shown():
    annos = [{"id": i, "bbox": [4, 4, 0, 8], "bbox_mode": 1, "category_id": 0} for i in range(9)]
    (problem,) = report_of(record={"annotations": annos}).problems
    assert problem.count == 9
    assert "(9 times)" in problem.message
    assert problem.message.count("image 1 (a.jpg), annotation") == 3


@pytest.mark.parametrize(
    ("change", "code", "match"),
    [
        (
            {"category_id": 1},
            "class_outside",
            r"\(a.jpg\), annotation 7: class 1 is not among 0 to 0",
        ),
        ({"category_id": "x"}, "class_outside", "class x is not among"),
        ({"bbox": [1, 1, float("nan"), 2]}, "box_not_finite", "nan"),
        ({"bbox": [1, 1, 2]}, "box_not_finite", r"bbox \[1, 1, 2\]"),
        ({"segmentation": [[1, 2, 3, 4]]}, "polygon_points", "4 coordinates"),
        ({"segmentation": []}, "polygon_points", "0 coordinates"),
        (
            {"segmentation": {"size": [40, 30], "counts": b""}},
            "rle_size",
            r"RLE \[40, 30\], image \[30, 40\]",
        ),
        ({"segmentation": {"size": [30, 40], "counts": [5]}}, "rle_size", "counts add up to 5"),
        ({"segmentation": {"size": [30, 40], "counts": "a!"}}, "rle_broken", "invalid RLE"),
        ({"segmentation": np.zeros((3, 3))}, "rle_size", r"bitmap \[3, 3\]"),
        ({"segmentation": "x"}, "segmentation_kind", "str"),
    ],
)
def test_what_stops_training(change, code, match):
    report = report_of(change)
    assert [problem.code for problem in report.fatal] == [code]
    with pytest.raises(InputError, match=match):
        report.raise_if_fatal()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"bbox": [4, 4, 0, 8]}, "box_without_area"),
        ({"bbox": [4, 4, 4, 8], "bbox_mode": BoxMode.XYXY_ABS}, "box_without_area"),
        ({"bbox": [4, 4, 0, 8, 30], "bbox_mode": BoxMode.XYWHA_ABS}, "box_without_area"),
        ({"bbox": [40, 4, 5, 5]}, "box_outside"),
        ({"bbox": [-9, 4, 9, 5]}, "box_outside"),
        ({"bbox": [35, 4, 10, 5]}, "box_over_edge"),
    ],
)
def test_what_is_only_said(change, code):
    report = report_of(change)
    assert report.fatal == []
    assert codes(report) == {code}
    assert report.warnings[0].count == 1


def test_what_is_fine():
    assert codes(report_of({"bbox": [0, 0, 40.5, 30]})) == set()
    assert codes(report_of({"bbox": [4, 4, 10, 8, 30], "bbox_mode": BoxMode.XYWHA_ABS})) == set()
    assert codes(report_of(record={"width": None, "height": None})) == set()


def test_a_missing_box():
    anno = {"category_id": 0}
    (problem,) = report_of(record={"annotations": [anno]}).fatal
    assert "annotation number 0: no bbox" in problem.message


def test_ids_that_occur_twice():
    anno = {"id": 7, "bbox": [4, 4, 10, 8], "bbox_mode": 1, "category_id": 0}
    image = {"file_name": "a.jpg", "image_id": 1, "annotations": [anno]}
    report = report_dataset([image, image], class_names=["x"], check_files=False)
    assert codes(report) == {"image_twice", "annotation_twice"}


def test_nothing_there():
    assert codes(report_dataset([])) == {"no_image"}
    report = report_dataset([{"file_name": "a", "annotations": []}], check_files=False)
    assert codes(report) == {"no_instance", "empty_image_dropped"}
    assert codes(report_dataset([{"file_name": "a"}], check_files=False)) == {"empty_image_dropped"}


def test_what_the_model_needs(things):
    assert codes(report_of(use_masks=True)) == {"mask_missing"}
    assert codes(report_of(use_keypoints=True)) == {"keypoints_missing"}
    assert "keypoints_unnamed" in codes(report_dataset(things, use_keypoints=True))
    MetadataCatalog.get(things).set(keypoint_names=["a"], keypoint_flip_map=[])
    assert "keypoints_unnamed" not in codes(report_dataset(things, use_keypoints=True))
    assert report_of({"keypoints": [1, 1, 2]}, use_keypoints=True).annotated["keypoints"] == 1


def test_number_of_classes():
    assert report_of(num_classes=1).problems == []
    report = report_of(num_classes=80)
    assert [p.code for p in report.warnings] == ["num_classes_many"]
    few = report_of(class_names=["x", "y"], num_classes=1, num_classes_key="MODEL.N")
    assert [p.code for p in few.fatal] == ["num_classes_few"]
    assert "the dataset has 2 (x, y), MODEL.N is 1" in few.fatal[0].message
    assert codes(few) == {"num_classes_few", "class_unused"}


def test_dicts_of_a_registered_dataset(things):
    records = DatasetCatalog.get(things)[:3]
    report = report_dataset(records, name=things)
    assert (report.name, report.num_images) == ("things", 3)
    assert report.class_names == ["wedge", "disc"]
    assert report_dataset(records).name == "without a name"


def test_classes_without_names():
    assert report_of({"category_id": 2}, class_names=None).class_names == ["0", "1", "2"]


def test_missing_files(things, coco_folder):
    (coco_folder / "2.png").unlink()
    (problem,) = report_dataset(things).fatal
    assert "2.png" in problem.message
    assert report_dataset(things, skip_unreadable=True).fatal == []
    assert "file_missing_skipped" in codes(report_dataset(things, skip_unreadable=True))


def test_empty_files_and_remote_ones(things, coco_folder):
    records = [*DatasetCatalog.get(things), {"file_name": "s3://bucket/1.png"}, {}]
    assert report_files(records, "things").problems == []
    for name in ("1.png", "2.png"):
        (coco_folder / name).write_bytes(b"")
    (problem,) = report_files(records, "things").fatal
    assert (problem.code, problem.count) == ("file_empty", 2)
    assert "image files are empty (2 times): " in problem.message
    assert codes(report_files(records, "things", skip_unreadable=True)) == {"file_empty_skipped"}
    assert report_files(records, "things", keys=["other"]).problems == []


def test_looking_for_files_ends_in_time(monkeypatch, caplog):
    caplog.set_level("INFO", logger="retinue")
    monkeypatch.setattr("retinue.data.health._MAX_SECONDS", -1.0)
    assert report_files([{"file_name": "absent.png"}], "things").problems == []
    assert "Dataset things: looked for the files of the first 0 images only" in caplog.text


def test_what_only_the_file_shows(things, change_json):
    def edit(content):
        twin = {**content["annotations"][0], "id": 50}
        astray = {**content["annotations"][1], "id": 51, "image_id": 999}
        content["annotations"] += [twin, astray]

    change_json(edit)
    report = report_dataset(things)
    assert {"near_duplicate", "orphan_image_id"} <= codes(report)


def test_classes_of_several_sources():
    train = ["cat", "dog"]
    assert compare_classes({"train": train, "val": ["cat", "dog"], "checkpoint": None}) == []
    assert compare_classes({"train": train}) == []
    lists = {"train": train, "val": ["dog", "cat"], "checkpoint": ["cat", "cow", "pig"]}
    val, checkpoint = compare_classes(lists, fatal=["val"])
    assert val.is_fatal
    assert "in another order: number 0 is 'dog', not 'cat'" in val.message
    assert not checkpoint.is_fatal
    assert "3 classes, train has 2; not in checkpoint: dog; only in checkpoint: cow, pig" in str(
        checkpoint
    )


def test_a_name_that_two_classes_have():
    report = report_of(class_names=["x", "y", "x"])
    (problem,) = [p for p in report.problems if p.code == "class_twice"]

    assert "'x' is number 0 and 2" in problem.message
    assert not problem.is_fatal


@pytest.mark.parametrize("box", [[1, 2, float("nan"), 3], [1, 2, 3], [1, 2, "3", 4]])
def test_a_file_with_a_wrong_box_is_reported_on(box, coco_folder, change_json):
    change_json(lambda content: content["annotations"][0].update(bbox=box))
    register_coco_instances("things", {}, coco_folder / "ann.json", coco_folder)
    with pytest.raises(InputError, match=r"boxes are not four finite numbers.* annotation 1: bbox"):
        report_dataset("things").raise_if_fatal()


def test_a_file_of_wrong_types_is_named(coco_folder, change_json):
    change_json(lambda content: content["annotations"][0].update(image_id="10"))
    register_coco_instances("things", {}, coco_folder / "ann.json", coco_folder)
    with pytest.raises(InputError, match=r"not of the type .*ann.json: .*string"):
        report_dataset("things").raise_if_fatal()


def test_masks_are_needed_of_all_or_of_none(coco_folder, change_json, things):
    assert "mask_missing" not in codes(report_of(use_masks=None))  # none has any
    change_json(lambda content: content["annotations"][0].pop("segmentation"))
    report = report_dataset(things, use_masks=None)
    with pytest.raises(InputError, match=r"have no mask, .*annotation 1; annotate them"):
        report.raise_if_fatal()
