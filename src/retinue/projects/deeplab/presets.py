"""Published configs of DeepLab, their weights and scores.

Scores are those of the project's page in https://github.com/facebookresearch/detectron2.
"""

from retinue.model_zoo.overlays import CITYSCAPES_SEMANTIC, DC5, SCHEDULE_1X
from retinue.model_zoo.presets import Preset
from retinue.projects.deeplab.config import add_deeplab_config

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = (add_deeplab_config,)

# ImageNet weights, in RGB, of ResNets whose stem has three 3x3 convolutions.
DEEPLAB_RESNET = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.BACKBONE.NAME": "build_resnet_deeplab_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 128,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.SEM_SEG_HEAD.NORM": "SyncBN",
}
POLY_90K = {
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR",
    "SOLVER.MAX_ITER": 90_000,
}
DEEPLAB_V3 = (
    DC5
    | SCHEDULE_1X
    | CITYSCAPES_SEMANTIC
    | POLY_90K
    | {
        "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
        "MODEL.BACKBONE.FREEZE_AT": 0,
        "MODEL.SEM_SEG_HEAD.NAME": "DeepLabV3Head",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res5"],
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 256,
        "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 16,
    }
)
R103 = DEEPLAB_RESNET | {
    "MODEL.RESNETS.DEPTH": 101,
    "MODEL.WEIGHTS": "detectron2://DeepLab/R-103.pkl",
}
PLUS = {
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res5"],
    "MODEL.SEM_SEG_HEAD.NAME": "DeepLabV3PlusHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2", "res5"],
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 4,
}

_CITYSCAPES = "detectron2/DeepLab/Cityscapes-SemanticSegmentation"

PRESETS = {
    "Cityscapes-SemanticSegmentation/Base-DeepLabV3-OS16-Semantic.yaml": Preset((DEEPLAB_V3,)),
    "Cityscapes-SemanticSegmentation/deeplab_v3_R_103_os16_mg124_poly_90k_bs16.yaml": Preset(
        (DEEPLAB_V3, R103),
        f"{_CITYSCAPES}/deeplab_v3_R_103_os16_mg124_poly_90k_bs16/28041665/model_final_0dff1b.pkl",
        {"miou": 78.5},
    ),
    "Cityscapes-SemanticSegmentation/deeplab_v3_plus_R_103_os16_mg124_poly_90k_bs16.yaml": Preset(
        (DEEPLAB_V3, R103, PLUS),
        f"{_CITYSCAPES}/deeplab_v3_plus_R_103_os16_mg124_poly_90k_bs16/28054032/"
        "model_final_a8a355.pkl",
        {"miou": 80.0},
    ),
}
