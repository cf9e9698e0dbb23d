"""Config keys of TridentNet."""

from retinue.config import CfgNode

__all__ = ["add_tridentnet_config"]


def add_tridentnet_config(cfg: CfgNode) -> None:
    """Add TridentNet's keys to a config, in place."""
    cfg.MODEL.TRIDENT = CfgNode(
        {
            "NUM_BRANCH": 3,
            "BRANCH_DILATIONS": [1, 2, 3],
            "TRIDENT_STAGE": "res4",  # the stage that is split into branches
            "TEST_BRANCH_IDX": 1,  # the branch used in inference, the fast form; -1 for all
        }
    )
