"""The same code on detectron2 and on retinue, side by side: only the package's name differs.

    python benchmarks/beside_detectron2.py [--python PYTHON] [--rounds 2] [--only WORD]

``PYTHON`` is an interpreter that can import both; without a real detectron2 nothing is measured.
Every measurement runs in a process of its own, the two packages in turns; the best time counts.
Weights are random, with offsets and scores under which about as many objects come out as of a
trained model (see ``common.py``).
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common import scene, wake

HERE = Path(__file__).resolve()
HEIGHT, WIDTH, NUM_OBJECTS = 800, 1216, 8
MODELS = {
    "Faster R-CNN": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "RetinaNet": "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "Mask R-CNN": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "Panoptic FPN": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
}
Run = Callable[[], Any]


def parts(package: str, *names: str) -> SimpleNamespace:
    """Import modules of a package: ``parts("retinue", "config").config``."""
    modules = {name: importlib.import_module(f"{package}.{name}") for name in names}
    return SimpleNamespace(**modules)


def build(package: str, name: str) -> tuple[Any, Any]:
    """Build a model with untrained weights and make a batch of one image for it."""
    import torch

    torch.manual_seed(0)
    d2 = parts(package, "model_zoo", "modeling")
    cfg = d2.model_zoo.get_config(MODELS[name])
    cfg.MODEL.DEVICE = "cpu"
    model = d2.modeling.build_model(cfg)
    image = torch.rand(3, HEIGHT, WIDTH) * 255
    return model, {"image": image, "height": HEIGHT, "width": WIDTH}


def inference(package: str, name: str) -> Run:
    """Predict as users do, by ``DefaultPredictor``."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    d2 = parts(package, "model_zoo", "engine")
    cfg = d2.model_zoo.get_config(MODELS[name])
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    predictor = d2.engine.DefaultPredictor(cfg)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    one = {"image": torch.from_numpy(image).permute(2, 0, 1).float()}
    with torch.no_grad():
        wake(predictor.model, lambda: predictor.model([one]))
    return lambda: len(predictor(image)["instances"])


def training(package: str, name: str) -> Run:
    import numpy as np
    import torch

    d2 = parts(package, "structures", "utils.events")
    structures = d2.structures
    storage = vars(d2)["utils.events"].EventStorage().__enter__()  # where models report to
    model, one = build(package, name)
    low = torch.tensor([WIDTH, HEIGHT]) * torch.rand(NUM_OBJECTS, 2) * 0.6
    boxes = torch.cat((low, low + 60 + 250 * torch.rand(NUM_OBJECTS, 2)), dim=1)
    one["instances"] = instances = structures.Instances((HEIGHT, WIDTH))
    instances.gt_boxes = structures.Boxes(boxes)
    instances.gt_classes = torch.arange(NUM_OBJECTS)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].numpy().astype(np.float64)
    instances.gt_masks = structures.PolygonMasks([[corner] for corner in corners])
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)

    def step() -> int:
        optimizer.zero_grad()
        sum(model([one]).values()).backward()
        optimizer.step()
        storage.step()
        return NUM_OBJECTS

    model.train()
    return step


def mapped_files(package: str) -> tuple[list[dict[str, Any]], Any]:
    """Write 30 JPEG files; return their dataset dicts and the mapper that trains a Mask R-CNN."""
    d2 = parts(package, "model_zoo", "data", "structures")
    folder = Path(tempfile.mkdtemp())
    dicts = []
    for number in range(30):
        image, annotations = scene(number)
        image.save(folder / f"{number}.jpg", quality=90)
        for annotation in annotations:
            annotation["bbox_mode"] = d2.structures.BoxMode.XYWH_ABS
        size = {"width": image.width, "height": image.height}
        name = str(folder / f"{number}.jpg")
        dicts.append({"file_name": name, "image_id": number, "annotations": annotations, **size})
    cfg = d2.model_zoo.get_config(MODELS["Mask R-CNN"])
    return dicts, d2.data.DatasetMapper(cfg, is_train=True)


def mapping(package: str, _: str) -> Run:
    """Read, resize, flip and pack the files with their polygons."""
    dicts, mapper = mapped_files(package)
    return lambda: len([mapper(one) for one in dicts])


def waiting(package: str, _: str) -> Run:
    """Take a batch of 16 images from two workers, which had the time of a step to make it."""
    dicts, mapper = mapped_files(package)
    dicts = [one for one in dicts if one["width"] > one["height"]]  # no batch is half made already
    make = parts(package, "data").data.build_detection_train_loader
    batches = iter(make(dicts, mapper=mapper, total_batch_size=16, num_workers=2))

    def run() -> int:
        return len(next(batches))

    return run


def evaluation(package: str, _: str) -> Run:
    """Score 100 boxes an image on 500 images, from ``process`` to the table of APs."""
    import numpy as np
    import torch

    d2 = parts(package, "data", "data.datasets", "evaluation", "structures")
    folder = Path(tempfile.mkdtemp())
    images, annotations = [], []
    for number in range(500):
        rng = np.random.default_rng(number)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 480})
        for _ in range(7):
            size, corner = rng.uniform(10, 200, 2), rng.uniform(0, 250, 2)
            annotation = {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0}
            annotation |= {"bbox": [*corner.tolist(), *size.tolist()], "area": float(size.prod())}
            annotations.append(annotation | {"category_id": int(rng.integers(80)) + 1})
    categories = [{"id": i + 1, "name": f"class {i}"} for i in range(80)]
    content = {"images": images, "annotations": annotations, "categories": categories, "info": {}}
    (folder / "ann.json").write_text(json.dumps(content))
    name = "beside_detectron2"
    vars(d2)["data.datasets"].register_coco_instances(name, {}, str(folder / "ann.json"), ".")
    d2.data.DatasetCatalog.get(name)
    outputs = []
    for number in range(500):
        generator = torch.Generator().manual_seed(number)
        near = torch.tensor([a["bbox"] for a in annotations[7 * number : 7 * number + 7]])
        boxes = near[torch.randint(7, (100,), generator=generator)]
        boxes[:, 2:] += boxes[:, :2]
        boxes += torch.randn(100, 4, generator=generator) * 12
        found = d2.structures.Instances((480, 640), pred_boxes=d2.structures.Boxes(boxes))
        found.scores = torch.rand(100, generator=generator)
        found.pred_classes = torch.randint(80, (100,), generator=generator)
        outputs.append({"instances": found})

    def run() -> int:
        evaluator = d2.evaluation.COCOEvaluator(name, output_dir=str(folder))
        evaluator.reset()
        for image, output in zip(images, outputs, strict=True):
            evaluator.process([{"image_id": image["id"]}], [output])
        return round(100 * evaluator.evaluate()["bbox"]["AP50"])

    return run


def importing(package: str, _: str) -> Run:
    code = f"import {package}.engine, {package}.model_zoo, {package}.modeling, {package}.data"
    code += f"; from {package}.engine import DefaultTrainer"
    return lambda: subprocess.run([sys.executable, "-c", code], check=True).returncode


MEASUREMENTS: dict[str, tuple[Callable[[str, str], Run], str]] = {
    "import": (importing, ""),
    **{f"inference, {name}": (inference, name) for name in MODELS},
    "training step, Mask R-CNN": (training, "Mask R-CNN"),
    "mapping 30 images": (mapping, ""),
    "waiting for a batch of 16": (waiting, ""),
    "COCO evaluation of 500 images": (evaluation, ""),
}
STEP_SECONDS = {"waiting for a batch of 16": 3.0}  # of other work, before each timed run


def measure(package: str, name: str, repeats: int, threads: int) -> dict[str, float]:
    """Time one measurement of one package in this process."""
    import torch

    torch.set_num_threads(threads)
    make, argument = MEASUREMENTS[name]
    run = make(package, argument)
    result = run()
    times = []
    for _ in range(repeats):
        time.sleep(STEP_SECONDS.get(name, 0.0))
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    who = resource.RUSAGE_CHILDREN if make is importing else resource.RUSAGE_SELF
    peak = resource.getrusage(who).ru_maxrss / unit
    return {"seconds": min(times), "peak": peak, "result": result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="that imports both packages")
    parser.add_argument("--rounds", type=int, default=2, help="processes a package")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs a process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="measurements whose name holds this word")
    parser.add_argument("--package", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.package:
        print(json.dumps(measure(args.package, args.only, args.repeats, args.threads)))
        return
    probe = [args.python, "-c", "import detectron2._C, retinue"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        print("no detectron2 beside retinue here; nothing measured")
        return
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    for name in [name for name in MEASUREMENTS if args.only in name]:
        best: dict[str, dict[str, float]] = {}
        for _ in range(args.rounds):
            for package in ("detectron2", "retinue"):
                command = [args.python, str(HERE), "--package", package, "--only", name]
                command += ["--repeats", str(args.repeats), "--threads", str(args.threads)]
                done = subprocess.run(
                    command, check=True, capture_output=True, text=True, env=environment
                )
                got = json.loads(done.stdout.splitlines()[-1])
                known = best.setdefault(package, got)
                best[package] = {key: min(got[key], known[key]) for key in got}
        theirs, ours = best["detectron2"], best["retinue"]
        print(
            f"{name}: detectron2 {theirs['seconds']:.3f} s, {theirs['peak']:.0f} MB; retinue"
            f" {ours['seconds']:.3f} s, {ours['peak']:.0f} MB; detectron2 takes"
            f" {theirs['seconds'] / ours['seconds']:.2f} times as long"
            f" (results {theirs['result']:g} and {ours['result']:g})",
            flush=True,
        )


if __name__ == "__main__":
    main()
