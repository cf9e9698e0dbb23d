"""Transforms of batches of images."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.data.transform"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ImageResizeTransform": f"{_HERE}.image",
        "image": "",
    },
)
