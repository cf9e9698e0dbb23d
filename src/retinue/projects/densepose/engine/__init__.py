"""Training."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.engine"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Trainer": f"{_HERE}.trainer",
        "trainer": "",
    },
)
