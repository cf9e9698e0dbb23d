"""Datasets: people of COCO, animals of LVIS, and chimpanzees."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "builtin": "",
        "chimpnsee": "",
        "coco": "",
        "dataset_type": "",
        "lvis": "",
    },
)
