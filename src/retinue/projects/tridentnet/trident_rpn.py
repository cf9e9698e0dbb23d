"""Proposals of each branch: to the RPN, branches are more images."""

from typing import Any

import torch

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.modeling.proposal_generator.rpn import RPN
from retinue.structures import ImageList, Instances

__all__ = ["TridentRPN", "branches_in_use"]


def branches_in_use(num_branch: int, trident_fast: bool, training: bool) -> int:
    """Return how many branches there are: one in inference with the fast form, else all."""
    return 1 if trident_fast and not training else num_branch


class TridentRPN(RPN):
    """An RPN over the branches of a TridentNet.

    Args:
        num_branch: number of branches.
        trident_fast: only one of them is used in inference.
        **kwargs: arguments of :class:`RPN`.
    """

    @configurable
    def __init__(self, *, num_branch: int, trident_fast: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_branch = num_branch
        self.trident_fast = trident_fast

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return super().from_config(cfg, input_shape) | {
            "num_branch": cfg.MODEL.TRIDENT.NUM_BRANCH,
            "trident_fast": cfg.MODEL.TRIDENT.TEST_BRANCH_IDX != -1,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> Any:
        """See :meth:`RPN.forward`; proposals come branch by branch, and in each image by image."""
        count = branches_in_use(self.num_branch, self.trident_fast, self.training)
        repeated = ImageList(torch.cat([images.tensor] * count), list(images.image_sizes) * count)
        targets = None if gt_instances is None else list(gt_instances) * count
        return super().forward(repeated, features, targets)
