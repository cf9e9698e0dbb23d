"""Data mapping in images per second: decode, resize, flip, ground truth with masks, to tensors.

    python benchmarks/data.py                                  # generated JPEG files
    python benchmarks/data.py --json ann.json --images images/ # your own

One line a setting: the mapper alone, then loaders with 0 and with 2 workers.
"""

import argparse
import json
import resource
import tempfile
import time
from itertools import islice
from pathlib import Path

from common import scene

from retinue.data import DatasetMapper, build_detection_train_loader
from retinue.data import transforms as T
from retinue.data.datasets import load_coco_json


def write_images(folder: Path, count: int) -> Path:
    """Write smooth noise with 7 polygons of 30 points an image, as COCO has on average."""
    images, annotations = [], []
    for number in range(count):
        picture, objects = scene(number)
        picture.save(folder / f"{number}.jpg", quality=90)
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": f"{number}.jpg", **size})
        for one in objects:
            place = {"id": len(annotations) + 1, "image_id": number}
            annotations.append({**one, **place, "category_id": one["category_id"] + 1})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(80)],
    }
    (folder / "ann.json").write_text(json.dumps(content))
    return folder / "ann.json"


def report(name: str, images: int, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:28s} {images / seconds:7.1f} images/s, peak {peak:.0f} MiB in this process")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="a COCO annotation file")
    parser.add_argument("--images", type=Path, help="folder of its images")
    parser.add_argument("--count", type=int, default=300, help="images to map in each setting")
    parser.add_argument("--short-side", type=int, default=800)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        json_file = args.json or write_images(Path(temporary), 60)
        records = load_coco_json(json_file, args.images or temporary, "benchmark")
        mapper = DatasetMapper(
            is_train=True,
            augmentations=[
                T.ResizeShortestEdge((args.short_side,), 1333, "choice"),
                T.RandomFlip(),
            ],
            image_format="BGR",
            use_instance_mask=True,
        )
        start = time.perf_counter()
        for number in range(args.count):
            mapper(records[number % len(records)])
        report("mapper alone", args.count, time.perf_counter() - start)
        for workers in (0, 2):
            loader = iter(
                build_detection_train_loader(
                    records, mapper=mapper, total_batch_size=4, num_workers=workers, seed=0
                )
            )
            for _ in islice(loader, 4):  # workers start
                pass
            start = time.perf_counter()
            num_images = sum(len(batch) for batch in islice(loader, args.count // 4))
            report(f"loader, {workers} workers", num_images, time.perf_counter() - start)


if __name__ == "__main__":
    main()
