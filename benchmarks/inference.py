"""Mask R-CNN R50-FPN on one 800 x 1216 image: inference and a training step, and peak memory.

    python benchmarks/inference.py [--rounds 3] [--threads N]

Each contender runs in a process of its own, in turns, so that the machine's other work meets all
of them; a contender's time is its best one. torchvision's model takes part where it can be
imported. Weights are random, but for box offsets, which are 0, and class scores, which are scaled:
so a thousand proposals and a hundred objects come out, as of a trained model (``lvis``: three
hundred of 1,203 classes, more than 1e-4 sure). Norms of the backbone
are frozen, and in training, on 8 objects, so are its stem and first stage.
"""

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from common import rest, spread_scores

HEIGHT, WIDTH, NUM_OBJECTS = 800, 1216, 8
CONTENDERS = {
    "inference": ["torchvision", "plain", "optimized", "bf16", "lvis"],
    "training": ["torchvision", "plain"],
}


def boxes() -> Any:
    import torch

    low = torch.tensor([WIDTH, HEIGHT]) * torch.rand(NUM_OBJECTS, 2) * 0.6
    return torch.cat((low, low + 60 + 250 * torch.rand(NUM_OBJECTS, 2)), dim=1)


def ours(kind: str, training: bool) -> Callable[[], Any]:
    import torch

    from retinue import model_zoo
    from retinue.modeling import build_model
    from retinue.modeling.optimize import optimize_for_inference
    from retinue.structures import Boxes, Instances, PolygonMasks

    dataset = "LVISv1" if kind == "lvis" else "COCO"  # 1,203 classes and 300 objects, or 80 and 100
    cfg = model_zoo.get_config(f"{dataset}-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    rest(model.proposal_generator.rpn_head.anchor_deltas, model.roi_heads.box_predictor.bbox_pred)
    one: dict[str, Any] = {"image": torch.rand(3, HEIGHT, WIDTH) * 255}
    if training:
        gt = boxes()
        one["instances"] = Instances((HEIGHT, WIDTH))
        one["instances"].gt_boxes = Boxes(gt)
        one["instances"].gt_classes = torch.arange(NUM_OBJECTS)
        corners = gt[:, [0, 1, 2, 1, 2, 3, 0, 3]].numpy()
        one["instances"].gt_masks = PolygonMasks([[corner] for corner in corners])
        return train_step(model.train(), lambda: model([one]))
    model.eval()
    with torch.no_grad():
        spread_scores(model.roi_heads.box_predictor.cls_score, lambda: model([one]))
    if kind in ("optimized", "bf16"):
        model = optimize_for_inference(model, dtype=torch.bfloat16 if kind == "bf16" else None)
    return torch.no_grad()(lambda: len(model([one])[0]["instances"]))


def torchvisions(training: bool) -> Callable[[], Any]:
    import torch
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.misc import FrozenBatchNorm2d

    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    model = MaskRCNN(backbone, 81, min_size=HEIGHT, max_size=WIDTH)
    rest(model.rpn.head.bbox_pred, model.roi_heads.box_predictor.bbox_pred)
    image = torch.rand(3, HEIGHT, WIDTH)
    if training:
        gt = boxes()
        masks = torch.zeros(NUM_OBJECTS, HEIGHT, WIDTH, dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, gt.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
        target = {"boxes": gt, "labels": torch.arange(NUM_OBJECTS) + 1, "masks": masks}
        return train_step(model.train(), lambda: model([image], [target]))
    model.eval()
    with torch.no_grad():
        spread_scores(model.roi_heads.box_predictor.cls_score, lambda: model([image]))
    return torch.no_grad()(lambda: len(model([image])[0]["boxes"]))


def train_step(model: Any, losses: Callable[[], dict[str, Any]]) -> Callable[[], Any]:
    import torch

    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=1e-6, momentum=0.9)

    def step() -> int:
        optimizer.zero_grad(set_to_none=True)
        sum(losses().values()).backward()
        optimizer.step()
        return NUM_OBJECTS

    return step


def measure(task: str, kind: str, threads: int, steps: int) -> dict[str, float]:
    """Time one contender in this process."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    training = task == "training"
    run = torchvisions(training) if kind == "torchvision" else ours(kind, training)
    objects = run()
    times, cpu_times = [], []
    for _ in range(steps):
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"seconds": min(times), "cpu": min(cpu_times), "peak": peak, "objects": objects}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2, help="processes a contender")
    parser.add_argument("--steps", type=int, default=3, help="timed runs a process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--task", choices=CONTENDERS, help="only this task")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.task, args.only, args.threads, args.steps)))
        return
    for task in [args.task] if args.task else CONTENDERS:
        kinds = CONTENDERS[task]
        if importlib.util.find_spec("torchvision") is None:
            kinds = [kind for kind in kinds if kind != "torchvision"]
        best: dict[str, dict[str, float]] = {}
        for _ in range(args.rounds):
            for kind in kinds:
                command = [sys.executable, __file__, "--task", task, "--only", kind]
                command += ["--threads", str(args.threads), "--steps", str(args.steps)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                got = json.loads(out.splitlines()[-1])
                known = best.setdefault(kind, got)
                best[kind] = {key: min(value, known[key]) for key, value in got.items()}
        base = best[kinds[0]]
        for kind, got in best.items():
            print(
                f"{task}, {kind}: {got['seconds']:.2f} s, CPU time {got['cpu']:.2f} s, peak"
                f" {got['peak']:.0f} MB, {got['objects']} objects; {kinds[0]} takes"
                f" {base['seconds'] / got['seconds']:.2f} times as long"
                f" ({base['cpu'] / got['cpu']:.2f} of CPU time)",
                flush=True,
            )


if __name__ == "__main__":
    main()
