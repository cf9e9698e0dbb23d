"""Convolution along the edges of a mesh."""

import torch
from torch import nn

from retinue.utils.errors import unknown_name

__all__ = ["GraphConv"]


class GraphConv(nn.Module):
    """A vertex's new features: a linear map of its own, plus the sum of one over its neighbours.

    ``f'_i = W0 f_i + sum over neighbours j of W1 f_j``, section 3.3 of Mesh R-CNN.

    Args:
        input_dim: features of a vertex.
        output_dim: new features.
        init: how the weights begin: ``"normal"`` with deviation 0.01, or ``"zero"``.
        directed: let edges lead from their second vertex to their first only.

    Raises:
        UnknownNameError: If ``init`` is neither.
    """

    def __init__(
        self, input_dim: int, output_dim: int, init: str = "normal", directed: bool = False
    ) -> None:
        super().__init__()
        deviations = {"normal": 0.01, "zero": 0.0}
        if init not in deviations:
            raise unknown_name("init of GraphConv", init, deviations)
        self.directed = directed
        self.w0 = nn.Linear(input_dim, output_dim)
        self.w1 = nn.Linear(input_dim, output_dim)
        for layer in (self.w0, self.w1):
            nn.init.normal_(layer.weight, std=deviations[init])
            nn.init.zeros_(layer.bias)

    def forward(self, verts: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Map ``(V, input_dim)`` features to ``(V, output_dim)`` along ``(E, 2)`` edges."""
        sent = self.w1(verts)
        first, second = edges.unbind(dim=1)
        out = self.w0(verts).index_add(0, first, sent[second])
        return out if self.directed else out.index_add(0, second, sent[first])
