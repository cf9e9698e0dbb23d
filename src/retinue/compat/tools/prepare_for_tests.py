"""``retinue run prepare_for_tests``: 100 images of COCO's validation set and their annotations."""

from __future__ import annotations

import argparse
import os
import tarfile
from pathlib import Path

from retinue.utils.download import download

__all__ = ["main"]

_ADDRESS = "https://dl.fbaipublicfiles.com/detectron2/annotations/coco/"
_ANNOTATIONS = ("instances_val2017_100.json", "person_keypoints_val2017_100.json")


def main() -> None:
    """Run the command line."""
    argparse.ArgumentParser(
        description="Download 100 images of COCO, in $DETECTRON2_DATASETS/coco."
    ).parse_args()
    root = Path(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "."))) / "coco"
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for name in _ANNOTATIONS:
        download(_ADDRESS + name, root / "annotations" / name)
    if (root / "val2017").exists():
        print(f"{root / 'val2017'} is there")
        return
    archive = root / "val2017_100.tgz"
    download(_ADDRESS + archive.name, archive)
    with tarfile.open(archive) as file:
        file.extractall(root, filter="data")  # nothing outside the folder
    archive.unlink()
