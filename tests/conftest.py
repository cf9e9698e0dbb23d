"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail.
too_slow = [HealthCheck.too_slow]
settings.register_profile("any machine", deadline=None, suppress_health_check=too_slow)
settings.load_profile("any machine")
