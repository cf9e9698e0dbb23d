"""``retinue run prepare_panoptic_fpn``: semantic labels for Panoptic FPN from COCO's panoptic maps.

All things become label 0, stuff categories 1 and up in the order of the category list, pixels
without a label 255.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retinue.compat.tools.pictures import save_picture
from retinue.compat.tools.prepare_ade20k_sem_seg import datasets_folder
from retinue.data.datasets.builtin_meta import COCO_CATEGORIES
from retinue.utils.download import download

__all__ = ["main", "semantic_labels", "separate_coco_semantic_from_panoptic"]

_SAMPLE = "https://dl.fbaipublicfiles.com/detectron2/annotations/coco/panoptic_val2017_100.json"


def semantic_labels(
    panoptic_rgb: np.ndarray, segments: Sequence[Mapping[str, Any]], labels: Mapping[int, int]
) -> np.ndarray:
    """Return the label of each pixel.

    Args:
        panoptic_rgb: ``(H, W, 3)`` uint8; a segment's id is R + 256 G + 65536 B.
        segments: with ``id`` and ``category_id``.
        labels: category id -> label.
    """
    ids = panoptic_rgb.astype(np.uint32) @ np.array([1, 256, 65536], dtype=np.uint32)
    result = np.full(ids.shape, 255, dtype=np.uint8)
    for segment in segments:
        result[ids == segment["id"]] = labels[segment["category_id"]]
    return result


def separate_coco_semantic_from_panoptic(
    panoptic_json: str | os.PathLike[str],
    panoptic_root: str | os.PathLike[str],
    sem_seg_root: str | os.PathLike[str],
    categories: Sequence[Mapping[str, Any]],
) -> None:
    """Write the semantic label maps of a split.

    Args:
        panoptic_json: annotations in COCO's panoptic format.
        panoptic_root: folder of their maps.
        sem_seg_root: folder for the label maps.
        categories: with ``id`` and ``isthing``.
    """
    stuff = [c["id"] for c in categories if not c["isthing"]]
    labels = {c["id"]: 0 for c in categories if c["isthing"]}
    labels |= {category: label for label, category in enumerate(stuff, start=1)}
    labels[0] = 255
    content = json.loads(Path(panoptic_json).read_text(encoding="utf-8"))

    def convert(annotation: Mapping[str, Any]) -> None:
        name = annotation["file_name"]
        rgb = np.asarray(Image.open(os.path.join(panoptic_root, name)).convert("RGB"))
        result = semantic_labels(rgb, annotation["segments_info"], labels)
        save_picture(os.path.join(sem_seg_root, name), result)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(convert, content["annotations"]))
    print(f"{len(content['annotations'])} maps -> {sem_seg_root}")


def _link_sample(names: Sequence[str], source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        link = target / name
        if not link.exists():
            link.symlink_to(os.path.relpath(source / name, target))


def main() -> None:
    """Run the command line."""
    argparse.ArgumentParser(
        description="Make label maps for Panoptic FPN, in $DETECTRON2_DATASETS/coco."
    ).parse_args()
    root = datasets_folder("coco")
    for split in ("val2017", "train2017"):
        separate_coco_semantic_from_panoptic(
            root / "annotations" / f"panoptic_{split}.json",
            root / f"panoptic_{split}",
            root / f"panoptic_stuff_{split}",
            COCO_CATEGORIES,
        )
    sample = root / "annotations" / "panoptic_val2017_100.json"
    download(_SAMPLE, sample)
    images = json.loads(sample.read_text(encoding="utf-8"))["images"]
    names = [Path(image["file_name"]).stem + ".png" for image in images]
    for kind in ("panoptic", "panoptic_stuff"):
        _link_sample(names, root / f"{kind}_val2017", root / f"{kind}_val2017_100")
