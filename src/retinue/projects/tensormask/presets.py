"""Published configs of TensorMask, their weights and scores.

Scores are those of the project's page in https://github.com/facebookresearch/detectron2.
"""

from retinue.model_zoo.overlays import COCO, MASK, R50, SCHEDULE_1X
from retinue.model_zoo.presets import Preset
from retinue.projects.tensormask.config import add_tensormask_config

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = (add_tensormask_config,)

TENSOR_MASK = (
    COCO
    | MASK
    | SCHEDULE_1X
    | {
        "MODEL.META_ARCHITECTURE": "TensorMask",
        "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.FUSE_TYPE": "avg",
        # windows of 11 x 11 and 15 x 15 cells
        "MODEL.ANCHOR_GENERATOR.SIZES": [[11 * 2**k, 15 * 2**k] for k in range(2, 8)],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[1.0]],
        "MODEL.TENSOR_MASK.ALIGNED_ON": True,
        "MODEL.TENSOR_MASK.BIPYRAMID_ON": True,
    }
)
SCHEDULE_6X = {
    "SOLVER.MAX_ITER": 540_000,
    "SOLVER.STEPS": (480_000, 520_000),
    "INPUT.MIN_SIZE_TRAIN": (640, 800),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "range",
}

_WEIGHTS = "detectron2/TensorMask"

PRESETS = {
    "Base-TensorMask.yaml": Preset((TENSOR_MASK,)),
    "tensormask_R_50_FPN_1x.yaml": Preset(
        (TENSOR_MASK, R50),
        f"{_WEIGHTS}/tensormask_R_50_FPN_1x/152549419/model_final_8f325c.pkl",
        {"box_ap": 37.6, "mask_ap": 32.4},
    ),
    "tensormask_R_50_FPN_6x.yaml": Preset(
        (TENSOR_MASK, R50, SCHEDULE_6X),
        f"{_WEIGHTS}/tensormask_R_50_FPN_6x/153538791/model_final_e8df31.pkl",
        {"box_ap": 41.4, "mask_ap": 35.8},
    ),
}
