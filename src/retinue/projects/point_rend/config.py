"""Config keys of PointRend and Implicit PointRend."""

from retinue.config import CfgNode

__all__ = ["add_pointrend_config"]


def add_pointrend_config(cfg: CfgNode) -> None:
    """Add PointRend's keys to a config, in place."""
    # Crops are drawn again as long as one class covers more than this part of the crop.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
    cfg.INPUT.COLOR_AUG_SSD = False  # change colours as SSD does

    # The head that predicts a coarse mask (or, in the implicit form, parameters) for each region.
    mask_head = cfg.MODEL.ROI_MASK_HEAD
    mask_head.IN_FEATURES = ("p2",)
    mask_head.FC_DIM = 1024
    mask_head.NUM_FC = 2
    mask_head.OUTPUT_SIDE_RESOLUTION = 7
    mask_head.POINT_HEAD_ON = False

    # The head that predicts a mask value, or a class, at a point.
    cfg.MODEL.POINT_HEAD = CfgNode(
        {
            "NAME": "StandardPointHead",
            "NUM_CLASSES": 80,
            "IN_FEATURES": ("p2",),
            "FC_DIM": 256,
            "NUM_FC": 3,
            "CLS_AGNOSTIC_MASK": False,
            "COARSE_PRED_EACH_LAYER": True,  # every layer sees the coarse prediction
            "COARSE_SEM_SEG_HEAD_NAME": "SemSegFPNHead",
            # Training: of OVERSAMPLE_RATIO times as many random points, the most uncertain make up
            # this part of the points trained on; the rest are random. k and beta of the paper.
            "TRAIN_NUM_POINTS": 14 * 14,
            "OVERSAMPLE_RATIO": 3,
            "IMPORTANCE_SAMPLE_RATIO": 0.75,
            # Inference: each step doubles the size and predicts the most uncertain points anew.
            "SUBDIVISION_STEPS": 5,
            "SUBDIVISION_NUM_POINTS": 28 * 28,
        }
    )
    # The point head as a network of which a region's features give the weights.
    cfg.MODEL.IMPLICIT_POINTREND = CfgNode(
        {
            "IMAGE_FEATURE_ENABLED": True,  # it sees image features at the point,
            "POS_ENC_ENABLED": True,  # and where in the region the point is
            "PARAMS_L2_REGULARIZER": 1e-5,
        }
    )
