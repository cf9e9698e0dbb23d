"""Files that projects outside detectron2's repository want, generated.

``write_pix3d(root)`` makes a Pix3D of generated solids under names of its classes.
``write_results(root)`` makes predictions and a checkpoint for detectron2's tools.
"""

import json
from pathlib import Path

import numpy as np
import torch
from scipy.io import savemat

from retinue.projects.meshrcnn.data.datasets.solids import write_solids

CLASSES = ("bed", "bookcase", "chair", "desk", "misc", "sofa", "table", "tool", "wardrobe")


def write_pix3d(root: Path) -> None:
    """Write both splits below ``root``, unless they are there."""
    folder = root / "pix3d"
    for seed, (split, count) in enumerate({"train": 4, "test": len(CLASSES)}.items()):
        target = folder / f"pix3d_s1_{split}.json"
        if target.exists():
            continue
        json_file, _ = write_solids(folder / split, count, seed=seed, side=128)
        content = json.loads((folder / split / json_file).read_text())
        content["categories"] = [{"id": i, "name": n} for i, n in enumerate(CLASSES, start=1)]
        for row in content["images"]:
            row["file_name"] = f"{split}/{row['file_name']}"
        for number, row in enumerate(content["annotations"]):
            row["category_id"] = number % len(CLASSES) + 1
            voxel = folder / split / row["voxel"]
            row["voxel"] = row["voxel"].replace(".npy", ".mat")
            savemat(voxel.with_suffix(".mat"), {"voxel": np.load(voxel)})
            for key in ("segmentation", "voxel", "model"):
                row[key] = f"{split}/{row[key]}"
        target.write_text(json.dumps(content))


def write_results(root: Path) -> None:
    """Write the annotations of the validation set as predictions, and a network of one layer."""
    content = json.loads((root / "coco" / "annotations" / "instances_val2017.json").read_text())
    keys = ("image_id", "category_id", "bbox")
    rows = [{k: a[k] for k in keys} | {"score": 0.5} for a in content["annotations"]]
    (root / "coco" / "results.json").write_text(json.dumps(rows))
    names = ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.0.downsample.0.weight")
    torch.save({name: torch.zeros(1) for name in names}, root / "resnet.pth")
