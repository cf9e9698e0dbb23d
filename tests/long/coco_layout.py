"""A tiny COCO, LVIS and ADE20K, generated, in the folders where scripts for detectron2 look.

``write_datasets(folder)`` fills what ``DETECTRON2_DATASETS`` names: pictures of ``128 x 160`` with
bright rectangles and their boxes, masks, keypoints, panoptic and semantic labels.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from retinue.data.datasets.builtin_meta import COCO_CATEGORIES

HEIGHT, WIDTH = 128, 160
SPLITS = {"train": 6, "val": 2}
_THINGS = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES if c["isthing"]]
_STUFF_ID, _STUFF_LABEL = 125, 22  # of the ground: any stuff category


def _picture(rng):
    """Return RGB pixels and the rectangles ``(x, y, width, height)`` in it."""
    pixels = rng.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    boxes = []
    for left in (8, 84):
        x, y = left + int(rng.integers(0, 16)), int(rng.integers(4, 40))
        width, height = (int(v) for v in rng.integers(40, 60, 2))
        pixels[y : y + height, x : x + width] = rng.integers(150, 255, 3)
        boxes.append((x, y, width, height))
    return pixels, boxes


def _annotation(number, image, box, category):
    x, y, w, h = box
    points = [[x + w * i // 18, y + h * i // 18, 2] for i in range(1, 18)]
    rng = np.random.default_rng(number)
    sampled = np.stack([rng.uniform(x, x + w, 10), rng.uniform(y, y + h, 10)], axis=1)
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(map(float, box)),
        "area": float(w * h),
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        "keypoints": [v for p in points for v in p],
        "num_keypoints": 17,
        "point_coords": sampled.round(2).tolist(),
        "point_labels": [1] * 10,
    }


def _save(pixels, *path):
    target = Path(*path)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(target)


def _dump(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _lvis(images, annotations):
    from retinue.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

    categories = [
        {**c, "image_count": 10, "instance_count": 10, "frequency": c.get("frequency", "f")}
        for c in LVIS_CATEGORIES
    ]
    rows = [
        {**i, "coco_url": f"http://images.cocodataset.org/{i['folder']}/{i['file_name']}",
         "neg_category_ids": [5], "not_exhaustive_category_ids": []}
        for i in images
    ]  # fmt: skip
    return {"images": rows, "annotations": annotations, "categories": categories}


def write_datasets(root: Path) -> None:
    """Write all splits below ``root``, unless they are there."""
    coco = root / "coco"
    if (root / "done").exists():
        return
    number = 0
    for split, count in SPLITS.items():
        rng = np.random.default_rng(len(split))
        images, annotations, panoptic = [], [], []
        folder = f"{split}2017"
        for index in range(1, count + 1):
            pixels, boxes = _picture(rng)
            name = f"{index:012d}"
            ids = np.full((HEIGHT, WIDTH), 1, dtype=np.uint32)
            semantic = np.full((HEIGHT, WIDTH), _STUFF_LABEL, dtype=np.uint8)
            segments = [{"id": 1, "category_id": _STUFF_ID, "iscrowd": 0, "isthing": 0}]
            for k, (x, y, w, h) in enumerate(boxes):
                number += 1
                category = 1 if k == 0 else 18
                annotations.append(_annotation(number, index, boxes[k], category))
                ids[y : y + h, x : x + w] = 2 + k
                semantic[y : y + h, x : x + w] = 0
                segments.append({"id": 2 + k, "category_id": category, "iscrowd": 0, "isthing": 1})
            for segment in segments:
                rows, columns = np.nonzero(ids == segment["id"])
                low_x, low_y = int(columns.min()), int(rows.min())
                segment["bbox"] = [
                    low_x, low_y, int(columns.max()) - low_x + 1, int(rows.max()) - low_y + 1,
                ]  # fmt: skip
                segment["area"] = len(rows)
            _save(pixels, coco, folder, f"{name}.jpg")
            map_rgb = np.stack([ids % 256, ids // 256 % 256, ids * 0], axis=-1).astype(np.uint8)
            _save(map_rgb, coco, f"panoptic_{folder}", f"{name}.png")
            _save(semantic, coco, f"panoptic_stuff_{folder}", f"{name}.png")
            _save(semantic, coco, f"panoptic_semseg_{folder}", f"{name}.png")
            images.append({"id": index, "file_name": f"{name}.jpg", "height": HEIGHT,
                           "width": WIDTH, "folder": folder})  # fmt: skip
            panoptic.append(
                {"image_id": index, "file_name": f"{name}.png", "segments_info": segments}
            )
            ade = root / "ADEChallengeData2016"
            long = "training" if split == "train" else "validation"
            _save(pixels, ade, "images", long, f"{name}.jpg")
            _save(semantic, ade, "annotations_detectron2", long, f"{name}.png")
        people = [a for a in annotations if a["category_id"] == 1]
        annotations = [{k: v for k, v in a.items() if "keypoints" not in k} for a in annotations]
        content = {"info": {}, "images": images, "annotations": annotations, "categories": _THINGS}
        _dump(content, coco / "annotations" / f"instances_{folder}.json")
        _dump(content, coco / "annotations" / f"instances_{folder}_100.json")
        _dump(content, coco / "annotations" / f"panoptic2instances_{folder}.json")
        points = f"instances_{folder}_n10_v1_without_masks.json"
        _dump(content, coco / "annotations" / points)
        meta = [{"id": 1, "name": "person", "keypoints": [str(i) for i in range(17)]}]
        _dump({**content, "annotations": people, "categories": meta},
              coco / "annotations" / f"person_keypoints_{folder}.json")  # fmt: skip
        categories = [{k: c[k] for k in ("id", "name", "isthing")} for c in COCO_CATEGORIES]
        _dump({"images": images, "annotations": panoptic, "categories": categories},
              coco / "annotations" / f"panoptic_{folder}.json")  # fmt: skip
        _dump(_lvis(images, annotations), root / "lvis" / f"lvis_v1_{split}.json")
    names = root / "metadata" / "coco_clip_RN50_a+cname.npy"  # embeddings of the classes' names
    names.parent.mkdir(exist_ok=True)
    np.save(names, np.random.default_rng(0).normal(size=(80, 1024)).astype(np.float32))
    (root / "done").touch()
