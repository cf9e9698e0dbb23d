"""Config keys of TensorMask."""

from retinue.config import CfgNode

__all__ = ["add_tensormask_config"]


def add_tensormask_config(cfg: CfgNode) -> None:
    """Add TensorMask's keys to a config, in place."""
    cfg.MODEL.TENSOR_MASK = CfgNode(
        {
            "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6", "p7"],
            "NUM_CONVS": 4,  # of each branch of the head
            # Classes
            "NUM_CLASSES": 80,
            "CLS_CHANNELS": 256,
            "FOCAL_LOSS_GAMMA": 3.0,
            "FOCAL_LOSS_ALPHA": 0.3,
            "SCORE_THRESH_TEST": 0.05,
            "TOPK_CANDIDATES_TEST": 6000,
            "NMS_THRESH_TEST": 0.5,
            # Boxes
            "BBOX_CHANNELS": 128,
            "BBOX_REG_WEIGHTS": (1.5, 1.5, 0.75, 0.75),
            # Masks
            "MASK_CHANNELS": 128,
            "MASK_LOSS_WEIGHT": 2.0,
            "POSITIVE_WEIGHT": 1.5,  # of cells inside the object
            "ALIGNED_ON": False,  # predict in the pixel's view
            "BIPYRAMID_ON": False,  # larger masks on coarser levels
        }
    )
