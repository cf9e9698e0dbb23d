"""Every published YAML config as a row: overlays, trained weights, published scores.

Weights are addresses below ``https://dl.fbaipublicfiles.com/detectron2/<name>/``; scores are those
of the model zoo page of https://github.com/facebookresearch/detectron2 (COCO val2017 unless the
name says otherwise).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from retinue.model_zoo.overlays import (
    C4,
    CASCADE,
    CITYSCAPES,
    CLASS_AGNOSTIC,
    DC5,
    DEFORMABLE,
    DETECTRON1,
    DETECTRON1_KEYPOINT,
    DETECTRON1_MASK,
    FPN,
    FROM_SCRATCH,
    GIOU,
    GIVEN_PROPOSALS,
    GN,
    IMAGENET_STD,
    KEYPOINT,
    LARGEST,
    LVIS_V05,
    LVIS_V1,
    MASK,
    PANOPTIC,
    PANOPTIC_GN,
    R50,
    R101,
    RETINANET,
    RPN,
    RPN_ONE_LEVEL,
    SCHEDULE_3X,
    SCHEDULE_3X_BATCH_32,
    SCHEDULE_9X,
    SCHEDULE_BATCH_128,
    SEMANTIC,
    SINGLE_SCALE,
    STRIDE_IN_3X3,
    SYNC_BN,
    VOC,
    X101,
    X152,
    Overlay,
)

__all__ = ["PRESETS", "Preset"]


class Preset(NamedTuple):
    """One published config.

    Attributes:
        overlays: flat config keys, merged left to right over the defaults.
        weights: address of the trained weights, below the folder of the config's name; may be "".
        scores: published numbers by name: ``box_ap``, ``mask_ap``, ``keypoint_ap``, ``pq``,
            ``proposal_ar`` (percent), ``inference_s`` (seconds an image on a V100).
    """

    overlays: tuple[Overlay, ...]
    weights: str = ""
    scores: Mapping[str, float] = {}

    def settings(self) -> dict[str, Any]:
        """Return the flat config keys of all overlays together."""
        merged: dict[str, Any] = {}
        for overlay in self.overlays:
            merged |= overlay
        return merged


PRESETS: dict[str, Preset] = {
    "Base-RCNN-C4": Preset((C4,)),
    "Base-RCNN-DilatedC5": Preset((DC5,)),
    "Base-RCNN-FPN": Preset((FPN,)),
    "Base-RetinaNet": Preset((RETINANET,)),
    "COCO-Detection/fast_rcnn_R_50_FPN_1x": Preset(
        (FPN, R50, GIVEN_PROPOSALS),
        "137635226/model_final_e5f7ce.pkl",
        {"box_ap": 37.8, "inference_s": 0.029},
    ),
    "COCO-Detection/faster_rcnn_R_101_C4_3x": Preset(
        (C4, R101, SCHEDULE_3X),
        "138204752/model_final_298dad.pkl",
        {"box_ap": 41.1, "inference_s": 0.139},
    ),
    "COCO-Detection/faster_rcnn_R_101_DC5_3x": Preset(
        (DC5, R101, SCHEDULE_3X),
        "138204841/model_final_3e0943.pkl",
        {"box_ap": 40.6, "inference_s": 0.086},
    ),
    "COCO-Detection/faster_rcnn_R_101_FPN_3x": Preset(
        (FPN, R101, SCHEDULE_3X),
        "137851257/model_final_f6e8b1.pkl",
        {"box_ap": 42.0, "inference_s": 0.051},
    ),
    "COCO-Detection/faster_rcnn_R_50_C4_1x": Preset(
        (C4, R50), "137257644/model_final_721ade.pkl", {"box_ap": 35.7, "inference_s": 0.102}
    ),
    "COCO-Detection/faster_rcnn_R_50_C4_3x": Preset(
        (C4, R50, SCHEDULE_3X),
        "137849393/model_final_f97cb7.pkl",
        {"box_ap": 38.4, "inference_s": 0.104},
    ),
    "COCO-Detection/faster_rcnn_R_50_DC5_1x": Preset(
        (DC5, R50), "137847829/model_final_51d356.pkl", {"box_ap": 37.3, "inference_s": 0.068}
    ),
    "COCO-Detection/faster_rcnn_R_50_DC5_3x": Preset(
        (DC5, R50, SCHEDULE_3X),
        "137849425/model_final_68d202.pkl",
        {"box_ap": 39.0, "inference_s": 0.07},
    ),
    "COCO-Detection/faster_rcnn_R_50_FPN_1x": Preset(
        (FPN, R50), "137257794/model_final_b275ba.pkl", {"box_ap": 37.9, "inference_s": 0.038}
    ),
    "COCO-Detection/faster_rcnn_R_50_FPN_3x": Preset(
        (FPN, R50, SCHEDULE_3X),
        "137849458/model_final_280758.pkl",
        {"box_ap": 40.2, "inference_s": 0.038},
    ),
    "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x": Preset(
        (FPN, X101, SCHEDULE_3X),
        "139173657/model_final_68b088.pkl",
        {"box_ap": 43.0, "inference_s": 0.098},
    ),
    "COCO-Detection/retinanet_R_101_FPN_3x": Preset(
        (RETINANET, R101, SCHEDULE_3X),
        "190397697/model_final_971ab9.pkl",
        {"box_ap": 40.4, "inference_s": 0.054},
    ),
    "COCO-Detection/retinanet_R_50_FPN_1x": Preset(
        (RETINANET, R50), "190397773/model_final_bfca0b.pkl", {"box_ap": 37.4, "inference_s": 0.041}
    ),
    "COCO-Detection/retinanet_R_50_FPN_3x": Preset(
        (RETINANET, R50, SCHEDULE_3X),
        "190397829/model_final_5bd44e.pkl",
        {"box_ap": 38.7, "inference_s": 0.041},
    ),
    "COCO-Detection/rpn_R_50_C4_1x": Preset(
        (C4, RPN_ONE_LEVEL, R50),
        "137258005/model_final_450694.pkl",
        {"proposal_ar": 51.6, "inference_s": 0.034},
    ),
    "COCO-Detection/rpn_R_50_FPN_1x": Preset(
        (FPN, RPN, R50),
        "137258492/model_final_02ce48.pkl",
        {"proposal_ar": 58.0, "inference_s": 0.032},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x": Preset(
        (C4, MASK, R101, SCHEDULE_3X),
        "138363239/model_final_a2914c.pkl",
        {"box_ap": 42.6, "mask_ap": 36.7, "inference_s": 0.145},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x": Preset(
        (DC5, MASK, R101, SCHEDULE_3X),
        "138363294/model_final_0464b7.pkl",
        {"box_ap": 41.9, "mask_ap": 37.3, "inference_s": 0.092},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x": Preset(
        (FPN, MASK, R101, SCHEDULE_3X),
        "138205316/model_final_a3ec72.pkl",
        {"box_ap": 42.9, "mask_ap": 38.6, "inference_s": 0.056},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x": Preset(
        (C4, MASK, R50),
        "137259246/model_final_9243eb.pkl",
        {"box_ap": 36.8, "mask_ap": 32.2, "inference_s": 0.11},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x": Preset(
        (C4, MASK, R50, SCHEDULE_3X),
        "137849525/model_final_4ce675.pkl",
        {"box_ap": 39.8, "mask_ap": 34.4, "inference_s": 0.111},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x": Preset(
        (DC5, MASK, R50),
        "137260150/model_final_4f86c3.pkl",
        {"box_ap": 38.3, "mask_ap": 34.2, "inference_s": 0.076},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x": Preset(
        (DC5, MASK, R50, SCHEDULE_3X),
        "137849551/model_final_84107b.pkl",
        {"box_ap": 40.0, "mask_ap": 35.9, "inference_s": 0.076},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": Preset(
        (FPN, MASK, R50),
        "137260431/model_final_a54504.pkl",
        {"box_ap": 38.6, "mask_ap": 35.2, "inference_s": 0.043},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou": Preset((FPN, MASK, R50, GIOU)),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x": Preset(
        (FPN, MASK, R50, SCHEDULE_3X),
        "137849600/model_final_f10217.pkl",
        {"box_ap": 41.0, "mask_ap": 37.2, "inference_s": 0.043},
    ),
    "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x": Preset(
        (FPN, MASK, X101, SCHEDULE_3X),
        "139653917/model_final_2d9806.pkl",
        {"box_ap": 44.3, "mask_ap": 39.5, "inference_s": 0.103},
    ),
    "COCO-Keypoints/Base-Keypoint-RCNN-FPN": Preset((FPN, KEYPOINT)),
    "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x": Preset(
        (FPN, KEYPOINT, R101, SCHEDULE_3X),
        "138363331/model_final_997cc7.pkl",
        {"box_ap": 56.4, "keypoint_ap": 66.1, "inference_s": 0.076},
    ),
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x": Preset(
        (FPN, KEYPOINT, R50),
        "137261548/model_final_04e291.pkl",
        {"box_ap": 53.6, "keypoint_ap": 64.0, "inference_s": 0.072},
    ),
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x": Preset(
        (FPN, KEYPOINT, R50, SCHEDULE_3X),
        "137849621/model_final_a6e10b.pkl",
        {"box_ap": 55.4, "keypoint_ap": 65.5, "inference_s": 0.066},
    ),
    "COCO-Keypoints/keypoint_rcnn_X_101_32x8d_FPN_3x": Preset(
        (FPN, KEYPOINT, X101, SCHEDULE_3X),
        "139686956/model_final_5ad38f.pkl",
        {"box_ap": 57.3, "keypoint_ap": 66.0, "inference_s": 0.121},
    ),
    "COCO-PanopticSegmentation/Base-Panoptic-FPN": Preset((FPN, PANOPTIC)),
    "COCO-PanopticSegmentation/panoptic_fpn_R_101_3x": Preset(
        (FPN, PANOPTIC, R101, SCHEDULE_3X),
        "139514519/model_final_cafdb1.pkl",
        {"box_ap": 42.4, "mask_ap": 38.5, "pq": 43.0, "inference_s": 0.066},
    ),
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x": Preset(
        (FPN, PANOPTIC, R50),
        "139514544/model_final_dbfeb4.pkl",
        {"box_ap": 37.6, "mask_ap": 34.7, "pq": 39.4, "inference_s": 0.053},
    ),
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x": Preset(
        (FPN, PANOPTIC, R50, SCHEDULE_3X),
        "139514569/model_final_c10459.pkl",
        {"box_ap": 40.0, "mask_ap": 36.5, "pq": 41.5, "inference_s": 0.053},
    ),
    "Cityscapes/mask_rcnn_R_50_FPN": Preset(
        (FPN, MASK, R50, CITYSCAPES),
        "142423278/model_final_af9cf5.pkl",
        {"mask_ap": 36.5, "inference_s": 0.078},
    ),
    "Detectron1-Comparisons/faster_rcnn_R_50_FPN_noaug_1x": Preset(
        (FPN, R50, DETECTRON1, SINGLE_SCALE),
        "137781054/model_final_7ab50c.pkl",
        {"box_ap": 36.9, "inference_s": 0.038},
    ),
    "Detectron1-Comparisons/keypoint_rcnn_R_50_FPN_1x": Preset(
        (FPN, KEYPOINT, R50, DETECTRON1_KEYPOINT),
        "137781195/model_final_cce136.pkl",
        {"box_ap": 53.1, "keypoint_ap": 64.2, "inference_s": 0.071},
    ),
    "Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x": Preset(
        (FPN, MASK, R50, DETECTRON1_MASK, SINGLE_SCALE),
        "137781281/model_final_62ca52.pkl",
        {"box_ap": 37.8, "mask_ap": 34.9, "inference_s": 0.043},
    ),
    "LVISv0.5-InstanceSegmentation/mask_rcnn_R_101_FPN_1x": Preset(
        (FPN, MASK, R101, LVIS_V05),
        "144219035/model_final_824ab5.pkl",
        {"box_ap": 25.6, "mask_ap": 25.9, "inference_s": 0.114},
    ),
    "LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": Preset(
        (FPN, MASK, R50, LVIS_V05),
        "144219072/model_final_571f7c.pkl",
        {"box_ap": 23.6, "mask_ap": 24.4, "inference_s": 0.107},
    ),
    "LVISv0.5-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_1x": Preset(
        (FPN, MASK, X101, LVIS_V05),
        "144219108/model_final_5e3439.pkl",
        {"box_ap": 26.7, "mask_ap": 27.1, "inference_s": 0.151},
    ),
    "LVISv1-InstanceSegmentation/mask_rcnn_R_101_FPN_1x": Preset((FPN, MASK, R101, LVIS_V1)),
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": Preset((FPN, MASK, R50, LVIS_V1)),
    "LVISv1-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_1x": Preset((FPN, MASK, X101, LVIS_V1)),
    "Misc/cascade_mask_rcnn_R_50_FPN_1x": Preset(
        (FPN, MASK, CASCADE, R50),
        "138602847/model_final_e9d89b.pkl",
        {"box_ap": 42.1, "mask_ap": 36.4, "inference_s": 0.052},
    ),
    "Misc/cascade_mask_rcnn_R_50_FPN_3x": Preset(
        (FPN, MASK, CASCADE, R50, SCHEDULE_3X),
        "144998488/model_final_480dd8.pkl",
        {"box_ap": 44.3, "mask_ap": 38.5, "inference_s": 0.053},
    ),
    "Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv": Preset(
        (FPN, MASK, CASCADE, X152, DEFORMABLE, LARGEST, SCHEDULE_BATCH_128),
        "18131413/model_0039999_e76410.pkl",
        {"box_ap": 50.2, "mask_ap": 44.0, "inference_s": 0.234},
    ),
    "Misc/mask_rcnn_R_50_FPN_1x_cls_agnostic": Preset((FPN, MASK, R50, CLASS_AGNOSTIC)),
    "Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5": Preset(
        (FPN, MASK, R50, DEFORMABLE),
        "138602867/model_final_65c703.pkl",
        {"box_ap": 41.5, "mask_ap": 37.5, "inference_s": 0.048},
    ),
    "Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5": Preset(
        (FPN, MASK, R50, DEFORMABLE, SCHEDULE_3X),
        "144998336/model_final_821d0b.pkl",
        {"box_ap": 42.7, "mask_ap": 38.5, "inference_s": 0.047},
    ),
    "Misc/mask_rcnn_R_50_FPN_3x_gn": Preset(
        (FPN, MASK, R50, GN, SCHEDULE_3X),
        "138602888/model_final_dc5d9e.pkl",
        {"box_ap": 42.6, "mask_ap": 38.6, "inference_s": 0.06},
    ),
    "Misc/mask_rcnn_R_50_FPN_3x_syncbn": Preset(
        (FPN, MASK, R50, SYNC_BN, SCHEDULE_3X),
        "169527823/model_final_3b3c51.pkl",
        {"box_ap": 41.9, "mask_ap": 37.8, "inference_s": 0.053},
    ),
    "Misc/panoptic_fpn_R_101_dconv_cascade_gn_3x": Preset(
        (FPN, PANOPTIC, CASCADE, R101, PANOPTIC_GN, DEFORMABLE, SCHEDULE_3X_BATCH_32),
        "139797668/model_final_be35db.pkl",
        {"box_ap": 47.4, "mask_ap": 41.3, "pq": 46.1, "inference_s": 0.098},
    ),
    "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn": Preset(
        (FPN, MASK, R50, GN, FROM_SCRATCH, SCHEDULE_3X),
        "138602908/model_final_01ca85.pkl",
        {"box_ap": 39.9, "mask_ap": 36.6, "inference_s": 0.061},
    ),
    "Misc/scratch_mask_rcnn_R_50_FPN_9x_gn": Preset(
        (FPN, MASK, R50, GN, FROM_SCRATCH, IMAGENET_STD, SCHEDULE_9X),
        "183808979/model_final_da7b4c.pkl",
        {"box_ap": 43.7, "mask_ap": 39.6, "inference_s": 0.061},
    ),
    "Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn": Preset(
        (FPN, MASK, R50, SYNC_BN, STRIDE_IN_3X3, FROM_SCRATCH, IMAGENET_STD, SCHEDULE_9X),
        "184226666/model_final_5ce33e.pkl",
        {"box_ap": 43.6, "mask_ap": 39.3, "inference_s": 0.055},
    ),
    "Misc/semantic_R_50_FPN_1x": Preset((FPN, SEMANTIC, R50)),
    "PascalVOC-Detection/faster_rcnn_R_50_C4": Preset(
        (C4, R50, VOC),
        "142202221/model_final_b1acc2.pkl",
        {"box_ap": 51.9, "box_ap50": 80.3, "inference_s": 0.081},
    ),
    "PascalVOC-Detection/faster_rcnn_R_50_FPN": Preset((FPN, R50, VOC)),
}
