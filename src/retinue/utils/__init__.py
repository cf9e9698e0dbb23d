"""Helpers that know no model: registries, errors, events, logging, files."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, {})
