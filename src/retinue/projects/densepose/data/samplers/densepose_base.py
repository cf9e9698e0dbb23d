"""Makes annotations out of predictions of charts: some pixels become annotated points.

Shapes
    H, W height and width of a box in pixels; Q values at each pixel: u, v and a confidence.
"""

from typing import Any

import torch
from torch.nn import functional as F

from retinue.projects.densepose.converters.base import IntTupleBox, make_int_box
from retinue.projects.densepose.converters.to_chart_result import ToChartResultConverter
from retinue.projects.densepose.structures.data_relative import DensePoseDataRelative
from retinue.projects.densepose.structures.list import DensePoseList
from retinue.structures import BoxMode, Instances

__all__ = ["DensePoseBaseSampler", "take_best"]

# Coarse part of each chart: torso, hands, feet, upper and lower legs, upper and lower arms, head.
PART_OF_CHART = torch.tensor(
    [0, 1, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 8, 9, 10, 11, 10, 11, 12, 13, 12, 13, 14, 14]
)


class DensePoseBaseSampler:
    """Draws points of each chart; subclasses say which, in ``_produce_index_sample``.

    Args:
        count_per_class: at most so many of each chart.
    """

    def __init__(self, count_per_class: int = 8) -> None:
        self.count_per_class = count_per_class

    def __call__(self, instances: Instances) -> DensePoseList:
        """Return annotations, on the CPU, of instances with ``pred_boxes``, ``pred_densepose``."""
        boxes = instances.pred_boxes.tensor.cpu()
        boxes_xywh = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        datas = []
        for i, box in enumerate(map(make_int_box, boxes_xywh)):
            one = instances[i]
            annotation = self._sample(one, box)
            annotation[DensePoseDataRelative.S_KEY] = self._resample_mask(one.pred_densepose)
            datas.append(DensePoseDataRelative(annotation))
        return DensePoseList(datas, boxes, instances.image_size)

    def _sample(self, instance: Instances, bbox_xywh: IntTupleBox) -> dict[str, Any]:
        """Return the annotation of one instance, without parts."""
        labels, values = self._produce_labels_and_results(instance)
        height, width = labels.shape
        chosen = []
        for chart in labels.unique().tolist():
            pixels = (labels == chart).nonzero()  # (P, 2), row and column
            if chart == 0:
                continue
            here = values[:, pixels[:, 0], pixels[:, 1]]
            count = min(self.count_per_class, len(pixels))
            chosen.append(pixels[self._produce_index_sample(here, count)])
        pixels = torch.cat(chosen) if chosen else torch.zeros(0, 2, dtype=torch.long)
        y, x = pixels.unbind(dim=1)
        u, v = values[:2, y, x].clamp(0, 1)
        data = DensePoseDataRelative
        size = data.MASK_SIZE
        return {
            data.X_KEY: (x + 0.5) / width * size,
            data.Y_KEY: (y + 0.5) / height * size,
            data.U_KEY: u,
            data.V_KEY: v,
            data.I_KEY: labels[y, x],
        }

    def _produce_index_sample(self, values: torch.Tensor, count: int) -> Any:
        """Choose ``count`` of P pixels, given their ``(Q, P)``: numbers of pixels."""
        raise NotImplementedError("a sampler says which points it draws")

    def _produce_labels_and_results(self, instance: Instances) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the chart of each pixel ``(H, W)``, and ``(Q, H, W)``, on the CPU."""
        result = ToChartResultConverter.convert(instance.pred_densepose, instance.pred_boxes)
        return result.labels.cpu(), result.uv.cpu()

    def _resample_mask(self, output: Any) -> torch.Tensor:
        """Return the coarse part of each cell of an instance: ``(256, 256)`` int64."""
        size = (DensePoseDataRelative.MASK_SIZE,) * 2
        coarse, fine = (
            F.interpolate(logits, size, mode="bilinear", align_corners=False)[0].argmax(dim=0)
            for logits in (output.coarse_segm, output.fine_segm)
        )
        return PART_OF_CHART[(fine * (coarse > 0)).cpu()]


def take_best(
    keys: torch.Tensor,
    count: int,
    search_count_multiplier: float | None,
    search_proportion: float | None,
) -> torch.Tensor:
    """Draw ``count`` of the numbers with the smallest keys ``(P,)``.

    They are drawn among the best ``search_count_multiplier * count``, or the best
    ``search_proportion`` of all; without either they are the best.
    """
    num_best = count
    if search_count_multiplier is not None:
        num_best = int(count * search_count_multiplier)
    elif search_proportion is not None:
        num_best = max(int(len(keys) * search_proportion), count)
    best = keys.argsort()[:num_best]
    return best[torch.randperm(len(best))[:count]]
