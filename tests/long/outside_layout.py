"""Files that projects outside detectron2's repository want, generated.

``write_pix3d(root)`` makes a Pix3D of generated solids under names of its classes.
``write_text(root)`` makes a Total-Text of the rectangles of ``coco_layout``, each with a word.
``write_results(root)`` makes predictions and a checkpoint for detectron2's tools.
"""

import json
import shutil
import zipfile
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


def write_text(root: Path) -> None:
    """Write both splits below ``root``, where COCO is, and the evaluation's own copy of words."""
    for split, name in {"train": "train", "val": "test"}.items():
        folder = root / "totaltext"
        shutil.copytree(root / "coco" / f"{split}2017", folder / f"{name}_images",
                        dirs_exist_ok=True)  # fmt: skip
        annotations = root / "coco" / "annotations" / f"instances_{split}2017.json"
        content = json.loads(annotations.read_text())
        content["categories"] = [{"id": 1, "name": "text"}]
        lines: dict[int, list[str]] = {}
        for row in content["annotations"]:
            x, y, w, h = row["bbox"]
            above = [(x + w * k / 3, y) for k in range(4)]
            below = [(x + w * k / 3, y + h) for k in (3, 2, 1, 0)]
            row["bezier_pts"] = [v for point in (*above, *below) for v in point]
            row["rec"] = [ord(letter) - 32 for letter in "retinue"] + [96] * 18
            row["category_id"] = 1
            corners = (x, y, x, y + h, x + w, y + h, x + w, y)  # clockwise where y points up
            line = ",".join(str(int(v)) for v in corners) + ",####retinue"
            lines.setdefault(row["image_id"], []).append(line)
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "weak_voc_new.txt").write_text("RETINUE\n")
    (folder / "weak_voc_pair_list.txt").write_text("RETINUE retinue\n")
    (root / "evaluation").mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "evaluation" / "gt_totaltext.zip", "w") as archive:
        for image, texts in lines.items():
            archive.writestr(f"{image:07d}.txt", "\n".join(texts) + "\n")


def write_results(root: Path) -> None:
    """Write the annotations of the validation set as predictions, and a network of one layer."""
    content = json.loads((root / "coco" / "annotations" / "instances_val2017.json").read_text())
    keys = ("image_id", "category_id", "bbox")
    rows = [{k: a[k] for k in keys} | {"score": 0.5} for a in content["annotations"]]
    (root / "coco" / "results.json").write_text(json.dumps(rows))
    names = ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.0.downsample.0.weight")
    torch.save({name: torch.zeros(1) for name in names}, root / "resnet.pth")
