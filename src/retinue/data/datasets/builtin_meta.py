"""Class names, colours and keypoints of the built-in datasets.

Models trained on these datasets need them for drawing and for reading detections, also where the
datasets themselves are not there.
"""

from collections.abc import Callable
from typing import Any

from retinue.data.datasets.category_tables import read_table
from retinue.utils.errors import unknown_name

# https://github.com/cocodataset/panopticapi, panoptic_coco_categories.json
COCO_CATEGORIES = read_table("coco")

# https://github.com/mcordts/cityscapesScripts, the labels that are evaluated
CITYSCAPES_CATEGORIES = [{**row, "color": tuple(row["color"])} for row in read_table("cityscapes")]

# The label of a pixel is the position here; 255 is to be ignored.
ADE20K_SEM_SEG_CATEGORIES = [row["name"] for row in read_table("ade20k")]

_SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")

COCO_PERSON_KEYPOINT_NAMES = (
    "nose",
    *(f"{side}_{part}" for part in _SIDED for side in ("left", "right")),
)

COCO_PERSON_KEYPOINT_FLIP_MAP = tuple((f"left_{part}", f"right_{part}") for part in _SIDED)

# Two ends, and red, green, blue of the line between them.
_LINES = """
left_ear left_eye 102 204 255, right_ear right_eye 51 153 255, left_eye nose 102 0 204,
nose right_eye 51 102 255, left_shoulder right_shoulder 255 128 0,
left_shoulder left_elbow 153 255 204, right_shoulder right_elbow 128 229 255,
left_elbow left_wrist 153 255 153, right_elbow right_wrist 102 255 224,
left_hip right_hip 255 102 0, left_hip left_knee 255 255 77, right_hip right_knee 153 255 204,
left_knee left_ankle 191 255 128, right_knee right_ankle 255 195 77
"""

KEYPOINT_CONNECTION_RULES = [
    (start, end, (int(red), int(green), int(blue)))
    for start, end, red, green, blue in map(str.split, _LINES.split(","))
]


def _get_coco_instances_meta() -> dict[str, Any]:
    things = [row for row in COCO_CATEGORIES if row["isthing"]]
    return {
        "thing_dataset_id_to_contiguous_id": {row["id"]: i for i, row in enumerate(things)},
        "thing_classes": [row["name"] for row in things],
        "thing_colors": [row["color"] for row in things],
    }


def _get_coco_panoptic_separated_meta() -> dict[str, Any]:
    """Things as in the instance task; stuff labels from 1, with all things as label 0."""
    stuff = [row for row in COCO_CATEGORIES if not row["isthing"]]
    names = [row["name"].replace("-other", "").replace("-merged", "") for row in stuff]
    contiguous = {row["id"]: i for i, row in enumerate(stuff, start=1)}
    return {
        "stuff_dataset_id_to_contiguous_id": {**contiguous, 0: 0},
        "stuff_classes": ["things", *names],
        "stuff_colors": [[82, 18, 128], *(row["color"] for row in stuff)],
        **_get_coco_instances_meta(),
    }


def _get_coco_panoptic_standard_meta() -> dict[str, Any]:
    """Things and stuff share one range of labels, so both lists name all of them."""
    names = [row["name"] for row in COCO_CATEGORIES]
    colors = [row["color"] for row in COCO_CATEGORIES]
    ids: dict[int, dict[int, int]] = {0: {}, 1: {}}
    for label, row in enumerate(COCO_CATEGORIES):
        ids[row["isthing"]][row["id"]] = label
    meta: dict[str, Any] = {}
    for kind, is_thing in (("thing", 1), ("stuff", 0)):
        meta[f"{kind}_classes"], meta[f"{kind}_colors"] = names, colors
        meta[f"{kind}_dataset_id_to_contiguous_id"] = ids[is_thing]
    return meta


def _get_coco_person_meta() -> dict[str, Any]:
    return {
        "keypoint_connection_rules": KEYPOINT_CONNECTION_RULES,
        "keypoint_flip_map": COCO_PERSON_KEYPOINT_FLIP_MAP,
        "keypoint_names": COCO_PERSON_KEYPOINT_NAMES,
        "thing_classes": ["person"],
    }


def _get_cityscapes_meta() -> dict[str, Any]:
    return {
        "thing_classes": [row["name"] for row in CITYSCAPES_CATEGORIES if row["isthing"]],
        "stuff_classes": [row["name"] for row in CITYSCAPES_CATEGORIES],
    }


_BUILDERS: dict[str, Callable[[], dict[str, Any]]] = {
    "coco": _get_coco_instances_meta,
    "coco_panoptic_separated": _get_coco_panoptic_separated_meta,
    "coco_panoptic_standard": _get_coco_panoptic_standard_meta,
    "coco_person": _get_coco_person_meta,
    "cityscapes": _get_cityscapes_meta,
}


def _get_builtin_metadata(dataset_name: str) -> dict[str, Any]:
    """Return fresh metadata of ``"coco"``, ``"coco_person"``, ``"cityscapes"``, ...

    Raises:
        UnknownNameError: (a ``KeyError``) For any other name.
    """
    if dataset_name not in _BUILDERS:
        raise unknown_name("built-in metadata", dataset_name, _BUILDERS)
    return _BUILDERS[dataset_name]()
