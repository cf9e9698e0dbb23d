"""One inference of each family of models: seconds and peak memory.

    python benchmarks/families.py [--threads 1] [--size HEIGHT WIDTH] [NAME ...]

Each model, by its published name, runs in a process of its own on one picture of 480 x 640. Its
weights are random, with offsets and scores under which about as many objects come out as of a
trained one (see ``common.py``). There is no peer: this is for seeing what a change does
to a family.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from common import wake

HEIGHT, WIDTH = 480, 640
NAMES = [
    "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml",
    "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml",
    "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "COCO-Detection/rpn_R_50_FPN_1x.yaml",
    "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "COCO-Detection/fcos_R_50_FPN_1x.py",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_regnetx_4gf_dds_fpn_1x.py",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
    "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    "Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5.yaml",
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "Cityscapes/mask_rcnn_R_50_FPN.yaml",
    "projects/PointRend/configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml",
    "projects/TensorMask/configs/tensormask_R_50_FPN_1x.yaml",
    "projects/TridentNet/configs/tridentnet_fast_R_50_C4_1x.yaml",
    "projects/DensePose/configs/densepose_rcnn_R_50_FPN_s1x.yaml",
    "projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py",
    "projects/MViTv2/configs/cascade_mask_rcnn_mvitv2_t_3x.py",
]


def measure(name: str, threads: int, size_hw: Sequence[int]) -> dict[str, float]:
    """Time one model in this process."""
    import torch

    from retinue import model_zoo

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = model_zoo.build(name, device="cpu").eval()
    height, width = size_hw
    picture = [{"image": torch.rand(3, height, width) * 255, "height": height, "width": width}]
    times = []
    with torch.no_grad():
        wake(model, lambda: model(picture))
        for _ in range(3):
            start = time.perf_counter()
            found = model(picture)[0]
            times.append(time.perf_counter() - start)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    objects = len(found.get("instances", found.get("proposals", ())))
    return {"seconds": min(times[1:]), "peak": peak, "objects": objects}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=(HEIGHT, WIDTH), help="of the picture")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.threads, args.size)))
        return
    for name in args.names:
        command = [sys.executable, __file__, "--only", name, "--threads", str(args.threads)]
        command += ["--size", *map(str, args.size)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr[-2000:]}")
        got = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name}: {got['seconds']:.2f} s, peak {got['peak']:.0f} MB, {got['objects']} objects",
            flush=True,
        )


if __name__ == "__main__":
    main()
