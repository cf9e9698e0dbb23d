"""A tiny YouTube-VIS of 2019, generated, where programs for video instance segmentation look.

``write_videos(root)`` makes clips of ``96 x 128`` in which a bright rectangle moves to the right.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH, LENGTH = 96, 128, 3
SPLITS = {"train": 4, "valid": 1}
CLASSES = (
    "person", "giant_panda", "lizard", "parrot", "skateboard", "sedan", "ape", "dog", "snake",
    "monkey", "hand", "rabbit", "duck", "cat", "cow", "fish", "train", "horse", "turtle",
    "bear", "motorbike", "giraffe", "leopard", "fox", "deer", "owl", "surfboard", "airplane",
    "truck", "zebra", "tiger", "elephant", "snowboard", "boat", "shark", "mouse", "frog",
    "eagle", "earless_seal", "tennis_racket",
)  # fmt: skip
"""Those of the data set, in its order."""


def write_videos(root: Path) -> None:
    """Write the splits below ``root``, unless they are there."""
    rng = np.random.default_rng(0)
    for split, count in SPLITS.items():
        target = root / "ytvis_2019" / f"{split}.json"
        if target.exists():
            continue
        folder = root / "ytvis_2019" / split / "JPEGImages"
        videos, annotations = [], []
        for number in range(1, count + 1):
            (folder / str(number)).mkdir(parents=True, exist_ok=True)
            boxes = [[8 + 12 * step, 20, 40, 48] for step in range(LENGTH)]
            color = rng.integers(150, 255, 3)
            for step, (x, y, w, h) in enumerate(boxes):
                pixels = rng.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
                pixels[y : y + h, x : x + w] = color
                Image.fromarray(pixels).save(folder / str(number) / f"{step}.jpg")
            videos.append({
                "id": number, "height": HEIGHT, "width": WIDTH, "length": LENGTH,
                "file_names": [f"{number}/{step}.jpg" for step in range(LENGTH)],
            })  # fmt: skip
            annotations.append({
                "id": number, "video_id": number, "category_id": number, "iscrowd": 0,
                "height": HEIGHT, "width": WIDTH, "areas": [w * h for _, _, w, h in boxes],
                "bboxes": boxes, "segmentations": [_runs(*box) for box in boxes],
            })  # fmt: skip
        categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
        content = {"videos": videos, "annotations": annotations, "categories": categories}
        target.write_text(json.dumps({"info": {}, **content}))


def _runs(x: int, y: int, w: int, h: int) -> dict[str, list[int]]:
    """Return a rectangle as run lengths, column by column."""
    first = x * HEIGHT + y
    between = [v for _ in range(w - 1) for v in (h, HEIGHT - h)]
    counts = [first, *between, h, HEIGHT * WIDTH - first - h - (w - 1) * HEIGHT]
    return {"counts": counts, "size": [HEIGHT, WIDTH]}
