"""Projective maps of the plane, one for each entry of a batch.

Shapes
    B maps; N points each.
"""

from __future__ import annotations

import torch

from retinue.utils.errors import InputError, expect_shape

__all__ = ["ProjectiveTransform"]


class ProjectiveTransform:
    """``(x, y, 1)`` times a matrix, divided by its third coordinate.

    Args:
        matrix: ``(B, 3, 3)``; one that changes nothing by default.

    Example:
        >>> double = ProjectiveTransform(torch.diag(torch.tensor([2.0, 2.0, 1.0]))[None])
        >>> double(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[[2.0, 6.0]]]
    """

    def __init__(self, matrix: torch.Tensor | None = None) -> None:
        matrix = torch.eye(3)[None] if matrix is None else matrix
        expect_shape("ProjectiveTransform: matrix", matrix, ("B", 3, 3))
        self.params = matrix

    def __call__(self, coords: torch.Tensor) -> torch.Tensor:
        """Map ``(B, N, 2)`` points."""
        return _apply(self.params, coords)

    def inverse(self, coords: torch.Tensor) -> torch.Tensor:
        """Map ``(B, N, 2)`` points back."""
        return _apply(torch.linalg.inv(self.params), coords)

    def estimate(self, src: torch.Tensor, dst: torch.Tensor) -> bool:
        """Become the map from points to points, the best in the least squares of its equations.

        Each pair of points gives two linear equations for the matrix, which is found up to a
        factor, and gets norm 1: the last right singular vector of all equations.

        Args:
            src: ``(B, N, 2)``, at least four points, no three of them on a line.
            dst: the same shape.

        Returns:
            Whether there is one; if not, the matrices are 0.

        Raises:
            InputError: If the shapes differ.
        """
        if src.shape != dst.shape:
            raise InputError(
                "ProjectiveTransform.estimate: expected as many points to map from as to map to;"
                f" got {tuple(src.shape)} and {tuple(dst.shape)}"
            )
        x, y = src.unbind(dim=2)  # (B, N)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        equations = [
            torch.stack((*rows, -u * x, -u * y, -u), dim=2)
            for u, rows in (
                (dst[..., 0], (x, y, one, zero, zero, zero)),
                (dst[..., 1], (zero, zero, zero, x, y, one)),
            )
        ]
        stacked = torch.cat(equations, dim=1)  # (B, 2 N, 9)
        found = bool(torch.isfinite(stacked).all())
        self.params = src.new_zeros(len(src), 3, 3)
        if found:
            self.params = torch.linalg.svd(stacked).Vh[:, -1].reshape(-1, 3, 3)
        return found


def _apply(matrix: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
    expect_shape("ProjectiveTransform: coords", coords, (len(matrix), "N", 2))
    mapped = coords @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]
    return mapped[..., :2] / mapped[..., 2:]
