"""A tiny Cityscapes, generated: streets of ``128 x 256`` with a car and a person in each.

``write_cityscapes(root)`` fills ``root/cityscapes`` with pictures, polygons, maps of labels and
instances, and the panoptic maps that Cityscapes' own tools make of them.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from retinue.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

CATEGORIES = [{key: c[key] for key in ("id", "name", "isthing")} for c in CITYSCAPES_CATEGORIES]
HEIGHT, WIDTH = 128, 256
SPLITS = {"train": ("aachen", 4), "val": ("frankfurt", 2)}
LABELS = {"road": (7, 0), "person": (24, 11), "car": (26, 13)}  # name -> id, id in training


def _street(rng):
    """Return RGB pixels and what is in them: label and box ``(x0, y0, x1, y1)``."""
    objects = [("road", (0, 0, WIDTH, HEIGHT))]
    for label, left in (("car", 8), ("person", 140)):
        x, y = left + int(rng.integers(0, 30)), int(rng.integers(8, 40))
        width, height = (int(v) for v in rng.integers(50, 80, 2))
        objects.append((label, (x, y, x + width, y + height)))
    pixels = rng.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for _, (x0, y0, x1, y1) in objects[1:]:
        pixels[y0:y1, x0:x1] = rng.integers(150, 255, 3)
    return pixels, objects


def _maps(objects):
    """Return for each pixel its label's id, its id in training, its instance's and segment's id."""
    ids, train_ids, instances = (np.empty((HEIGHT, WIDTH), dtype=np.int32) for _ in range(3))
    segments = []
    for label, (x0, y0, x1, y1) in objects:
        box = np.s_[y0:y1, x0:x1]
        ids[box], train_ids[box] = LABELS[label]
        instances[box] = LABELS[label][0] * (1 if label == "road" else 1000)
    for number in np.unique(instances).tolist():
        rows, columns = np.nonzero(instances == number)
        low_x, low_y = int(columns.min()), int(rows.min())
        bbox = [low_x, low_y, int(columns.max()) - low_x + 1, int(rows.max()) - low_y + 1]
        category = number if number < 1000 else number // 1000
        segments.append({"id": number, "category_id": category, "area": len(rows), "bbox": bbox,
                         "iscrowd": 0})  # fmt: skip
    return ids, train_ids, instances, segments


def _polygons(objects):
    corners = [
        {"label": label, "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}
        for label, (x0, y0, x1, y1) in objects
    ]
    return {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": corners}


def _save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_cityscapes(root: Path) -> None:
    """Write both splits below ``root``, unless they are there."""
    folder = root / "cityscapes"
    if (folder / "done").exists():
        return
    rng = np.random.default_rng(0)
    for split, (city, count) in SPLITS.items():
        images, annotations = [], []
        for index in range(count):
            name = f"{city}_{index:06d}_000019"
            pixels, objects = _street(rng)
            ids, train_ids, instances, segments = _maps(objects)
            _save(pixels, folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
            truth = folder / "gtFine" / split / city
            _save(ids.astype(np.uint8), truth / f"{name}_gtFine_labelIds.png")
            _save(train_ids.astype(np.uint8), truth / f"{name}_gtFine_labelTrainIds.png")
            _save(instances.astype(np.uint16), truth / f"{name}_gtFine_instanceIds.png")
            text = json.dumps(_polygons(objects))
            (truth / f"{name}_gtFine_polygons.json").write_text(text)
            panoptic = f"{name}_gtFine_panoptic.png"
            colors = np.stack([instances >> shift & 255 for shift in (0, 8, 16)], axis=-1)
            maps = folder / "gtFine" / f"cityscapes_panoptic_{split}"
            _save(colors.astype(np.uint8), maps / panoptic)
            images.append({"id": name, "file_name": f"{name}_gtFine_leftImg8bit.png",
                           "height": HEIGHT, "width": WIDTH})  # fmt: skip
            annotations.append({"image_id": name, "file_name": panoptic, "segments_info": segments})
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (folder / "gtFine" / f"cityscapes_panoptic_{split}.json").write_text(json.dumps(content))
    (folder / "done").touch()
