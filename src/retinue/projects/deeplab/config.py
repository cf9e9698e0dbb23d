"""Config keys of DeepLab."""

from retinue.config import CfgNode

__all__ = ["add_deeplab_config"]


def add_deeplab_config(cfg: CfgNode) -> None:
    """Add DeepLab's keys to a config, in place."""
    # Crops are drawn again as long as one class covers more than this part of the crop.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0

    # The rate falls as (1 - progress) ** POWER, to no less than this part of it.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0

    head = cfg.MODEL.SEM_SEG_HEAD
    head.LOSS_TYPE = "hard_pixel_mining"  # or "cross_entropy"
    # Finer feature maps that the decoder of V3+ adds, and the channels each is reduced to.
    head.PROJECT_FEATURES = ["res2"]
    head.PROJECT_CHANNELS = [48]
    head.ASPP_CHANNELS = 256
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1
    head.USE_DEPTHWISE_SEPARABLE_CONV = False

    resnet = cfg.MODEL.RESNETS
    resnet.RES4_DILATION = 1
    resnet.RES5_MULTI_GRID = [1, 2, 4]  # times RES5_DILATION, for each block
    resnet.STEM_TYPE = "deeplab"  # or "basic"
