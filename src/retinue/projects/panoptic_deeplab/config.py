"""Config keys of Panoptic-DeepLab: DeepLab's, and those of the instance branch."""

from retinue.config import CfgNode
from retinue.projects.deeplab.config import add_deeplab_config

__all__ = ["add_panoptic_deeplab_config"]


def add_panoptic_deeplab_config(cfg: CfgNode) -> None:
    """Add Panoptic-DeepLab's keys to a config, DeepLab's included, in place."""
    add_deeplab_config(cfg)

    # Targets: a bump of this many pixels at each centre; offsets for things alone; pixels of
    # instances smaller than an area weigh more.
    cfg.INPUT.GAUSSIAN_SIGMA = 10
    cfg.INPUT.IGNORE_STUFF_IN_OFFSET = True
    cfg.INPUT.SMALL_INSTANCE_AREA = 4096
    cfg.INPUT.SMALL_INSTANCE_WEIGHT = 3
    cfg.INPUT.IGNORE_CROWD_IN_SEMANTIC = False

    cfg.SOLVER.OPTIMIZER = "ADAM"  # or "SGD"

    cfg.MODEL.SEM_SEG_HEAD.HEAD_CHANNELS = 256
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TOP_K = 0.2  # part of the pixels that hard pixel mining keeps

    # The head that predicts centres, and where each pixel's centre is.
    cfg.MODEL.INS_EMBED_HEAD = CfgNode(
        {
            "NAME": "PanopticDeepLabInsEmbedHead",
            "IN_FEATURES": ["res2", "res3", "res5"],
            "PROJECT_FEATURES": ["res2", "res3"],
            "PROJECT_CHANNELS": [32, 64],
            "ASPP_CHANNELS": 256,
            "ASPP_DILATIONS": [6, 12, 18],
            "ASPP_DROPOUT": 0.1,
            "HEAD_CHANNELS": 32,
            "CONVS_DIM": 128,
            "COMMON_STRIDE": 4,
            "NORM": "SyncBN",
            "CENTER_LOSS_WEIGHT": 200.0,
            "OFFSET_LOSS_WEIGHT": 0.01,
        }
    )
    cfg.MODEL.PANOPTIC_DEEPLAB = CfgNode(
        {
            "STUFF_AREA": 2048,  # pixels; smaller regions of stuff become void
            "CENTER_THRESHOLD": 0.1,
            "NMS_KERNEL": 7,  # a centre is the maximum of a square of this side
            "TOP_K_INSTANCE": 200,
            "PREDICT_INSTANCES": True,  # give "instances" beside "panoptic_seg"
            "USE_DEPTHWISE_SEPARABLE_CONV": False,
            "SIZE_DIVISIBILITY": -1,  # of the padded batch; by default the backbone's
            "BENCHMARK_NETWORK_SPEED": False,  # skip everything behind the network
        }
    )
