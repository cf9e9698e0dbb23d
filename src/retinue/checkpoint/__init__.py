"""Checkpoints: reading any of them safely, saving them whole, resuming from them.

Reading order: ``files`` (formats), ``reader`` (what files mean), ``names`` and
``c2_model_loading`` (whose names), ``report``; then ``checkpointer``, ``periodic`` and
``detection_checkpoint``, which load into models and save; ``writer``, ``sharded`` and ``convert``.
"""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Checkpoint": "retinue.checkpoint.reader",
        "Checkpointer": "retinue.checkpoint.checkpointer",
        "DetectionCheckpointer": "retinue.checkpoint.detection_checkpoint",
        "LoadReport": "retinue.checkpoint.report",
        "PeriodicCheckpointer": "retinue.checkpoint.periodic",
        "convert_checkpoint": "retinue.checkpoint.convert",
        "list_checkpoint": "retinue.checkpoint.reader",
        "read_checkpoint": "retinue.checkpoint.reader",
        "write_checkpoint": "retinue.checkpoint.writer",
    },
)
