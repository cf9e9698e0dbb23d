"""Config keys of Mesh R-CNN."""

from retinue.projects.meshrcnn.config.config import get_meshrcnn_cfg_defaults

__all__ = ["get_meshrcnn_cfg_defaults"]
