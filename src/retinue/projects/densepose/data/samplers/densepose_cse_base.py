"""Makes annotations out of predicted embeddings: some pixels become annotated vertices.

Shapes
    H, W height and width of a box in pixels; D dimensions of the embedding space; Q further values
    at each pixel.
"""

from typing import Any

import torch
from torch.nn import functional as F

from retinue.config import CfgNode
from retinue.projects.densepose.converters.base import IntTupleBox
from retinue.projects.densepose.converters.segm_to_mask import stretch
from retinue.projects.densepose.data.samplers.densepose_base import DensePoseBaseSampler
from retinue.projects.densepose.data.utils import get_class_to_mesh_name_mapping
from retinue.projects.densepose.modeling.cse.utils import nearest_vertices
from retinue.projects.densepose.structures.data_relative import DensePoseDataRelative
from retinue.structures import Instances
from retinue.utils.errors import InputError

__all__ = ["DensePoseCSEBaseSampler"]


class DensePoseCSEBaseSampler(DensePoseBaseSampler):
    """Draws points of the body; subclasses say which, in ``_produce_index_sample``.

    Args:
        cfg: with ``DATASETS.CLASS_TO_MESH_NAME_MAPPING``.
        use_gt_categories: take an instance's class from the dataset, not from the prediction.
        embedder: maps a mesh's name to its embedded vertices.
        count_per_class: at most so many of each instance.

    Raises:
        InputError: If there is no embedder.
    """

    def __init__(
        self,
        cfg: CfgNode,
        use_gt_categories: bool,
        embedder: Any,
        count_per_class: int = 8,
    ) -> None:
        super().__init__(count_per_class)
        if embedder is None:
            raise InputError(
                "sampling embeddings needs MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS; there are none"
            )
        self.embedder = embedder
        self.class_to_mesh_name = get_class_to_mesh_name_mapping(cfg)
        self.use_gt_categories = use_gt_categories

    @torch.no_grad()
    def _sample(self, instance: Instances, bbox_xywh: IntTupleBox) -> dict[str, Any]:
        classes = instance.dataset_classes if self.use_gt_categories else instance.pred_classes
        mesh_name = self.class_to_mesh_name[int(classes[0])]
        mask, embeddings, values = self._produce_mask_and_results(instance, bbox_xywh)
        height, width = mask.shape
        pixels = mask.nonzero()  # (P, 2), row and column
        y, x = pixels.unbind(dim=1)
        count = min(self.count_per_class, len(pixels))
        if count:
            drawn = self._produce_index_sample(values[:, y, x], count)
            y, x = y[drawn], x[drawn]
        vertices = nearest_vertices(embeddings[:, y, x].T, self.embedder(mesh_name))
        data = DensePoseDataRelative
        size = data.MASK_SIZE
        return {
            data.X_KEY: ((x + 0.5) / width * size).cpu(),
            data.Y_KEY: ((y + 0.5) / height * size).cpu(),
            data.VERTEX_IDS_KEY: vertices.cpu(),
            data.MESH_NAME_KEY: mesh_name,
        }

    def _produce_mask_and_results(
        self, instance: Instances, bbox_xywh: IntTupleBox
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return where the body is ``(H, W)``, embeddings ``(D, H, W)``, values ``(Q, H, W)``."""
        output = instance.pred_densepose
        mask = stretch(output.coarse_segm, bbox_xywh)[0].argmax(dim=0) > 0
        embeddings = stretch(output.embedding, bbox_xywh)[0]
        return mask, embeddings, embeddings[:0]

    def _resample_mask(self, output: Any) -> torch.Tensor:
        """Return the coarse part of each cell of an instance: ``(256, 256)`` int64."""
        size = (DensePoseDataRelative.MASK_SIZE,) * 2
        logits = F.interpolate(output.coarse_segm, size, mode="bilinear", align_corners=False)
        return logits[0].argmax(dim=0).cpu()
