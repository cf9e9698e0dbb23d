"""COCO's annotation files: reading them, writing them, giving them a name.

A COCO file is a JSON object with ``images``, ``annotations`` and ``categories``; the format is at
https://cocodataset.org/#format-data. Reading makes one dict an image, in the standard dataset
format, and numbers the classes from 0 in the order of their category ids.

Reading order: load_coco_json, convert_coco, register_coco_instances; load_sem_seg;
convert_to_coco_json.
"""

from __future__ import annotations

import datetime
import functools
import json
import logging
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.coco_file import read_annotation_file
from retinue.structures import Boxes, BoxMode, PolygonMasks, RotatedBoxes
from retinue.utils.errors import InputError, UnknownNameError
from retinue.utils.file_io import PathManager, atomic_write, file_lock

__all__ = [
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco_instances",
]

logger = logging.getLogger(__name__)

_ANNOTATION_KEYS = ("id", "iscrowd", "bbox", "keypoints", "category_id")


def load_coco_json(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Read a COCO file of boxes, masks or keypoints. No image is opened.

    Args:
        json_file: the file.
        image_root: the folder that the images' ``file_name`` are in.
        dataset_name: if given, category ids become class numbers 0, 1, 2, ..., and the metadata
            of that name gets ``thing_classes`` and ``thing_dataset_id_to_contiguous_id``. If None,
            ``category_id`` stays as it is in the file.
        extra_annotation_keys: further keys of an annotation to keep, as they are.

    Returns:
        A dict an image, sorted by id. Boxes are ``XYWH_ABS``; uncompressed RLE is compressed;
        keypoints, which COCO counts in whole pixels, are moved by 0.5 to the pixels' centres;
        polygons of fewer than 3 points are dropped, and instances that have no other.

    Raises:
        InputError: (an ``AssertionError`` and ``ValueError``) If the file is not in the format, ids
            occur twice, an annotation is marked ``ignore`` or has an empty box.
        UnknownNameError: (a ``KeyError``) If an annotation's category is not in the file.
    """
    content = read_annotation_file(json_file)
    return convert_coco(content, json_file, image_root, dataset_name, extra_annotation_keys)


def convert_coco(
    content: Mapping[str, Any],
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Do what ``load_coco_json`` does with the content of a file that was read already.

    Args:
        content: of the file; stays as it is.
        json_file: its path, for messages.
        image_root: see ``load_coco_json``, for the rest, too.
        dataset_name: see there.
        extra_annotation_keys: see there.
    """
    id_map = None
    if dataset_name is not None:
        id_map = _number_classes(content.get("categories", []), dataset_name, json_file)
    images = _images_by_id(content["images"], json_file)
    annotations = _annotations_by_image(content.get("annotations", []), images, json_file)
    logger.info("Loaded %d images in COCO format from %s", len(images), json_file)

    keys = [*_ANNOTATION_KEYS, *(extra_annotation_keys or ())]
    records, without_mask = [], []
    for image_id, image in images.items():
        where = f"{json_file}: image {image_id} ({image['file_name']})"
        instances = []
        for anno in annotations[image_id]:
            instance = _convert_annotation(anno, keys, id_map, where)
            if instance is None:
                without_mask.append(anno["id"])
            else:
                instances.append(instance)
        records.append(
            {
                "file_name": os.path.join(image_root, image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image_id,
                "annotations": instances,
            }
        )
    if without_mask:
        logger.warning(
            "%s: instances dropped: %d, whose polygons all have fewer than 3 points"
            " (annotation ids %s); check how the masks were made",
            json_file,
            len(without_mask),
            _some(without_mask),
        )
    return records


def _number_classes(
    categories: Sequence[dict[str, Any]], dataset_name: str, json_file: Any
) -> dict[int, int]:
    """Number the categories by their ids, write that into the metadata, and say it if it changes.

    Returns:
        category id -> class number.
    """
    if not categories:
        raise InputError(
            f"{json_file}: has no 'categories', so its classes are unknown; add a list of objects"
            " with an id and a name (or, in Python, load it with dataset_name=None)"
        )
    for number, category in enumerate(categories):
        if not {"id", "name"} <= category.keys():
            raise InputError(
                f"{json_file}: category number {number} needs an id and a name; got {category}"
            )
    categories = sorted(categories, key=lambda category: category["id"])
    ids = [category["id"] for category in categories]
    twice = [value for value, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(f"{json_file}: category ids {_some(twice)} occur more than once")
    id_map = {category_id: number for number, category_id in enumerate(ids)}
    # COCO's own ids have gaps, which everybody knows; for other data they may be a mistake.
    if ids != list(range(1, len(ids) + 1)) and "coco" not in dataset_name:
        logger.warning(
            "%s: category ids are not 1 to %d; classes are numbered in their order: %s",
            json_file,
            len(ids),
            _some([f"{c['id']} -> {id_map[c['id']]} ({c['name']})" for c in categories]),
        )
    meta = MetadataCatalog.get(dataset_name)
    meta.thing_classes = [category["name"] for category in categories]
    meta.thing_dataset_id_to_contiguous_id = id_map
    return id_map


def _images_by_id(images: Sequence[dict[str, Any]], json_file: Any) -> dict[Any, dict[str, Any]]:
    for number, image in enumerate(images):
        missing = [key for key in ("id", "file_name", "height", "width") if key not in image]
        if missing:
            raise InputError(
                f"{json_file}: image number {number} has no {', '.join(missing)}; got {image}"
            )
        if not isinstance(image["file_name"], str):
            raise InputError(
                f"{json_file}: image number {number}: file_name must be text; got {image}"
            )
    by_id = {image["id"]: image for image in sorted(images, key=lambda image: image["id"])}
    if len(by_id) < len(images):
        twice = [i for i, n in Counter(image["id"] for image in images).items() if n > 1]
        raise InputError(
            f"{json_file}: image ids must be unique; {_some(twice)} occur more than once; take out"
            " the repeated entries, or number them anew"
        )
    return by_id


def _annotations_by_image(
    annotations: Sequence[dict[str, Any]], images: Mapping[Any, Any], json_file: Any
) -> dict[Any, list[dict[str, Any]]]:
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    astray = []
    for number, anno in enumerate(annotations):
        if "id" not in anno or "image_id" not in anno:
            raise InputError(
                f"{json_file}: annotation number {number} needs an id and an image_id;"
                f" it has {sorted(anno)}"
            )
        if anno["image_id"] in images:
            by_image[anno["image_id"]].append(anno)
        else:
            astray.append(anno["id"])
    if astray:
        logger.warning(
            "%s: %d of %d annotations belong to no image in the file (ids %s); left out",
            json_file,
            len(astray),
            len(annotations),
            _some(astray),
        )
    # COCO's own minival files of 2014 repeat a few ids; everybody uses them as they are.
    if "minival" not in os.fspath(json_file):
        counts = Counter(anno["id"] for annos in by_image.values() for anno in annos)
        twice = [value for value, count in counts.items() if count > 1]
        if twice:
            raise InputError(
                f"{json_file}: annotation ids must be unique; {len(twice)} occur more than once:"
                f" {_some(twice)}; number them anew"
            )
    return by_image


def _convert_annotation(
    anno: dict[str, Any], keys: Sequence[str], id_map: dict[int, int] | None, where: str
) -> dict[str, Any] | None:
    """Convert one annotation; None if its mask has no polygon of 3 points."""
    where = f"{where}, annotation {anno['id']}"
    if anno.get("ignore", 0):
        raise InputError(f"{where}: 'ignore' is not supported; use 'iscrowd' or leave it out")
    instance = {key: anno[key] for key in keys if key in anno}
    if not anno.get("bbox", True):
        raise InputError(f"{where}: has an empty bbox; it is [x, y, width, height] in pixels")
    segmentation = anno.get("segmentation")
    if segmentation:
        segmentation = _convert_segmentation(segmentation, where)
        if not segmentation:
            return None
        instance["segmentation"] = segmentation
    if anno.get("keypoints"):
        instance["keypoints"] = [
            value if i % 3 == 2 else value + 0.5 for i, value in enumerate(anno["keypoints"])
        ]
    instance["bbox_mode"] = BoxMode.XYWH_ABS
    if id_map is not None:
        category = anno.get("category_id")
        if category not in id_map:
            raise UnknownNameError(
                f"{where}: category_id {category} is not among the file's categories"
                f" ({_some(list(id_map))}); add the category or correct the annotation"
            )
        instance["category_id"] = id_map[category]
    return instance


def _convert_segmentation(segmentation: Any, where: str) -> Any:
    if isinstance(segmentation, list):
        return [poly for poly in segmentation if len(poly) % 2 == 0 and len(poly) >= 6]
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise InputError(
            f"{where}: a segmentation is a list of polygons or an RLE with size and counts;"
            f" got {type(segmentation).__name__}"
        )
    if not isinstance(segmentation["counts"], list):
        return segmentation
    from hotcoco import mask as runs

    height, width = segmentation["size"]
    if sum(segmentation["counts"]) != height * width:
        raise InputError(
            f"{where}: the counts of its RLE add up to {sum(segmentation['counts'])}; its size"
            f" [height, width] {segmentation['size']} has {height * width} pixels"
        )
    return runs.frPyObjects(segmentation, height, width)


def _some(values: Sequence[Any], most: int = 10) -> str:
    more = f", ... ({len(values)} in all)" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more


def load_sem_seg(
    gt_root: str, image_root: str, gt_ext: str = "png", image_ext: str = "jpg"
) -> list[dict[str, Any]]:
    """List the images of a folder with the label maps of another. None is opened.

    A label map belongs to the image of the same name, up to the ending. Where the folders hold
    different numbers of files, those with both are used; where equally many but of other names,
    they are paired in order.

    Args:
        gt_root: folder of the label maps.
        image_root: folder of the images.
        gt_ext: ending of the label maps.
        image_ext: ending of the images.

    Returns:
        Dicts with ``file_name`` and ``sem_seg_file_name``.

    Raises:
        InputError: (an ``AssertionError``) If there is no label map.
    """
    images = _files_by_stem(image_root, image_ext)
    maps = _files_by_stem(gt_root, gt_ext)
    if not maps:
        raise InputError(f"load_sem_seg: no file in {gt_root} ends with {gt_ext!r}")
    pairs = list(zip(sorted(images), sorted(maps), strict=False))
    if len(images) != len(maps):
        both = sorted(images.keys() & maps.keys())
        logger.warning(
            "%s has %d images and %s %d label maps; using the %d of the same name",
            image_root,
            len(images),
            gt_root,
            len(maps),
            len(both),
        )
        pairs = [(stem, stem) for stem in both]
    elif images.keys() != maps.keys():
        logger.warning("Images and label maps have other names, paired in order: %s", pairs[0])
    logger.info("Loaded %d images with semantic segmentation from %s", len(pairs), image_root)
    return [
        {"file_name": images[image], "sem_seg_file_name": maps[label_map]}
        for image, label_map in pairs
    ]


def _files_by_stem(root: str, ext: str) -> dict[str, str]:
    names = [name for name in PathManager.ls(root) if name.endswith(ext)]
    return {os.path.splitext(name)[0]: os.path.join(root, name) for name in names}


def convert_to_coco_dict(dataset_name: str) -> dict[str, Any]:
    """Convert a registered dataset to the content of a COCO file.

    Args:
        dataset_name: registered, in the standard format, with ``thing_classes`` in its metadata.

    Returns:
        A dict for ``json.dump``. Categories have the dataset's own ids where the metadata knows
        them; annotations are numbered from 1.

    Raises:
        ValueError: If a box has not 4 numbers, or 5 if rotated.
        TypeError: If a segmentation is neither polygons nor RLE.
    """
    meta = MetadataCatalog.get(dataset_name)
    contiguous = meta.get("thing_dataset_id_to_contiguous_id")
    own_id = {number: own for own, number in contiguous.items()} if contiguous else {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(DatasetCatalog.get(dataset_name)):
        image_id = record.get("image_id", number)
        images.append(
            {
                "id": image_id,
                "width": int(record["width"]),
                "height": int(record["height"]),
                "file_name": str(record["file_name"]),
            }
        )
        for anno in record.get("annotations", []):
            converted = _to_coco_annotation(anno)
            number = anno["category_id"]
            converted["category_id"] = int(own_id.get(number, number))
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **converted})
    logger.info("Converted %d images and %d annotations", len(images), len(annotations))
    content: dict[str, Any] = {
        "info": {
            "date_created": str(datetime.datetime.now()),
            "description": f"Dataset {dataset_name}, written by retinue",
        },
        "images": images,
        "categories": [
            {"id": own_id.get(number, number), "name": name}
            for number, name in enumerate(meta.thing_classes)
        ],
        "licenses": None,
    }
    if annotations:
        content["annotations"] = annotations
    return content


def _to_coco_annotation(anno: dict[str, Any]) -> dict[str, Any]:
    box = np.asarray(anno["bbox"], dtype=np.float64)
    if box.shape not in ((4,), (5,)):
        raise InputError(f"a bbox has 4 numbers, or 5 if rotated; got shape {box.shape}")
    mode = BoxMode.XYWH_ABS if len(box) == 4 else BoxMode.XYWHA_ABS
    xywh = BoxMode.convert(box.tolist(), anno["bbox_mode"], mode)
    converted = {
        "bbox": [round(float(value), 3) for value in xywh],
        "area": _area(anno, xywh),
        "iscrowd": int(anno.get("iscrowd", 0)),
    }
    if "keypoints" in anno:
        points = np.asarray(anno["keypoints"]).reshape(-1).tolist()
        converted["keypoints"] = [v if i % 3 == 2 else v - 0.5 for i, v in enumerate(points)]
        visible = sum(visibility > 0 for visibility in points[2::3])
        converted["num_keypoints"] = anno.get("num_keypoints", visible)
    if "segmentation" in anno:
        segmentation = anno["segmentation"]
        if isinstance(segmentation, dict):
            counts = segmentation["counts"]
            counts = counts.decode("ascii") if isinstance(counts, bytes) else counts
            segmentation = {**segmentation, "counts": counts}
        else:
            segmentation = [np.asarray(polygon).reshape(-1).tolist() for polygon in segmentation]
        converted["segmentation"] = segmentation
    return converted


def _area(anno: dict[str, Any], xywh: list[float]) -> float:
    """Area in pixels, of the mask if there is one, else of the box."""
    segmentation = anno.get("segmentation")
    if segmentation is None:
        if len(xywh) == 5:
            return RotatedBoxes([xywh]).area().item()
        return Boxes([BoxMode.convert(xywh, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)]).area().item()
    if isinstance(segmentation, list):
        return PolygonMasks([segmentation]).area().item()
    if not isinstance(segmentation, dict):
        raise TypeError(
            f"a segmentation is a list of polygons or an RLE; got {type(segmentation).__name__}"
        )
    from hotcoco import mask as runs

    return float(runs.area(segmentation))


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Write a registered dataset as a COCO file.

    Args:
        dataset_name: see ``convert_to_coco_dict``.
        output_file: where to.
        allow_cached: keep a file that is there already, even if the dataset has changed.
    """
    folder = os.path.dirname(output_file)
    if folder:
        PathManager.mkdirs(folder)
    with file_lock(output_file):
        if allow_cached and PathManager.exists(output_file):
            logger.warning(
                "Using the annotations of %r as converted earlier, in %s; delete that file if the"
                " dataset has changed",
                dataset_name,
                output_file,
            )
            return
        logger.info("Converting dataset %r to COCO format in %s", dataset_name, output_file)
        content = convert_to_coco_dict(dataset_name)
        with atomic_write(output_file, "w") as file:
            json.dump(content, file)


def register_coco_instances(
    name: str,
    metadata: Mapping[str, Any],
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
) -> None:
    """Give a COCO file of boxes, masks or keypoints a name for ``DATASETS.TRAIN`` and ``TEST``.

    Args:
        name: of the dataset.
        metadata: further metadata; may be empty.
        json_file: the annotation file.
        image_root: folder of its images.

    Raises:
        InputError: (an ``AssertionError``) If an argument is of the wrong type.
    """
    if not isinstance(name, str):
        raise InputError(f"register_coco_instances: name must be a str; got {name!r}")
    for argument, path in (("json_file", json_file), ("image_root", image_root)):
        if not isinstance(path, (str, os.PathLike)):
            raise InputError(f"register_coco_instances: {argument} must be a path; got {path!r}")
    if name not in DatasetCatalog:
        load = functools.partial(load_coco_json, json_file, image_root, name)
        DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata
    )


def main() -> None:
    """Draw a COCO file's annotations: ``coco.py JSON_FILE IMAGE_ROOT DATASET_NAME``."""
    from retinue.data.datasets.preview import draw_dataset

    json_file, image_root, name = sys.argv[1:4]
    dicts = load_coco_json(json_file, image_root, name)
    draw_dataset(dicts, MetadataCatalog.get(name), "coco-data-vis")


if __name__ == "__main__":
    main()
