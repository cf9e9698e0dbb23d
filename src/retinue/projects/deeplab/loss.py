"""Cross entropy over the pixels that are hardest to classify."""

import torch
from torch import nn
from torch.nn import functional as F

from retinue.utils.errors import unknown_name

__all__ = ["DeepLabCE", "make_pixel_loss"]


class DeepLabCE(nn.Module):
    """Mean cross entropy of the pixels with the largest one.

    "Hard pixel mining" of Yang et al., "DeeperLab" (2019), https://arxiv.org/abs/1902.05093.

    Args:
        ignore_label: label of pixels that cost nothing; they count in the mean.
        top_k_percent_pixels: which part of all pixels is kept, in (0, 1].
        weight: ``(K,)``, a factor for each class.
    """

    def __init__(
        self,
        ignore_label: int = -1,
        top_k_percent_pixels: float = 1.0,
        weight: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.top_k_percent_pixels = top_k_percent_pixels
        self.ignore_label = ignore_label
        self.criterion = nn.CrossEntropyLoss(weight, ignore_index=ignore_label, reduction="none")

    def forward(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss.

        Args:
            logits: ``(N, K, H, W)``.
            labels: ``(N, H, W)`` int64.
            weights: ``(N, H, W)``, a factor for each pixel.
        """
        losses = self.criterion(logits, labels)  # (N, H, W)
        losses = (losses if weights is None else losses * weights).flatten()
        if self.top_k_percent_pixels < 1:
            losses = losses.topk(int(self.top_k_percent_pixels * losses.numel())).values
        return losses.mean()


class _PlainCE(nn.CrossEntropyLoss):
    """Mean cross entropy, called like :class:`DeepLabCE`."""

    def forward(
        self, input: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        if weights is None:
            return super().forward(input, target)
        losses = F.cross_entropy(input, target, ignore_index=self.ignore_index, reduction="none")
        return (losses * weights).sum() / (target != self.ignore_index).sum().clamp(min=1)


def make_pixel_loss(loss_type: str, ignore_value: int, top_k: float = 0.2) -> nn.Module:
    """Make the loss that ``MODEL.SEM_SEG_HEAD.LOSS_TYPE`` names.

    Args:
        loss_type: ``"cross_entropy"`` or ``"hard_pixel_mining"``.
        ignore_value: label of pixels that are not trained on.
        top_k: part of the pixels that hard pixel mining keeps.

    Raises:
        UnknownNameError: (a ``ValueError``) If it is neither.
    """
    if loss_type == "cross_entropy":
        return _PlainCE(ignore_index=ignore_value)
    if loss_type == "hard_pixel_mining":
        return DeepLabCE(ignore_label=ignore_value, top_k_percent_pixels=top_k)
    known = ("cross_entropy", "hard_pixel_mining")
    raise unknown_name("MODEL.SEM_SEG_HEAD.LOSS_TYPE", loss_type, known)
