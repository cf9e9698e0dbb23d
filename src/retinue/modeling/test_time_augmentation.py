"""Test-time augmentation: see ``retinue.engine.test_time_augmentation``, where it lives."""

from retinue.utils.lazy import forward_module

__getattr__, __dir__ = forward_module(__name__, "retinue.engine.test_time_augmentation")
