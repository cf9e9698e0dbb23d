"""Made-up pictures, and random weights under which a detector finds as much as a trained one does.

Box offsets are 0, and class scores differ from place to place. So a thousand proposals and a
hundred objects come out, where a model as it is initialised finds nothing or everything.
"""

from collections.abc import Callable
from typing import Any

# Layers that predict box offsets, and class scores, by the end of their names.
OFFSETS = ("anchor_deltas", "bbox_pred")
SCORES = ("objectness_logits", "cls_score")
SECOND = "roi_heads."  # scores of regions: after those that choose the regions


def spread_scores(layer: Any, run: Callable[[], Any]) -> None:
    """Scale a classifier so that its logits have a deviation of 2, as a trained one's have."""
    seen = []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.std()))
    run()
    handle.remove()
    if seen and 0 < seen[0] < float("inf"):
        layer.weight.data *= 2 / seen[0]


def rest(*layers: Any) -> None:
    """Make layers that predict box offsets predict none."""
    for layer in layers:
        layer.weight.data.zero_()


def wake(model: Any, run: Callable[[], Any]) -> None:
    """Prepare any detector: offsets to 0, scores spread; ``run`` calls it in evaluation mode."""
    layers = [(n, m) for n, m in model.named_modules() if getattr(m, "weight", None) is not None]
    offsets = [layer for name, layer in layers if name.endswith(OFFSETS)]
    rest(*offsets)
    if "Linear" in type(getattr(model, "box2box_transform", None)).__name__:
        for layer in offsets:  # FCOS predicts distances: two strides to each side
            layer.bias.data.fill_(2)
    scores = [(name, layer) for name, layer in layers if name.endswith(SCORES)]
    for _, layer in sorted(scores, key=lambda row: row[0].startswith(SECOND)):
        spread_scores(layer, run)


def scene(number: int) -> tuple[Any, list[dict[str, Any]]]:
    """Draw a picture of smooth noise with seven polygons of 30 points, as COCO has on average."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(number)
    width, height = (640, 480) if number % 3 else (480, 640)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    annotations = []
    for _ in range(7):
        radius = rng.uniform(15, 120)
        center = rng.uniform(radius, (width - radius, height - radius))
        angle = np.sort(rng.uniform(0, 2 * np.pi, 30))
        points = center + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        annotation = {
            "category_id": int(rng.integers(80)),
            "iscrowd": 0,
            "bbox": [*(center - radius).tolist(), 2 * radius, 2 * radius],
            "area": 3.0 * radius**2,
            "segmentation": [points.reshape(-1).round(2).tolist()],
        }
        annotations.append(annotation)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), annotations
