"""The training loop, its hooks, and the defaults that put everything together."""

# Not looked up when asked for, like the others: the module of the same name would be found instead.
from retinue.engine.launch import DEFAULT_TIMEOUT, launch
from retinue.utils.lazy import lazy_exports

_DEFAULTS = "retinue.engine.defaults"
_HOOKS = "retinue.engine.hooks"
_LOOP = "retinue.engine.train_loop"

__getattr__, __dir__, _lazy = lazy_exports(
    __name__,
    {
        "AMPTrainer": _LOOP,
        "AutogradProfiler": _HOOKS,
        "BestCheckpointer": _HOOKS,
        "CallbackHook": _HOOKS,
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
    },
)

__all__ = ["DEFAULT_TIMEOUT", "launch"]
__all__ += _lazy
