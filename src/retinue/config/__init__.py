"""The two ways to write a config: trees of keys with defaults, and lazy calls in Python files."""

from retinue.config.compat import downgrade_config, upgrade_config
from retinue.config.config import CfgNode, global_cfg, set_global_cfg
from retinue.config.configurable import configurable
from retinue.config.defaults import get_cfg
from retinue.config.instantiate import instantiate
from retinue.config.lazy import LazyCall, LazyConfig

__all__ = [
    "CfgNode",
    "LazyCall",
    "LazyConfig",
    "configurable",
    "downgrade_config",
    "get_cfg",
    "global_cfg",
    "instantiate",
    "set_global_cfg",
    "upgrade_config",
]
