"""Facts about families of models, as flat config keys over the defaults of `get_cfg`.

An overlay is one choice: an architecture, a backbone, a schedule, a dataset. `presets` merges them
left to right into the published configs; later overlays win.
"""

from collections.abc import Mapping
from typing import Any

Overlay = Mapping[str, Any]

MULTI_SCALE = {"INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800)}
SINGLE_SCALE = {"INPUT.MIN_SIZE_TRAIN": (800,)}

# Schedules. "3x" is 37 epochs of COCO at 16 images a batch.
SCHEDULE_1X = {
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.MAX_ITER": 90_000,
    "SOLVER.STEPS": (60_000, 80_000),
}
SCHEDULE_2X = {"SOLVER.MAX_ITER": 180_000, "SOLVER.STEPS": (120_000, 160_000)}
SCHEDULE_3X = {"SOLVER.MAX_ITER": 270_000, "SOLVER.STEPS": (210_000, 250_000)}
# Nine times 1x, at four times its batch size.
SCHEDULE_9X = {
    "SOLVER.BASE_LR": 0.08,
    "SOLVER.IMS_PER_BATCH": 64,
    "SOLVER.MAX_ITER": 202_500,
    "SOLVER.STEPS": (187_500, 197_500),
    "TEST.EVAL_PERIOD": 2500,
}
SCHEDULE_3X_BATCH_32 = {
    "SOLVER.BASE_LR": 0.04,
    "SOLVER.IMS_PER_BATCH": 32,
    "SOLVER.MAX_ITER": 135_000,
    "SOLVER.STEPS": (105_000, 125_000),
}
SCHEDULE_BATCH_128 = {
    "SOLVER.BASE_LR": 0.16,
    "SOLVER.IMS_PER_BATCH": 128,
    "SOLVER.MAX_ITER": 50_000,
    "SOLVER.STEPS": (35_000, 45_000),
    "TEST.EVAL_PERIOD": 2500,
}

# Data.
COCO = {"DATASETS.TRAIN": ("coco_2017_train",), "DATASETS.TEST": ("coco_2017_val",)}
COCO_PERSON = {
    "DATASETS.TRAIN": ("keypoints_coco_2017_train",),
    "DATASETS.TEST": ("keypoints_coco_2017_val",),
}
COCO_STUFF = {
    "DATASETS.TRAIN": ("coco_2017_train_panoptic_stuffonly",),
    "DATASETS.TEST": ("coco_2017_val_panoptic_stuffonly",),
}
COCO_PANOPTIC = {
    "DATASETS.TRAIN": ("coco_2017_train_panoptic_separated",),
    "DATASETS.TEST": ("coco_2017_val_panoptic_separated",),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": False,
}
LONG_TAIL = {
    "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
    "DATALOADER.REPEAT_THRESHOLD": 0.001,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0001,
    "TEST.DETECTIONS_PER_IMAGE": 300,
}
LVIS_V05 = LONG_TAIL | {
    "DATASETS.TRAIN": ("lvis_v0.5_train",),
    "DATASETS.TEST": ("lvis_v0.5_val",),
    "MODEL.ROI_HEADS.NUM_CLASSES": 1230,
}
LVIS_V1 = (
    LONG_TAIL
    | SCHEDULE_2X
    | {
        "DATASETS.TRAIN": ("lvis_v1_train",),
        "DATASETS.TEST": ("lvis_v1_val",),
        "MODEL.ROI_HEADS.NUM_CLASSES": 1203,
    }
)
CITYSCAPES = {
    "DATASETS.TRAIN": ("cityscapes_fine_instance_seg_train",),
    "DATASETS.TEST": ("cityscapes_fine_instance_seg_val",),
    "INPUT.MIN_SIZE_TRAIN": (800, 832, 864, 896, 928, 960, 992, 1024),
    "INPUT.MAX_SIZE_TRAIN": 2048,
    "INPUT.MIN_SIZE_TEST": 1024,
    "INPUT.MAX_SIZE_TEST": 2048,
    "MODEL.ROI_HEADS.NUM_CLASSES": 8,
    "MODEL.WEIGHTS": "detectron2://COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/"
    "model_final_f10217.pkl",
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.MAX_ITER": 24_000,
    "SOLVER.STEPS": (18_000,),
    "TEST.EVAL_PERIOD": 8000,
}
CITYSCAPES_SEMANTIC = {  # crops of large images
    "DATASETS.TRAIN": ("cityscapes_fine_sem_seg_train",),
    "DATASETS.TEST": ("cityscapes_fine_sem_seg_val",),
    "DATALOADER.NUM_WORKERS": 10,
    "INPUT.MIN_SIZE_TRAIN": (512, 768, 1024, 1280, 1536, 1792, 2048),
    "INPUT.MAX_SIZE_TRAIN": 4096,
    "INPUT.MIN_SIZE_TEST": 1024,
    "INPUT.MAX_SIZE_TEST": 2048,
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "absolute",
    "INPUT.CROP.SIZE": (512, 1024),
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 19,
}
VOC = {
    "DATASETS.TRAIN": ("voc_2007_trainval", "voc_2012_trainval"),
    "DATASETS.TEST": ("voc_2007_test",),
    "INPUT.MIN_SIZE_TRAIN": tuple(range(480, 801, 32)),
    "MODEL.ROI_HEADS.NUM_CLASSES": 20,
    "SOLVER.MAX_ITER": 18_000,
    "SOLVER.STEPS": (12_000, 16_000),
    "SOLVER.WARMUP_ITERS": 100,
}

# Architectures: what a config of the family has in common, trained for 1x on COCO.
TRAINED_ON_COCO = MULTI_SCALE | SCHEDULE_1X | COCO
C4: Overlay = TRAINED_ON_COCO  # the defaults are Faster R-CNN on conv4 features
TWO_FC_BOX_HEAD = {
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
}
DC5 = (
    TRAINED_ON_COCO
    | TWO_FC_BOX_HEAD
    | {
        "MODEL.RESNETS.OUT_FEATURES": ["res5"],
        "MODEL.RESNETS.RES5_DILATION": 2,
        "MODEL.RPN.IN_FEATURES": ["res5"],
        "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
    }
)
FPN = (
    TRAINED_ON_COCO
    | TWO_FC_BOX_HEAD
    | {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,  # a level
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,  # all levels together
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    }
)
RETINANET = TRAINED_ON_COCO | {
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    # three sizes an octave
    "MODEL.ANCHOR_GENERATOR.SIZES": [
        [side * 2 ** (third / 3) for third in range(3)] for side in (32, 64, 128, 256, 512)
    ],
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
    "SOLVER.BASE_LR": 0.01,
}
RPN = {"MODEL.META_ARCHITECTURE": "ProposalNetwork", "MODEL.RPN.POST_NMS_TOPK_TEST": 2000}
RPN_ONE_LEVEL = RPN | {"MODEL.RPN.PRE_NMS_TOPK_TEST": 12_000}
GIVEN_PROPOSALS = {
    "MODEL.LOAD_PROPOSALS": True,
    "MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals",
    "DATASETS.PROPOSAL_FILES_TRAIN": (
        "detectron2://COCO-Detection/rpn_R_50_FPN_1x/137258492/"
        "coco_2017_train_box_proposals_21bc3a.pkl",
    ),
    "DATASETS.PROPOSAL_FILES_TEST": (
        "detectron2://COCO-Detection/rpn_R_50_FPN_1x/137258492/"
        "coco_2017_val_box_proposals_ee0dad.pkl",
    ),
    "DATALOADER.NUM_WORKERS": 2,  # proposals of the whole dataset stay in memory
}
MASK = {"MODEL.MASK_ON": True}
KEYPOINT = COCO_PERSON | {
    "MODEL.KEYPOINT_ON": True,
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1500,
}
PANOPTIC = (
    MASK
    | COCO_PANOPTIC
    | {"MODEL.META_ARCHITECTURE": "PanopticFPN", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": 0.5}
)
SEMANTIC = COCO_STUFF | {"MODEL.META_ARCHITECTURE": "SemanticSegmentor"}
CASCADE = {
    "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
}
GIOU = {
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 2.0,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 10.0,
}
CLASS_AGNOSTIC = {
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
}
# Detectron's first version: unaligned pooling, L1 losses that are smooth near zero.
DETECTRON1 = {
    "MODEL.RPN.SMOOTH_L1_BETA": 0.1111,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
}
DETECTRON1_MASK = DETECTRON1 | {
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 2,
}
DETECTRON1_KEYPOINT = DETECTRON1 | {
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO": 2,
}

# Backbones, with the ImageNet weights that training starts from.
R50 = {"MODEL.RESNETS.DEPTH": 50, "MODEL.WEIGHTS": "detectron2://ImageNetPretrained/MSRA/R-50.pkl"}
R101 = {
    "MODEL.RESNETS.DEPTH": 101,
    "MODEL.WEIGHTS": "detectron2://ImageNetPretrained/MSRA/R-101.pkl",
}
IMAGENET_STD = {"MODEL.PIXEL_STD": [57.375, 57.120, 58.395]}
RESNEXT_32X8D = {
    "MODEL.RESNETS.NUM_GROUPS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}
X101 = (
    RESNEXT_32X8D
    | IMAGENET_STD
    | {
        "MODEL.RESNETS.DEPTH": 101,
        "MODEL.WEIGHTS": "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl",
    }
)
X152 = RESNEXT_32X8D | {
    "MODEL.RESNETS.DEPTH": 152,
    "MODEL.WEIGHTS": "catalog://ImageNetPretrained/FAIR/X-152-32x8d-IN5k",
}
DEFORMABLE = {"MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True]}
FROM_SCRATCH = {"MODEL.WEIGHTS": "", "MODEL.BACKBONE.FREEZE_AT": 0}


def _norm(name: str) -> dict[str, Any]:
    """Normalise every part with layers of this kind, and give the box head four convolutions."""
    return {
        "MODEL.RESNETS.NORM": name,
        "MODEL.FPN.NORM": name,
        "MODEL.ROI_BOX_HEAD.NORM": name,
        "MODEL.ROI_BOX_HEAD.NUM_CONV": 4,
        "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
        "MODEL.ROI_MASK_HEAD.NORM": name,
    }


GN = _norm("GN") | {
    "MODEL.WEIGHTS": "catalog://ImageNetPretrained/FAIR/R-50-GN",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}
SYNC_BN = _norm("SyncBN") | {"TEST.PRECISE_BN.ENABLED": True}
STRIDE_IN_3X3 = {"MODEL.RESNETS.STRIDE_IN_1X1": False}
PANOPTIC_GN = {
    "MODEL.FPN.NORM": "GN",
    "MODEL.RESNETS.NORM": "GN",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.ROI_MASK_HEAD.NORM": "GN",
    "MODEL.WEIGHTS": "catalog://ImageNetPretrained/FAIR/R-101-GN",
}
LARGEST = {  # the deepest model: GroupNorm in the heads, crops and scale jitter
    "INPUT.CROP.ENABLED": True,
    "INPUT.MIN_SIZE_TRAIN": (640, 864),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "range",
    "INPUT.MAX_SIZE_TRAIN": 1440,
    "MODEL.ROI_BOX_HEAD.NORM": "GN",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 4,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_MASK_HEAD.NORM": "GN",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 8,
}
