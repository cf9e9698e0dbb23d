"""COCO evaluation of many made-up detections, beside pycocotools where it is installed.

    python benchmarks/coco_eval.py [--images 1000]

Both evaluate the same boxes and masks; their AP must agree to 1e-9.
"""

import argparse
import contextlib
import io
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np


def made_up(num_images: int, num_classes: int = 80, per_image: int = 12, seed: int = 0):
    """Return a COCO dataset of random ellipses, and detections that are jittered copies of them."""
    from hotcoco import mask as rle

    random = np.random.default_rng(seed)
    height, width = 240, 320
    yy, xx = np.mgrid[:height, :width]
    images = [
        {"id": i + 1, "height": height, "width": width, "file_name": f"{i}.jpg"}
        for i in range(num_images)
    ]

    def ellipse(cx, cy, w, h):
        inside = ((xx - cx) / (w / 2)) ** 2 + ((yy - cy) / (h / 2)) ** 2 <= 1
        encoded = rle.encode(np.asfortranarray(inside.astype(np.uint8)))
        counts = encoded["counts"]
        encoded["counts"] = counts.decode() if isinstance(counts, bytes) else counts
        return encoded, float(inside.sum())

    annotations, detections = [], []
    for image in images:
        for _ in range(per_image):
            cx, cy = random.uniform(20, width - 20), random.uniform(20, height - 20)
            w, h = random.uniform(8, 120, size=2)
            category = int(random.integers(1, num_classes + 1))
            segmentation, area = ellipse(cx, cy, w, h)
            box = [float(v) for v in (cx - w / 2, cy - h / 2, w, h)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": box,
                    "segmentation": segmentation,
                    "area": area,
                    "iscrowd": 0,
                }
            )
            for _copy in range(2):
                jitter = random.normal(0, 0.08, size=4) * [w, h, w, h]
                cx2, cy2, w2, h2 = np.array([cx, cy, w, h]) + jitter
                mask, _ = ellipse(cx2, cy2, max(w2, 2), max(h2, 2))
                detections.append(
                    {
                        "image_id": image["id"],
                        "category_id": category,
                        "bbox": [float(v) for v in (cx2 - w2 / 2, cy2 - h2 / 2, w2, h2)],
                        "segmentation": mask,
                        "score": float(random.uniform()),
                    }
                )
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, num_classes + 1)]
    dataset = {"images": images, "annotations": annotations, "categories": categories}
    return dataset, detections


def evaluate(module_coco, module_eval, truth: Path, found: Path, kind: str) -> float:
    coco = module_coco(str(truth))
    results = coco.loadRes(str(found))
    run = module_eval(coco, results, kind)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return float(run.stats[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    num_images = parser.parse_args().images
    dataset, detections = made_up(num_images)
    peers = {}
    with tempfile.TemporaryDirectory() as folder:
        truth, found = Path(folder) / "truth.json", Path(folder) / "found.json"
        truth.write_text(json.dumps(dataset))
        found.write_text(json.dumps(detections))
        import hotcoco

        peers["ours (hotcoco)"] = (hotcoco.COCO, hotcoco.COCOeval)
        with contextlib.suppress(ImportError):
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval

            peers["pycocotools"] = (COCO, COCOeval)
        print(f"{num_images} images, {len(detections)} detections, 80 classes")
        for kind in ("bbox", "segm"):
            measured = {}
            for name, modules in peers.items():
                start = time.perf_counter()
                with contextlib.redirect_stdout(io.StringIO()):
                    ap = evaluate(*modules, truth, found, kind)
                measured[name] = (time.perf_counter() - start, ap)
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(
                    f"{kind}: {name}: {measured[name][0]:.2f} s, AP {100 * ap:.4f}, "
                    f"peak so far {peak:.0f} MiB"
                )
            if len(measured) == 2:
                (ours, ap), (theirs, their_ap) = measured.values()
                assert abs(ap - their_ap) < 1e-9, (ap, their_ap)
                print(f"{kind}: pycocotools takes {theirs / ours:.1f} times as long; same AP")


if __name__ == "__main__":
    main()
