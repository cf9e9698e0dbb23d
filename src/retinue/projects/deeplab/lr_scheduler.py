"""The learning rate of DeepLab: a power of the part of training that is left."""

import torch

from retinue.solver.lr_scheduler import LRScheduler, _get_warmup_factor_at_iter

__all__ = ["WarmupPolyLR"]


class WarmupPolyLR(LRScheduler):
    """``(1 - iteration / max_iters) ** power``, times warm-up.

    Args:
        optimizer: whose rates are set.
        max_iters: where the rate reaches 0.
        warmup_factor: of the rate at the start.
        warmup_iters: how long the rate rises from there.
        warmup_method: ``"linear"`` or ``"constant"``.
        last_epoch: the last iteration done, or -1 before the first.
        power: of the decay.
        constant_ending: the decay stops at this part of the initial rate.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
        power: float = 0.9,
        constant_ending: float = 0.0,
    ) -> None:
        self.max_iters = max_iters
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        self.power = power
        self.constant_ending = constant_ending
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the rate of each parameter group at this iteration."""
        warmup = _get_warmup_factor_at_iter(
            self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor
        )
        decay = (1 - self.last_epoch / self.max_iters) ** self.power
        if warmup == 1:
            decay = max(decay, self.constant_ending)
        return [base_lr * warmup * decay for base_lr in self.base_lrs]

    def _compute_values(self) -> list[float | torch.Tensor]:
        return self.get_lr()
