"""Config keys of PointSup."""

from retinue.config import CfgNode

__all__ = ["add_point_sup_config"]


def add_point_sup_config(cfg: CfgNode) -> None:
    """Add PointSup's keys to a config, in place."""
    cfg.INPUT.POINT_SUP = False  # learn masks from points
    cfg.INPUT.SAMPLE_POINTS = 0  # so many of each object's points, drawn anew each time; 0 is all
