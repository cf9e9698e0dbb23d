"""Published configs are files in ``configs``; weights were not published."""

from retinue.model_zoo.presets import Preset

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = ()  # no YAML configs
PRESETS: dict[str, Preset] = {}
