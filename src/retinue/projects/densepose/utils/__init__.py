"""Files, logging levels and selecting entries of a dump."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "dbhelper": "",
        "logger": "",
        "transform": "",
    },
)
