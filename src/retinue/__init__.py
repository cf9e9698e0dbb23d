"""Object detection and segmentation in pure PyTorch; the successor of detectron2.

Importing this package imports next to nothing: each name below is looked up when first used.
"""

from retinue.utils.lazy import lazy_exports

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Detector": "retinue.engine.api",
        "evaluate": "retinue.engine.api",
        "from_pretrained": "retinue.engine.hub",
        "load": "retinue.engine.api",
        "push_to_hub": "retinue.engine.hub",
        "save_pretrained": "retinue.engine.hub",
        "train": "retinue.engine.api",
        "taps": "retinue.modeling.taps",
    },
)
