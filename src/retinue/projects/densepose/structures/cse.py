"""What a predictor of continuous surface embeddings gives."""

from dataclasses import dataclass

import torch

from retinue.projects.densepose.structures.per_instance import PerInstance

__all__ = ["DensePoseEmbeddingPredictorOutput"]


@dataclass
class DensePoseEmbeddingPredictorOutput(PerInstance):
    """Embedded pixels in the boxes of R instances, on grids of side S.

    Attributes:
        embedding: ``(R, D, S, S)``, where in the embedding space of D dimensions a pixel is put.
        coarse_segm: ``(R, K, S, S)`` logits: background, then body (K = 2) or 14 parts (K = 15).
    """

    embedding: torch.Tensor
    coarse_segm: torch.Tensor
