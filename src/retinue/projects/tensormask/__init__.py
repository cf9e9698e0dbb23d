"""TensorMask: instance masks from a sliding window, each a small picture at every place.

Chen et al., "TensorMask: A Foundation for Dense Object Segmentation" (2019),
https://arxiv.org/abs/1903.12174.

Reading order: arch (the model, what each window should find), head (its predictions),
layers.swap_align2nat (from the pixel's view of windows to the window's view of pixels), anchors.
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.tensormask"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "TensorMask": f"{_HERE}.arch",
        "add_tensormask_config": f"{_HERE}.config",
        "anchors": "",
        "arch": "",
        "config": "",
        "head": "",
        "layers": "",
        "presets": "",
        "training": "",
    },
)
