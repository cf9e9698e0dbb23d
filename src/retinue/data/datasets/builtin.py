"""The datasets that are known by name, as folders and files below one root.

The catalogs call ``register_all_builtin`` when they are first looked at. The root is ``datasets``
in the working folder, or what the environment variable ``DETECTRON2_DATASETS`` says.
"""

import functools
import os

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES, _get_builtin_metadata
from retinue.data.datasets.cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from retinue.data.datasets.cityscapes_panoptic import register_all_cityscapes_panoptic
from retinue.data.datasets.coco import load_sem_seg, register_coco_instances
from retinue.data.datasets.coco_panoptic import (
    register_coco_panoptic,
    register_coco_panoptic_separated,
)
from retinue.data.datasets.lvis import get_lvis_instances_meta, register_lvis_instances
from retinue.data.datasets.pascal_voc import register_pascal_voc
from retinue.utils.env import datasets_root

_COCO_SPLITS = {  # name -> image folder, end of the annotation file's name
    "2014_train": ("train2014", "train2014"),
    "2014_val": ("val2014", "val2014"),
    "2014_minival": ("val2014", "minival2014"),
    "2014_valminusminival": ("val2014", "valminusminival2014"),
    "2017_train": ("train2017", "train2017"),
    "2017_val": ("val2017", "val2017"),
    "2017_test": ("test2017", "test2017"),
    "2017_test-dev": ("test2017", "test-dev2017"),
    "2017_val_100": ("val2017", "val2017_100"),
}


def _coco_file(split: str, kind: str) -> str:
    kind = "image_info" if "test" in split else kind
    return f"coco/annotations/{kind}_{_COCO_SPLITS[split][1]}.json"


# metadata -> dataset -> image folder, annotation file
_PREDEFINED_SPLITS_COCO = {
    "coco": {
        f"coco_{split}": (f"coco/{folder}", _coco_file(split, "instances"))
        for split, (folder, _) in _COCO_SPLITS.items()
    },
    "coco_person": {
        f"keypoints_coco_{split}": (f"coco/{folder}", _coco_file(split, "person_keypoints"))
        for split, (folder, _) in _COCO_SPLITS.items()
        if "test" not in split
    },
}

# dataset -> panoptic maps, their json, semantic maps made from them for Panoptic FPN
_PREDEFINED_SPLITS_COCO_PANOPTIC = {
    f"coco_2017_{split}_panoptic": (
        f"coco/panoptic_{end}",
        f"coco/annotations/panoptic_{end}.json",
        f"coco/panoptic_stuff_{end}",
    )
    for split, end in (("train", "train2017"), ("val", "val2017"), ("val_100", "val2017_100"))
}

_LVIS_SPLITS = {  # metadata -> splits
    "lvis_v1": ("train", "val", "test_dev", "test_challenge"),
    "lvis_v0.5": ("train", "val", "val_rand_100", "test"),
    "lvis_v0.5_cocofied": ("train_cocofied", "val_cocofied"),
}


def _lvis_names(kind: str, split: str) -> tuple[str, tuple[str, str]]:
    version = kind.removesuffix("_cocofied")
    image_info = "image_info_" if "test" in split else ""
    return f"{version}_{split}", ("coco/", f"lvis/{version}_{image_info}{split}.json")


# metadata -> dataset -> image folder, annotation file
_PREDEFINED_SPLITS_LVIS = {
    kind: dict(_lvis_names(kind, split) for split in splits)
    for kind, splits in _LVIS_SPLITS.items()
}

# dataset -> image folder, annotation folder
_RAW_CITYSCAPES_SPLITS = {
    f"cityscapes_fine_{{task}}_{split}": (
        f"cityscapes/leftImg8bit/{split}/",
        f"cityscapes/gtFine/{split}/",
    )
    for split in ("train", "val", "test")
}

_VOC_SPLITS = {2007: ("trainval", "train", "val", "test"), 2012: ("trainval", "train", "val")}


def register_all_builtin(root: str | None = None) -> None:
    """Register all of them, in this order, below ``root`` or the environment's."""
    root = datasets_root() if root is None else root
    register_all_coco(root)
    register_all_lvis(root)
    register_all_cityscapes(root)
    register_all_cityscapes_panoptic(root)
    register_all_pascal_voc(root)
    register_all_ade20k(root)


def register_all_coco(root: str) -> None:
    """Register COCO's instances, person keypoints and panoptic annotations."""
    for kind, splits in _PREDEFINED_SPLITS_COCO.items():
        for name, (images, annotations) in splits.items():
            register_coco_instances(
                name, _get_builtin_metadata(kind), _below(root, annotations), _below(root, images)
            )
    for name, (maps, annotations, semantic) in _PREDEFINED_SPLITS_COCO_PANOPTIC.items():
        instances = MetadataCatalog.get(name.removesuffix("_panoptic"))
        register_coco_panoptic_separated(
            name,
            _get_builtin_metadata("coco_panoptic_separated"),
            instances.image_root,
            _below(root, maps),
            _below(root, annotations),
            _below(root, semantic),
            instances.json_file,
        )
        register_coco_panoptic(
            name,
            _get_builtin_metadata("coco_panoptic_standard"),
            instances.image_root,
            _below(root, maps),
            _below(root, annotations),
            instances.json_file,
        )


def register_all_lvis(root: str) -> None:
    """Register LVIS v1, v0.5, and v0.5 with COCO's classes."""
    for kind, splits in _PREDEFINED_SPLITS_LVIS.items():
        for name, (images, annotations) in splits.items():
            register_lvis_instances(
                name,
                get_lvis_instances_meta(kind),
                _below(root, annotations),
                _below(root, images),
            )


def register_all_cityscapes(root: str) -> None:
    """Register Cityscapes' instances and semantic labels."""
    for template, (images, annotations) in _RAW_CITYSCAPES_SPLITS.items():
        folders = (_below(root, images), _below(root, annotations))
        meta = _get_builtin_metadata("cityscapes")
        meta |= dict(zip(("image_dir", "gt_dir"), folders, strict=True))
        name = template.format(task="instance_seg")
        DatasetCatalog.register(name, functools.partial(load_cityscapes_instances, *folders))
        MetadataCatalog.get(name).set(evaluator_type="cityscapes_instance", **meta)
        name = template.format(task="sem_seg")
        DatasetCatalog.register(name, functools.partial(load_cityscapes_semantic, *folders))
        MetadataCatalog.get(name).set(evaluator_type="cityscapes_sem_seg", ignore_label=255, **meta)


def register_all_pascal_voc(root: str) -> None:
    """Register Pascal VOC 2007 and 2012."""
    for year, splits in _VOC_SPLITS.items():
        for split in splits:
            name = f"voc_{year}_{split}"
            register_pascal_voc(name, _below(root, f"VOC{year}"), split, year)
            MetadataCatalog.get(name).evaluator_type = "pascal_voc"


def register_all_ade20k(root: str) -> None:
    """Register the semantic labels of ADE20K's scene parsing challenge of 2016."""
    root = os.path.join(root, "ADEChallengeData2016")
    for split, folder in (("train", "training"), ("val", "validation")):
        images = os.path.join(root, "images", folder)
        labels = os.path.join(root, "annotations_detectron2", folder)
        name = f"ade20k_sem_seg_{split}"
        DatasetCatalog.register(name, functools.partial(load_sem_seg, labels, images))
        MetadataCatalog.get(name).set(
            stuff_classes=ADE20K_SEM_SEG_CATEGORIES[:],
            image_root=images,
            sem_seg_root=labels,
            evaluator_type="sem_seg",
            ignore_label=255,
        )


def _below(root: str, path: str) -> str:
    return path if "://" in path else os.path.join(root, path)
