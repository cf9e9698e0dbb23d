"""Operators at the shapes of Mask R-CNN R50-FPN on an 800 x 1216 image, beside torchvision's.

    python benchmarks/ops.py [--threads 1] [--rounds 10] [--only nms]

Contenders take turns, call by call, so that the machine's other work meets all of them; a
contender's time is its best one. Peak memory is what a call adds to the process, outputs included.
torchvision takes part where it can be imported; `x` is its time divided by ours.
"""

import argparse
import ctypes
import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from retinue import layers
from retinue.layers.mask_ops import crop_masks
from retinue.layers.roi_align import roi_align_levels

HEIGHT, WIDTH = 800, 1216
STRIDES = (4, 8, 16, 32)
Call = Callable[[], object]


def boxes(num: int, seed: int = 0) -> torch.Tensor:
    """Boxes ``(num, 4)`` with sides of 16 to 600 pixels, log-uniform, and aspects of 1/4 to 4."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(num, 4, generator=generator)
    side = 16 * (600 / 16) ** u[:, 0]
    aspect = torch.exp((u[:, 1] - 0.5) * math.log(4))
    half = torch.stack([side * aspect, side / aspect], dim=1) / 2
    centre = u[:, 2:] * torch.tensor([WIDTH, HEIGHT])
    limit = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    return torch.cat([centre - half, centre + half], dim=1).clamp(min=0).minimum(limit)


def clustered(num: int, num_objects: int = 40) -> torch.Tensor:
    """Boxes around a few objects, as a detector proposes them."""
    objects = boxes(num_objects, seed=1)
    picked = objects[torch.randint(0, num_objects, (num,))]
    size = (picked[:, 2:] - picked[:, :2]).repeat(1, 2)
    return picked + 0.15 * size * torch.randn(num, 4)


def levels_of(rois: torch.Tensor) -> torch.Tensor:
    area = (rois[:, 2] - rois[:, 0]) * (rois[:, 3] - rois[:, 1])
    return (4 + torch.log2(area.sqrt() / 224 + 1e-8)).floor().clamp(2, 5).long() - 2


def pooling(num: int, size: int, *, train: bool, layout: torch.memory_format) -> dict[str, Call]:
    """Pool ``num`` regions from four levels; in training also the gradient of the features."""
    features = [
        torch.rand(1, 256, HEIGHT // s, WIDTH // s)
        .contiguous(memory_format=layout)
        .requires_grad_(train)
        for s in STRIDES
    ]
    corners = boxes(num)
    levels, scales = levels_of(corners), [1 / s for s in STRIDES]
    rois = torch.nn.functional.pad(corners, (1, 0))
    grad = torch.rand(num, 256, size, size)

    def differentiated(pool: Callable[[], torch.Tensor]) -> Call:
        def call() -> torch.Tensor:
            out = pool()
            if train:
                out.backward(grad)
                for feature in features:
                    feature.grad = None
            return out

        return call

    def theirs() -> torch.Tensor:
        from torchvision.ops import roi_align

        out = features[0].new_zeros(num, 256, size, size)
        for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
            mine = (levels == level).nonzero()[:, 0]
            pooled = roi_align(feature, rois[mine], size, scale, 0, True)
            out = out.index_put((mine,), pooled)
        return out

    def ours() -> torch.Tensor:
        return roi_align_levels(features, rois, levels, size, scales)

    return {"retinue": differentiated(ours), "torchvision": differentiated(theirs)}


def pooling_one_level(num: int, channels: int) -> dict[str, Call]:
    """Pool from the stride-16 features of a C4 model."""
    feature = torch.rand(1, channels, HEIGHT // 16, WIDTH // 16)
    rois = torch.nn.functional.pad(boxes(num), (1, 0))
    options = (14, 1 / 16, 0, True)

    def theirs() -> torch.Tensor:
        from torchvision.ops import roi_align

        return roi_align(feature, rois, *options)

    return {"retinue": lambda: layers.roi_align(feature, rois, *options), "torchvision": theirs}


def cropping(num: int) -> dict[str, Call]:
    """Crop bitmasks to 28 x 28, as training does with ground truth."""
    masks, corners = torch.rand(num, HEIGHT, WIDTH) > 0.5, boxes(num)
    rois = torch.cat([torch.arange(float(num))[:, None], corners], dim=1)

    def theirs() -> torch.Tensor:
        from torchvision.ops import roi_align

        return roi_align(masks[:, None].float(), rois, 28, 1.0, 0, True)

    return {"retinue": lambda: crop_masks(masks, corners, 28), "torchvision": theirs}


def suppression(corners: torch.Tensor, num_groups: int, threshold: float) -> dict[str, Call]:
    scores = torch.rand(len(corners))
    groups = torch.randint(0, num_groups, (len(corners),))

    def theirs() -> torch.Tensor:
        from torchvision.ops import batched_nms, nms

        if num_groups == 1:
            return nms(corners, scores, threshold)
        return batched_nms(corners, scores, groups, threshold)

    def ours() -> torch.Tensor:
        if num_groups == 1:
            return layers.nms(corners, scores, threshold)
        return layers.batched_nms(corners, scores, groups, threshold)

    return {"retinue": ours, "torchvision": theirs}


def pasting(num: int) -> dict[str, Call]:
    masks, corners = torch.rand(num, 28, 28), boxes(num)

    def theirs() -> torch.Tensor:
        from torchvision.models.detection.roi_heads import paste_masks_in_image

        return paste_masks_in_image(masks[:, None], corners, (HEIGHT, WIDTH), padding=1) >= 0.5

    return {
        "retinue": lambda: layers.paste_masks_in_image(masks, corners, (HEIGHT, WIDTH)),
        "torchvision": theirs,
    }


def deforming() -> dict[str, Call]:
    """A modulated 3 x 3 convolution of stage res4."""
    x = torch.rand(1, 256, HEIGHT // 16, WIDTH // 16)
    offset = torch.randn(1, 18, *x.shape[2:])
    mask = torch.rand(1, 9, *x.shape[2:])
    weight = torch.rand(256, 256, 3, 3)

    def theirs() -> torch.Tensor:
        from torchvision.ops import deform_conv2d

        return deform_conv2d(x, offset, weight, padding=1, mask=mask)

    def ours() -> torch.Tensor:
        from retinue.layers.deform_conv import modulated_deform_conv

        return modulated_deform_conv(x, offset, mask, weight, padding=1)

    return {"retinue": ours, "torchvision": theirs}


def rotated() -> dict[str, Call]:
    """Rotated boxes have no peer in torchvision."""
    corners = boxes(1000)
    size = corners[:, 2:] - corners[:, :2]
    angle = torch.rand(1000, 1) * 180
    turned = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, size, angle], dim=1)
    scores = torch.rand(1000)
    return {"retinue": lambda: layers.nms_rotated(turned, scores, 0.5)}


NCHW, NHWC = torch.contiguous_format, torch.channels_last
CASES: dict[str, Callable[[], dict[str, Call]]] = {
    "roi_align box 1000x7x7": lambda: pooling(1000, 7, train=False, layout=NCHW),
    "roi_align box 1000x7x7, channels last": lambda: pooling(1000, 7, train=False, layout=NHWC),
    "roi_align mask 100x14x14": lambda: pooling(100, 14, train=False, layout=NCHW),
    "roi_align mask 100x14x14, channels last": lambda: pooling(100, 14, train=False, layout=NHWC),
    "roi_align train 512x7x7": lambda: pooling(512, 7, train=True, layout=NCHW),
    "roi_align train 512x7x7, channels last": lambda: pooling(512, 7, train=True, layout=NHWC),
    "roi_align train 128x14x14": lambda: pooling(128, 14, train=True, layout=NCHW),
    "roi_align train 128x14x14, channels last": lambda: pooling(128, 14, train=True, layout=NHWC),
    "roi_align C4 300x14x14 of 1024 channels": lambda: pooling_one_level(300, 1024),
    "crop 64 bitmasks to 28x28": lambda: cropping(64),
    "nms 100": lambda: suppression(boxes(100), 1, 0.5),
    "nms 1000": lambda: suppression(boxes(1000), 1, 0.5),
    "nms 1000 around objects": lambda: suppression(clustered(1000), 1, 0.5),
    "nms 5000": lambda: suppression(boxes(5000), 1, 0.5),
    "nms RPN 5 levels, 5000": lambda: suppression(boxes(5000), 5, 0.7),
    "nms RPN 5 levels, 5000 around objects": lambda: suppression(clustered(5000), 5, 0.7),
    "nms 80 classes, 1000": lambda: suppression(clustered(1000), 80, 0.5),
    "nms 80 classes, 5000": lambda: suppression(clustered(5000), 80, 0.5),
    "nms 80 classes, 20000": lambda: suppression(clustered(20000), 80, 0.5),
    "nms rotated 1000": rotated,
    "paste 100 masks": lambda: pasting(100),
    "deform_conv 3x3 256 channels": deforming,
}


def seconds(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def peak_mib(call: Call) -> float:
    """Return what a call adds to the process at most, in MiB; nan without Linux to ask."""
    status = Path("/proc/self/status")
    if not status.exists():
        return math.nan
    ctypes.CDLL(None).malloc_trim(0)

    def kib(key: str) -> int:
        line = next(row for row in status.read_text().splitlines() if row.startswith(key))
        return int(line.split()[1])

    before = kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    call()
    return (kib("VmHWM") - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    has_peer = importlib.util.find_spec("torchvision") is not None
    print(f"torch {torch.__version__}, {args.threads} thread(s); ms and peak MiB")
    print(f"{'':44}{'retinue':>16}{'torchvision':>18}{'x':>8}")
    for name, make in CASES.items():
        if args.only not in name:
            continue
        calls = {k: call for k, call in make().items() if k == "retinue" or has_peer}
        memory = {k: peak_mib(call) for k, call in calls.items()}  # a first call of each, too
        times = {k: min(v) for k, v in rounds(calls, args.rounds).items()}
        columns = [f"{1e3 * times[k]:9.2f}{memory[k]:7.0f}" for k in calls]
        ratio = f"{times['torchvision'] / times['retinue']:8.2f}" if len(calls) > 1 else ""
        print(f"{name:44}{'  '.join(columns)}{ratio}", flush=True)


def rounds(calls: dict[str, Call], num: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(num):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return times


if __name__ == "__main__":
    main()
