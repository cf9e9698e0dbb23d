"""What holds for all tests."""

import logging

import pytest
from hypothesis import HealthCheck, settings

from retinue.utils import logger as logger_module

# A busy machine is no reason to fail.
too_slow = [HealthCheck.too_slow]
settings.register_profile("any machine", deadline=None, suppress_health_check=too_slow)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _loggers_as_before():
    """Undo what a test does to loggers, so that the next one hears what it would hear alone."""
    loggers = [logging.getLogger(name) for name in (None, "retinue", "detectron2", "fvcore")]
    before = [(x.level, x.propagate, x.disabled, [*x.handlers], [*x.filters]) for x in loggers]
    yield
    for x, state in zip(loggers, before, strict=True):
        level, x.propagate, x.disabled, x.handlers[:], x.filters[:] = state
        x.setLevel(level)  # also forgets which levels are enabled
    logger_module.setup_logger.cache_clear()
    logger_module._LOG_COUNTER.clear()
    logger_module._LOG_TIMER.clear()
