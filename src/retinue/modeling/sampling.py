"""Random choice of the elements that a loss is computed on."""

from __future__ import annotations

import torch

__all__ = ["subsample_labels"]


def subsample_labels(
    labels: torch.Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw foreground and background elements.

    Args:
        labels: ``(N,)`` integers: -1 ignored, ``bg_label`` background, anything else foreground.
        num_samples: how many to draw; fewer come if there aren't enough.
        positive_fraction: largest part of foreground, in [0, 1]; background fills the rest.
        bg_label: the label of background.

    Returns:
        Indices of foreground and of background, each in random order. They are drawn from the
        generator of ``labels``' device: first foreground, then background.
    """
    is_background = labels == bg_label
    positive = ((labels != -1) & ~is_background).nonzero().flatten()
    negative = is_background.nonzero().flatten()
    num_positive = min(len(positive), int(num_samples * positive_fraction))
    num_negative = min(len(negative), num_samples - num_positive)
    # Permutations, as detectron2 draws: the same seed draws the same elements.
    chosen_positive = torch.randperm(len(positive), device=labels.device)[:num_positive]
    chosen_negative = torch.randperm(len(negative), device=labels.device)[:num_negative]
    return positive[chosen_positive], negative[chosen_negative]
