"""Published configs of TridentNet, their weights and scores.

Scores are those of the project's page in https://github.com/facebookresearch/detectron2.
"""

from retinue.model_zoo.overlays import C4, R50, R101, SCHEDULE_3X
from retinue.model_zoo.presets import Preset
from retinue.projects.tridentnet.config import add_tridentnet_config

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = (add_tridentnet_config,)

TRIDENT_C4 = dict(C4) | {
    "MODEL.BACKBONE.NAME": "build_trident_resnet_backbone",
    "MODEL.PROPOSAL_GENERATOR.NAME": "TridentRPN",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 500,  # a branch
    "MODEL.ROI_HEADS.NAME": "TridentRes5ROIHeads",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 128,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.5,
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": False,
}

_WEIGHTS = "detectron2/TridentNet"

PRESETS = {
    "Base-TridentNet-Fast-C4.yaml": Preset((TRIDENT_C4,)),
    "tridentnet_fast_R_101_C4_3x.yaml": Preset(
        (TRIDENT_C4, R101, SCHEDULE_3X),
        f"{_WEIGHTS}/tridentnet_fast_R_101_C4_3x/148572198/model_final_164568.pkl",
        {"box_ap": 43.6},
    ),
    "tridentnet_fast_R_50_C4_1x.yaml": Preset(
        (TRIDENT_C4, R50),
        f"{_WEIGHTS}/tridentnet_fast_R_50_C4_1x/148572687/model_final_756cda.pkl",
        {"box_ap": 38.0},
    ),
    "tridentnet_fast_R_50_C4_3x.yaml": Preset(
        (TRIDENT_C4, R50, SCHEDULE_3X),
        f"{_WEIGHTS}/tridentnet_fast_R_50_C4_3x/148572287/model_final_e1027c.pkl",
        {"box_ap": 40.6},
    ),
}
