"""Counting parameters and operations: see ``retinue.export.analysis``, where it lives."""

from retinue.utils.lazy import forward_module

__getattr__, __dir__ = forward_module(__name__, "retinue.export.analysis")
