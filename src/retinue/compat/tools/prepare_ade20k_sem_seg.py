"""``retinue run prepare_ade20k_sem_seg``: ADE20K's labels with 255 for what is ignored.

In ``annotations`` of ``$DETECTRON2_DATASETS/ADEChallengeData2016`` label 0 is to be ignored; in
``annotations_detectron2``, which this writes, it is 255 and all others are one less.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image

from retinue.compat.tools.pictures import save_picture
from retinue.utils.errors import InputError

__all__ = ["datasets_folder", "main"]


def datasets_folder(name: str) -> Path:
    """Return the folder of a dataset.

    Raises:
        InputError: If it is not there.
    """
    folder = Path(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))) / name
    if not folder.is_dir():
        raise InputError(
            f"expected the dataset in {str(folder)!r}, which is not there; DETECTRON2_DATASETS"
            " names the folder of all datasets"
        )
    return folder


def main() -> None:
    """Run the command line."""
    argparse.ArgumentParser(
        description="Shift ADE20K's labels, in $DETECTRON2_DATASETS/ADEChallengeData2016."
    ).parse_args()
    root = datasets_folder("ADEChallengeData2016")
    for split in ("training", "validation"):
        for file in sorted((root / "annotations" / split).iterdir()):
            labels = np.asarray(Image.open(file))
            if labels.dtype != np.uint8:
                raise InputError(f"{file}: expected labels of 8 bits; got {labels.dtype}")
            target = root / "annotations_detectron2" / split / file.name
            save_picture(str(target), labels - np.uint8(1))  # 0 wraps around to 255
