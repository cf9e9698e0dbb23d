"""Checkpoints: reading any of them safely, saving them whole, resuming from them."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Checkpointer": "retinue.checkpoint.checkpointer",
        "DetectionCheckpointer": "retinue.checkpoint.detection_checkpoint",
        "PeriodicCheckpointer": "retinue.checkpoint.checkpointer",
    },
)
