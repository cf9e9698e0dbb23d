"""Training on a GPU: no waiting in a step, mixed precision, and what is not finite."""

import pytest
import torch
from torch import nn

from retinue.engine import AMPTrainer, NonFiniteLossError, SimpleTrainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, batch):
        out = self.layers(batch)
        return {"loss_a": out.square().mean(), "loss_b": (out[:, 0] - 1).abs().mean()}


@pytest.fixture
def parts():
    torch.manual_seed(0)
    model = Layers().cuda()
    batches = [torch.randn(16, 64, device="cuda") for _ in range(8)]
    return model, batches, torch.optim.SGD(model.parameters(), lr=0.1, foreach=True)


def test_a_step_does_not_wait_for_the_device(parts):
    trainer = SimpleTrainer(*parts)
    trainer.train(0, 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.train(0, 6)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(trainer.storage.history("total_loss").values()) == 6


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_mixed_precision_learns(parts, precision):
    trainer = AMPTrainer(*parts, precision=precision)
    trainer.train(0, 40)
    losses = [value for value, _ in trainer.storage.history("total_loss").values()]
    assert losses[-1] < 0.5 * losses[0]
    assert trainer.grad_scaler.is_enabled() == (precision == torch.float16)


@pytest.mark.parametrize("kind", [SimpleTrainer, AMPTrainer])
def test_it_stops_before_the_weights_change(parts, kind):
    model, batches, optimizer = parts
    batches[3][0, 0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="iteration 3: the loss is not finite"):
        kind(model, batches, optimizer).train(0, 8)
    assert all(torch.isfinite(p).all() for p in model.parameters())
