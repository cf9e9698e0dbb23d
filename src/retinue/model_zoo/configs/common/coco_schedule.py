"""Learning-rate schedules for COCO at 16 images a batch; 1x is 90,000 iterations."""

from omegaconf import DictConfig

from retinue.config import LazyCall as L
from retinue.solver import WarmupParamScheduler
from retinue.solver.param_scheduler import MultiStepParamScheduler


def default_X_scheduler(num_X: int) -> DictConfig:
    """Return the schedule of length ``num_X`` times 90,000 iterations.

    The rate falls to a tenth 60,000 and 20,000 iterations before the end (1x and 2x: in
    proportion to 1x), after 1,000 iterations of warm-up.
    """
    total = num_X * 90_000
    milestones = [60_000, 80_000, 90_000] if num_X <= 2 else [total - 60_000, total - 20_000, total]
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=milestones),
        warmup_length=1000 / total,
        warmup_method="linear",
        warmup_factor=0.001,
    )


lr_multiplier_1x = default_X_scheduler(1)
lr_multiplier_2x = default_X_scheduler(2)
lr_multiplier_3x = default_X_scheduler(3)
lr_multiplier_6x = default_X_scheduler(6)
lr_multiplier_9x = default_X_scheduler(9)
