"""Which ground-truth object each predicted element stands for.

Shapes
    M ground-truth objects; N predicted elements, such as anchors or proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from retinue.utils.errors import InputError, expect_shape

__all__ = ["Matcher"]


class Matcher:
    """Match each element to the object it fits best, and label it by how well it fits.

    Args:
        thresholds: limits of quality, ascending, the first above zero.
        labels: one for each stretch between limits, so one more than ``thresholds``: -1 ignore,
            0 background, 1 foreground. A quality equal to a limit belongs to the stretch above.
        allow_low_quality_matches: call foreground, too, the elements that fit an object best.

    Raises:
        InputError: If limits or labels don't fit together.

    Example:
        >>> matcher = Matcher([0.3, 0.7], [0, -1, 1])
        >>> matcher(torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.6, 0.0]]))
        (tensor([0, 1, 0]), tensor([ 1, -1,  0], dtype=torch.int8))
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        labels: Sequence[int],
        allow_low_quality_matches: bool = False,
    ) -> None:
        thresholds, labels = list(thresholds), list(labels)
        if not thresholds or thresholds[0] <= 0 or any(a > b for a, b in pairwise(thresholds)):
            raise InputError(
                f"Matcher: thresholds must be positive and ascending; got {thresholds}"
            )
        if len(labels) != len(thresholds) + 1:
            raise InputError(
                f"Matcher: {len(thresholds)} thresholds make {len(thresholds) + 1} stretches;"
                f" got {len(labels)} labels: {labels}"
            )
        if not set(labels) <= {-1, 0, 1}:
            raise InputError(f"Matcher: labels must be -1, 0 or 1; got {labels}")
        self.thresholds = [-float("inf"), *thresholds, float("inf")]
        self.labels = labels
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Match every element.

        Args:
            match_quality_matrix: ``(M, N)``, such as IoU; 0 or more.

        Returns:
            ``(N,)`` int64 objects in [0, M), 0 if there are none, and ``(N,)`` int8 labels.

        Raises:
            InputError: If there aren't two dimensions, or a quality is negative or not a number.
        """
        quality = match_quality_matrix
        expect_shape("Matcher: match_quality_matrix", quality, ("M", "N"))
        if quality.numel() == 0:
            matches = quality.new_zeros(quality.shape[1], dtype=torch.int64)
            return matches, matches.new_full(matches.shape, self.labels[0], dtype=torch.int8)
        lowest = quality.min()
        if not lowest >= 0:
            raise InputError(
                f"Matcher: qualities must be 0 or more; the lowest is {float(lowest):g}"
            )
        best, matches = quality.max(dim=0)
        labels = matches.new_full(matches.shape, self.labels[0], dtype=torch.int8)
        for limit, label in zip(self.thresholds[1:-1], self.labels[1:], strict=True):
            labels.masked_fill_(best >= limit, label)
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(labels, quality)
        return matches, labels

    def set_low_quality_matches_(
        self, match_labels: torch.Tensor, match_quality_matrix: torch.Tensor
    ) -> None:
        """Call foreground, in place, the elements that fit some object as well as any does.

        Case (i) of section 3.1.2 of Ren et al., "Faster R-CNN" (2015),
        https://arxiv.org/abs/1506.01497; it keeps small objects from having no anchor. The
        element stays matched to the object that fits it best, which may be another one.
        """
        best_for_object = match_quality_matrix.amax(dim=1, keepdim=True)
        match_labels.masked_fill_((match_quality_matrix == best_for_object).any(dim=0), 1)
