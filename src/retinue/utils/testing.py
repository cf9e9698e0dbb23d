"""Helpers for tests: see ``retinue.engine.testing``, where it lives."""

from retinue.utils.lazy import forward_module

__getattr__, __dir__ = forward_module(__name__, "retinue.engine.testing")
