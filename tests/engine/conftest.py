"""Small models and data for the tests of training."""

import pytest
import torch
from torch import nn


class Line(nn.Module):
    """Two losses of a linear layer; its input is a batch ``(N, 3)``."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, batch):
        out = self.norm(self.layer(batch))
        return {"loss_a": (out[:, 0] - 1).square().mean(), "loss_b": out[:, 1].abs().mean()}


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def batches():
    """Ten batches, the same ones in each test."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, generator=generator) for _ in range(10)]


@pytest.fixture
def sgd():
    return lambda model, lr=0.1: torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
