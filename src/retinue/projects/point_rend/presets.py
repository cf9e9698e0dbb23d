"""Published configs of PointRend, their weights and scores.

Scores are those of the project's page in https://github.com/facebookresearch/detectron2.
"""

from retinue.model_zoo.overlays import (
    CITYSCAPES,
    CITYSCAPES_SEMANTIC,
    COCO_STUFF,
    FPN,
    IMAGENET_STD,
    MASK,
    R50,
    R101,
    SCHEDULE_3X,
    X101,
)
from retinue.model_zoo.presets import Preset
from retinue.projects.point_rend.config import add_pointrend_config

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = (add_pointrend_config,)

_BITMASK_FPN = FPN | MASK | {"INPUT.MASK_FORMAT": "bitmask"}
POINT_REND = _BITMASK_FPN | {
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True,
    "MODEL.ROI_MASK_HEAD.NAME": "PointRendMaskHead",
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "",  # the head samples the feature maps itself
    "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON": True,
}
IMPLICIT_POINT_REND = _BITMASK_FPN | {
    "MODEL.ROI_MASK_HEAD.NAME": "ImplicitPointRendMaskHead",
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "",
    "MODEL.POINT_HEAD.NAME": "ImplicitPointHead",
    "MODEL.POINT_HEAD.SUBDIVISION_STEPS": 3,
}
SEMANTIC_POINT_REND = (
    FPN
    | COCO_STUFF
    | {
        "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
        "MODEL.BACKBONE.FREEZE_AT": 0,
        "MODEL.SEM_SEG_HEAD.NAME": "PointRendSemSegHead",
        "MODEL.POINT_HEAD.NUM_CLASSES": 54,
        "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 1024,
        "MODEL.POINT_HEAD.SUBDIVISION_STEPS": 2,
        "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 8192,
        "MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER": False,
    }
)
# Cityscapes, trained from ImageNet weights at the library's own evaluation period.
CITYSCAPES_INSTANCES = CITYSCAPES | R50 | {"TEST.EVAL_PERIOD": 0, "MODEL.POINT_HEAD.NUM_CLASSES": 8}
CITYSCAPES_CROPS = CITYSCAPES_SEMANTIC | {
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 0.75,
    "INPUT.COLOR_AUG_SSD": True,
    "MODEL.POINT_HEAD.NUM_CLASSES": 19,
    "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 2048,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.IMS_PER_BATCH": 32,
    "SOLVER.MAX_ITER": 65_000,
    "SOLVER.STEPS": (40_000, 55_000),
}

_INSTANCE = "detectron2/PointRend/InstanceSegmentation"
_SEMANTIC = "detectron2/PointRend/SemanticSegmentation"

PRESETS = {
    "InstanceSegmentation/Base-Implicit-PointRend.yaml": Preset((IMPLICIT_POINT_REND,)),
    "InstanceSegmentation/Base-PointRend-RCNN-FPN.yaml": Preset((POINT_REND,)),
    "InstanceSegmentation/implicit_pointrend_R_50_FPN_1x_coco.yaml": Preset(
        (IMPLICIT_POINT_REND, R50)
    ),
    "InstanceSegmentation/implicit_pointrend_R_50_FPN_3x_coco.yaml": Preset(
        (IMPLICIT_POINT_REND, R50, SCHEDULE_3X)
    ),
    "InstanceSegmentation/pointrend_rcnn_R_101_FPN_3x_coco.yaml": Preset(
        (POINT_REND, R101, SCHEDULE_3X),
        f"{_INSTANCE}/pointrend_rcnn_R_101_FPN_3x_coco/28119983/model_final_3f4d2a.pkl",
        {"mask_ap": 40.1, "mask_ap_lvis": 43.8},
    ),
    "InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_cityscapes.yaml": Preset(
        (POINT_REND, CITYSCAPES_INSTANCES),
        f"{_INSTANCE}/pointrend_rcnn_R_50_FPN_1x_cityscapes/164255101/model_final_115bfb.pkl",
        {"mask_ap": 35.9},
    ),
    "InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml": Preset(
        (POINT_REND, R50),
        f"{_INSTANCE}/pointrend_rcnn_R_50_FPN_1x_coco/164254221/model_final_736f5a.pkl",
        {"mask_ap": 36.2, "mask_ap_lvis": 39.7},
    ),
    "InstanceSegmentation/pointrend_rcnn_R_50_FPN_3x_coco.yaml": Preset(
        (POINT_REND, R50, SCHEDULE_3X),
        f"{_INSTANCE}/pointrend_rcnn_R_50_FPN_3x_coco/164955410/model_final_edd263.pkl",
        {"mask_ap": 38.3, "mask_ap_lvis": 41.6},
    ),
    "InstanceSegmentation/pointrend_rcnn_X_101_32x8d_FPN_3x_coco.yaml": Preset(
        (POINT_REND, X101, IMAGENET_STD, SCHEDULE_3X),
        f"{_INSTANCE}/pointrend_rcnn_X_101_32x8d_FPN_3x_coco/28119989/model_final_ba17b9.pkl",
        {"mask_ap": 41.1, "mask_ap_lvis": 44.7},
    ),
    "SemanticSegmentation/Base-PointRend-Semantic-FPN.yaml": Preset((SEMANTIC_POINT_REND,)),
    "SemanticSegmentation/pointrend_semantic_R_101_FPN_1x_cityscapes.yaml": Preset(
        (SEMANTIC_POINT_REND, R101, CITYSCAPES_CROPS),
        f"{_SEMANTIC}/pointrend_semantic_R_101_FPN_1x_cityscapes/202576688/model_final_cf6ac1.pkl",
        {"miou": 78.9},
    ),
}
