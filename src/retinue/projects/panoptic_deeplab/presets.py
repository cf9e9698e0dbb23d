"""Published configs of Panoptic-DeepLab, their weights and scores.

Scores are those of the project's page in https://github.com/facebookresearch/detectron2.
"""

from retinue.model_zoo.overlays import CITYSCAPES_SEMANTIC
from retinue.model_zoo.presets import Preset
from retinue.projects.deeplab.presets import DEEPLAB_RESNET
from retinue.projects.panoptic_deeplab.config import add_panoptic_deeplab_config

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = (add_panoptic_deeplab_config,)

PANOPTIC_DEEPLAB = CITYSCAPES_SEMANTIC | {
    "DATASETS.TRAIN": ("cityscapes_fine_panoptic_train",),
    "DATASETS.TEST": ("cityscapes_fine_panoptic_val",),
    "INPUT.CROP.SIZE": (1024, 2048),
    "INPUT.MIN_SIZE_TRAIN": (
        *(512, 640, 704, 832, 896, 1024, 1152, 1216),
        *(1344, 1408, 1536, 1664, 1728, 1856, 1920, 2048),
    ),
    "MODEL.META_ARCHITECTURE": "PanopticDeepLab",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res5"],
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.SEM_SEG_HEAD.NAME": "PanopticDeepLabSemSegHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2", "res3", "res5"],
    "MODEL.SEM_SEG_HEAD.PROJECT_FEATURES": ["res2", "res3"],
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS": [32, 64],
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 256,
    "MODEL.SEM_SEG_HEAD.NORM": "SyncBN",
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.IMS_PER_BATCH": 32,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR",
    "SOLVER.MAX_ITER": 60_000,
    "SOLVER.WEIGHT_DECAY": 0.0,
    "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
}
R52 = DEEPLAB_RESNET | {"MODEL.WEIGHTS": "detectron2://DeepLab/R-52.pkl"}
CROPS_90K = {"INPUT.CROP.SIZE": (512, 1024), "SOLVER.MAX_ITER": 90_000}
SEPARABLE = {
    "MODEL.PANOPTIC_DEEPLAB.USE_DEPTHWISE_SEPARABLE_CONV": True,
    "MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV": True,
}
COCO_640 = {
    "DATASETS.TRAIN": ("coco_2017_train_panoptic",),
    "DATASETS.TEST": ("coco_2017_val_panoptic",),
    "INPUT.CROP.SIZE": (640, 640),
    "INPUT.GAUSSIAN_SIGMA": 8,
    "INPUT.MIN_SIZE_TRAIN": tuple(range(320, 961, 64)),
    "INPUT.MAX_SIZE_TRAIN": 960,
    "INPUT.MIN_SIZE_TEST": 640,
    "INPUT.MAX_SIZE_TEST": 640,
    "MODEL.PANOPTIC_DEEPLAB.STUFF_AREA": 4096,
    "MODEL.PANOPTIC_DEEPLAB.NMS_KERNEL": 41,
    "MODEL.PANOPTIC_DEEPLAB.SIZE_DIVISIBILITY": 640,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 133,
    "MODEL.SEM_SEG_HEAD.LOSS_TOP_K": 1.0,
    "SOLVER.BASE_LR": 0.0005,
    "SOLVER.IMS_PER_BATCH": 64,
    "SOLVER.MAX_ITER": 200_000,
}

_CITYSCAPES, _COCO = "Cityscapes-PanopticSegmentation", "COCO-PanopticSegmentation"
_R52_90K = "panoptic_deeplab_R_52_os16_mg124_poly_90k_bs32"
_R52_COCO = "panoptic_deeplab_R_52_os16_mg124_poly_200k_bs64_crop_640_640_coco_dsconv"
_WEIGHTS = "detectron2/PanopticDeepLab"

PRESETS = {
    f"{_CITYSCAPES}/Base-PanopticDeepLab-OS16.yaml": Preset((PANOPTIC_DEEPLAB,)),
    f"{_CITYSCAPES}/{_R52_90K}_crop_512_1024.yaml": Preset(
        (PANOPTIC_DEEPLAB, R52, CROPS_90K),
        f"{_WEIGHTS}/{_CITYSCAPES}/{_R52_90K}/model_final_bd324a.pkl",
        {"pq": 60.3, "sq": 81.5, "rq": 72.9, "miou": 78.2, "mask_ap": 33.2},
    ),
    f"{_CITYSCAPES}/{_R52_90K}_crop_512_1024_dsconv.yaml": Preset(
        (PANOPTIC_DEEPLAB, R52, CROPS_90K, SEPARABLE),
        f"{_WEIGHTS}/{_CITYSCAPES}/{_R52_90K}_crop_512_1024_dsconv/model_final_23d03a.pkl",
        {"pq": 60.3, "sq": 81.0, "rq": 73.2, "miou": 78.7, "mask_ap": 32.1},
    ),
    f"{_COCO}/{_R52_COCO}.yaml": Preset(
        (PANOPTIC_DEEPLAB, R52, SEPARABLE, COCO_640),
        f"{_WEIGHTS}/{_COCO}/{_R52_COCO}/model_final_5e6da2.pkl",
        {"pq": 35.5, "sq": 77.3, "rq": 44.7, "box_ap": 18.6, "mask_ap": 19.7},
    ),
}
