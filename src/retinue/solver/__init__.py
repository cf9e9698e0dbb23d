"""Parameter groups, optimizers and learning-rate schedules."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "LRMultiplier": "retinue.solver.lr_scheduler",
        "LRScheduler": "retinue.solver.lr_scheduler",
        "WarmupCosineLR": "retinue.solver.lr_scheduler",
        "WarmupMultiStepLR": "retinue.solver.lr_scheduler",
        "WarmupParamScheduler": "retinue.solver.lr_scheduler",
        "build_lr_scheduler": "retinue.solver.build",
        "build_optimizer": "retinue.solver.build",
        "get_default_optimizer_params": "retinue.solver.build",
    },
)
