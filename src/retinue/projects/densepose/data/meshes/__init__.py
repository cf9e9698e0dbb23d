"""Meshes of people and animals: where their files are."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "builtin": "",
        "catalog": "",
    },
)
