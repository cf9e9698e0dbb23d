"""The training loop, its hooks, and the defaults that put everything together."""

from retinue.utils.lazy import lazy_exports

_DEFAULTS = "retinue.engine.defaults"
_HOOKS = "retinue.engine.hooks"
_LOOP = "retinue.engine.train_loop"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "AMPTrainer": _LOOP,
        "AutogradProfiler": _HOOKS,
        "BestCheckpointer": _HOOKS,
        "CallbackHook": _HOOKS,
        "DEFAULT_TIMEOUT": "retinue.engine.launch",
        "DefaultPredictor": "retinue.engine.predictor",
        "DefaultTrainer": _DEFAULTS,
        "EarlyStopping": _HOOKS,
        "EvalHook": _HOOKS,
        "HookBase": _LOOP,
        "IterationTimer": _HOOKS,
        "LRScheduler": _HOOKS,
        "NonFiniteLossError": "retinue.engine.non_finite",
        "PeriodicCheckpointer": _HOOKS,
        "PeriodicWriter": _HOOKS,
        "PreciseBN": _HOOKS,
        "SimpleTrainer": _LOOP,
        "TorchMemoryStats": _HOOKS,
        "TorchProfiler": _HOOKS,
        "TrainerBase": _LOOP,
        "TrainingPictures": "retinue.engine.pictures",
        "ValidationLoss": "retinue.engine.validation_loss",
        "create_ddp_model": _DEFAULTS,
        "default_argument_parser": "retinue.engine.setup",
        "default_setup": "retinue.engine.setup",
        "default_writers": _DEFAULTS,
        "launch": "retinue.engine.launch",
    },
)
