"""Published configs of PointSup; their weights are not published."""

from retinue.model_zoo.overlays import FPN, MASK, R50, SCHEDULE_3X
from retinue.model_zoo.presets import Preset
from retinue.projects.point_rend.config import add_pointrend_config
from retinue.projects.point_rend.presets import IMPLICIT_POINT_REND
from retinue.projects.point_sup.config import add_point_sup_config

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = (add_pointrend_config, add_point_sup_config)

TEN_POINTS = {
    "DATASETS.TRAIN": ("coco_2017_train_points_n10_v1_without_masks",),
    "INPUT.POINT_SUP": True,
}
HALF_OF_THEM = {"INPUT.SAMPLE_POINTS": 5}
MASK_RCNN = (
    FPN
    | MASK
    | R50
    | SCHEDULE_3X
    | {"MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsamplePointSupHead"}
)
IMPLICIT = (
    IMPLICIT_POINT_REND
    | R50
    | SCHEDULE_3X
    | {"MODEL.ROI_MASK_HEAD.NAME": "ImplicitPointRendPointSupHead"}
)

PRESETS = {
    "implicit_pointrend_R_50_FPN_3x_point_sup_point_aug_coco.yaml": Preset(
        (IMPLICIT, TEN_POINTS, HALF_OF_THEM)
    ),
    "mask_rcnn_R_50_FPN_3x_point_sup_coco.yaml": Preset((MASK_RCNN, TEN_POINTS)),
    "mask_rcnn_R_50_FPN_3x_point_sup_point_aug_coco.yaml": Preset(
        (MASK_RCNN, TEN_POINTS, HALF_OF_THEM)
    ),
}
