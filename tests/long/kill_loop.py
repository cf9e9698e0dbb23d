"""Kill training with SIGKILL again and again; resumed, it must end as if nothing had happened.

``python kill_loop.py loop FOLDER --kills 20 --detector`` trains once undisturbed, then once with
that many kills, every other one while a checkpoint is being written, and compares final weights and
metrics bit by bit. ``train`` is what it starts as a process of its own.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

NUM_IMAGES = 12


def write_data(folder: Path) -> Path:
    """Write pictures with a bright square each, wide and high ones, as a COCO dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(NUM_IMAGES):
        height, width = (48, 64) if index % 3 else (64, 48)
        pixels = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(2, 20, 2))
        pixels[y : y + 20, x : x + 20] = 200 + 10 * (index % 2)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": height, "width": width})
        annotations.append(
            {"id": index, "image_id": index, "category_id": 1 + index % 2, "bbox": [x, y, 20, 20],
             "area": 400, "iscrowd": 0, "segmentation": [[x, y, x + 20, y, x + 20, y + 20]]}
        )  # fmt: skip
    categories = [{"id": 1, "name": "bright"}, {"id": 2, "name": "brighter"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def build_trainer(output: Path, annotations: Path, *, iterations: int, is_detector: bool):
    """Build a trainer with random augmentation, random numbers in the model, and two workers."""
    import torch
    from torch import nn

    from retinue.config import get_cfg
    from retinue.data import MetadataCatalog
    from retinue.data.datasets import register_coco_instances
    from retinue.engine import DefaultTrainer
    from retinue.evaluation import COCOEvaluator, DatasetEvaluator
    from retinue.modeling import META_ARCH_REGISTRY

    class Noisy(nn.Module):
        """Says how bright a picture is; weights of 4 MB make its checkpoints take their time."""

        def __init__(self, cfg):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.ballast = nn.Parameter(torch.zeros(1_000_000))

        def forward(self, batch):
            means = [self.norm(self.conv(s["image"][None] / 255)).mean() for s in batch]
            if not self.training:
                return [{"brightness": mean} for mean in means]
            target = torch.rand(()) + len(batch[0]["instances"]) + self.ballast[:3].sum()
            return {"loss": (torch.stack(means).sum() - target).square()}

    class Brightness(DatasetEvaluator):
        def reset(self):
            self.total = 0.0

        def process(self, inputs, outputs):
            self.total += sum(output["brightness"].item() for output in outputs)

        def evaluate(self):
            return {"brightness": self.total}

    class Trainer(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name):
            return COCOEvaluator(dataset_name, output_dir=None) if is_detector else Brightness()

    if "Noisy" not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(Noisy)
    register_coco_instances("squares", {}, str(annotations), str(annotations.parent))
    MetadataCatalog.get("squares").set(evaluator_type="coco")

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet" if is_detector else "Noisy"
    if is_detector:
        cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
        cfg.MODEL.BACKBONE.FREEZE_AT = 0
        cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
        cfg.MODEL.RESNETS.NORM = "BN"
        cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS = ["res3", "res4", "res5"], 32
        cfg.MODEL.RETINANET.NUM_CLASSES, cfg.MODEL.RETINANET.NUM_CONVS = 2, 1
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [24], [32], [48], [64]]
    cfg.MODEL.WEIGHTS = ""
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("squares",)
    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (40, 48, 56), 48
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.WARMUP_ITERS = 2, 0.01, 5
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0  # detections from the beginning
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = is_detector  # which would diverge at this rate
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = iterations, (iterations // 2,)
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 3, 10
    cfg.OUTPUT_DIR, cfg.SEED = str(output), 7
    return Trainer(cfg)


def train(output: Path, annotations: Path, *, iterations: int, is_detector: bool) -> None:
    """Train, or go on training, and write a digest of the outcome to ``final.json``."""
    import torch

    torch.set_num_threads(1)
    trainer = build_trainer(output, annotations, iterations=iterations, is_detector=is_detector)
    trainer.resume_or_load(resume=True)
    metrics = trainer.train()
    digest = hashlib.sha256()
    for tensor in trainer.model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    final = {"weights": digest.hexdigest(), "metrics": metrics}
    (output / "final.json").write_text(json.dumps(final, sort_keys=True))


def start(arguments: argparse.Namespace, output: Path) -> subprocess.Popen:
    """Start ``train`` as a process."""
    command = [sys.executable, __file__, "train", str(output)]
    command += ["--iterations", str(arguments.iterations)]
    command += ["--detector"] if arguments.detector else []
    output.mkdir(parents=True, exist_ok=True)
    with (output / "console.txt").open("ab") as console:
        return subprocess.Popen(command, stdout=console, stderr=console)


def is_writing(output: Path) -> bool:
    """Say whether a checkpoint is being written at this moment."""
    return any(output.glob(".model_*.tmp"))


def checkpoints(output: Path) -> int:
    return len(list(output.glob("model_*.pth")))


def kill_once(
    process: subprocess.Popen, output: Path, rng: random.Random, *, in_write: bool
) -> str:
    """Kill a process after it has made some progress; say when it was hit, or that it had ended."""
    before, deadline = checkpoints(output), time.monotonic() + 300
    while process.poll() is None and checkpoints(output) == before:  # wait for progress
        if time.monotonic() > deadline:
            process.kill()
            raise RuntimeError("no checkpoint for five minutes; see console.txt")
        time.sleep(0.005)
    pause = time.monotonic() + rng.uniform(0.0, 0.4)
    while process.poll() is None and time.monotonic() < pause:
        time.sleep(0.002)
    while in_write and process.poll() is None and not is_writing(output):
        time.sleep(0.0005)
    if process.poll() is not None:
        return "ended"
    process.send_signal(signal.SIGKILL)
    process.wait()
    return "writing" if is_writing(output) else "training"


def loop(arguments: argparse.Namespace) -> int:
    """Compare a run that is killed with one that isn't; return the exit status."""
    folder, rng = arguments.folder, random.Random(arguments.seed)
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    status = start(arguments, undisturbed).wait()
    if status:
        print(f"the undisturbed run failed; see {undisturbed / 'console.txt'}")
        return 1
    hits: list[str] = []
    while len(hits) < arguments.kills:
        process = start(arguments, disturbed)
        hit = kill_once(process, disturbed, rng, in_write=len(hits) % 2 == 1)
        if hit == "ended":
            break
        hits.append(hit)
        print(f"kill {len(hits)}: while {hit}", flush=True)
    status = start(arguments, disturbed).wait()
    if status:
        print(f"the resumed run failed; see {disturbed / 'console.txt'}")
        return 1
    # As text: a metric may be NaN, which equals nothing.
    finals = [(run / "final.json").read_text() for run in (undisturbed, disturbed)]
    leftovers = [path.name for path in disturbed.glob(".*.tmp")]
    print(f"{len(hits)} kills, {hits.count('writing')} of them while writing a checkpoint")
    print(f"undisturbed: {finals[0]}\nkilled:      {finals[1]}\nleft over: {leftovers}")
    return 0 if finals[0] == finals[1] and not leftovers and len(hits) == arguments.kills else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["train", "loop"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", action="store_true", help="a real detector, not a toy")
    arguments = parser.parse_args()
    if arguments.mode == "loop":
        return loop(arguments)
    annotations = write_data_once(arguments.folder.parent / "data")
    train(
        arguments.folder,
        annotations,
        iterations=arguments.iterations,
        is_detector=arguments.detector,
    )
    return 0


def write_data_once(folder: Path) -> Path:
    done = folder / "annotations.json"
    return done if done.exists() else write_data(folder)


if __name__ == "__main__":
    sys.exit(main())
