"""Every config key and its default.

``get_cfg()`` returns a copy. Keys and values are detectron2's, except below ``RETINUE``, which
holds what it has no key for. Library code that gets a config from elsewhere asks for those with
``cfg.get("RETINUE")``, since it may lack them.

Sizes are in pixels, thresholds in [0, 1]; ``..._TRAIN`` counts in training, ``..._TEST`` in
inference. A key's type is the type of its default: a file or command line may not change it.
"""

from __future__ import annotations

from typing import Any

from retinue.config.config import CfgNode

__all__ = ["get_cfg"]

_BACKBONE: dict[str, Any] = {
    "BACKBONE": {
        "NAME": "build_resnet_backbone",
        "FREEZE_AT": 2,  # stages that are not trained: 1 is the stem, 2 adds res2, and so on
    },
    "FPN": {
        "IN_FEATURES": [],  # names of the trunk's outputs, finest first
        "OUT_CHANNELS": 256,
        "NORM": "",  # "" for none, "BN", "GN", "SyncBN", ...
        "FUSE_TYPE": "sum",  # or "avg": of the lateral and the top-down map
    },
    "RESNETS": {
        "DEPTH": 50,  # 18, 34, 50, 101, 152
        "OUT_FEATURES": ["res4"],  # any of stem, res2 ... res5
        "NUM_GROUPS": 1,  # more than one makes a ResNeXt
        "NORM": "FrozenBN",
        "WIDTH_PER_GROUP": 64,
        "STRIDE_IN_1X1": True,  # as in the original ResNet; False as in torchvision's and ResNeXt
        "RES5_DILATION": 1,
        "RES2_OUT_CHANNELS": 256,  # later stages double it; 64 for depths 18 and 34
        "STEM_OUT_CHANNELS": 64,
        "DEFORM_ON_PER_STAGE": [False, False, False, False],  # res2, res3, res4, res5
        "DEFORM_MODULATED": False,  # True for deformable convolution version 2
        "DEFORM_NUM_GROUPS": 1,
    },
}

_PROPOSALS: dict[str, Any] = {
    "PROPOSAL_GENERATOR": {
        "NAME": "RPN",  # or RRPN, PrecomputedProposals
        "MIN_SIZE": 0,  # proposals with a shorter side are dropped
    },
    "ANCHOR_GENERATOR": {
        "NAME": "DefaultAnchorGenerator",
        # One list per feature map, or one for all. A size is the square root of the area.
        "SIZES": [[32, 64, 128, 256, 512]],
        "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],  # height / width
        "ANGLES": [[-90, 0, 90]],  # degrees, for rotated anchors
        "OFFSET": 0.0,  # of the first anchor's centre, in strides; 0.5 centres it in its cell
    },
    "RPN": {
        "HEAD_NAME": "StandardRPNHead",
        "IN_FEATURES": ["res4"],
        "BOUNDARY_THRESH": -1,  # anchors farther outside the image are not trained; -1 keeps all
        "IOU_THRESHOLDS": [0.3, 0.7],
        "IOU_LABELS": [0, -1, 1],  # background below the first, ignored between, object above
        "BATCH_SIZE_PER_IMAGE": 256,  # anchors sampled for the loss
        "POSITIVE_FRACTION": 0.5,
        "BBOX_REG_LOSS_TYPE": "smooth_l1",  # or giou, diou, ciou
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),  # dx, dy, dw, dh
        "SMOOTH_L1_BETA": 0.0,  # 0 is plain L1
        "LOSS_WEIGHT": 1.0,
        "PRE_NMS_TOPK_TRAIN": 12000,  # per feature map
        "PRE_NMS_TOPK_TEST": 6000,
        "POST_NMS_TOPK_TRAIN": 2000,  # per image
        "POST_NMS_TOPK_TEST": 1000,
        "NMS_THRESH": 0.7,
        "CONV_DIMS": [-1],  # channels of the hidden layers; -1 keeps the input's
    },
}

_ROI_HEADS: dict[str, Any] = {
    "ROI_HEADS": {
        "NAME": "Res5ROIHeads",
        "NUM_CLASSES": 80,  # objects only, without the background
        "IN_FEATURES": ["res4"],
        "IOU_THRESHOLDS": [0.5],
        "IOU_LABELS": [0, 1],
        "BATCH_SIZE_PER_IMAGE": 512,  # proposals sampled for the losses
        "POSITIVE_FRACTION": 0.25,
        "SCORE_THRESH_TEST": 0.05,
        "NMS_THRESH_TEST": 0.5,
        "PROPOSAL_APPEND_GT": True,  # true boxes join the proposals in training
    },
    "ROI_BOX_HEAD": {
        "NAME": "",
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
        "SMOOTH_L1_BETA": 0.0,
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,  # samples per cell and axis; 0 adapts to the box
        "POOLER_TYPE": "ROIAlignV2",
        "NUM_FC": 0,
        "FC_DIM": 1024,
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NORM": "",
        "CLS_AGNOSTIC_BBOX_REG": False,
        "TRAIN_ON_PRED_BOXES": False,  # the other heads then train on refined boxes
        "USE_FED_LOSS": False,  # federated loss, for LVIS
        "USE_SIGMOID_CE": False,
        "FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
        "FED_LOSS_NUM_CLASSES": 50,
    },
    "ROI_BOX_CASCADE_HEAD": {  # one entry per stage
        "BBOX_REG_WEIGHTS": (
            (10.0, 10.0, 5.0, 5.0),
            (20.0, 20.0, 10.0, 10.0),
            (30.0, 30.0, 15.0, 15.0),
        ),
        "IOUS": (0.5, 0.6, 0.7),
    },
    "ROI_MASK_HEAD": {
        "NAME": "MaskRCNNConvUpsampleHead",
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NORM": "",
        "CLS_AGNOSTIC_MASK": False,
        "POOLER_TYPE": "ROIAlignV2",
    },
    "ROI_KEYPOINT_HEAD": {
        "NAME": "KRCNNConvDeconvUpsampleHead",
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "CONV_DIMS": (512,) * 8,
        "NUM_KEYPOINTS": 17,
        "MIN_KEYPOINTS_PER_IMAGE": 1,  # images with fewer are left out of training
        "NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": True,  # or by the number that a full batch has
        "LOSS_WEIGHT": 1.0,
        "POOLER_TYPE": "ROIAlignV2",
    },
}

_SEGMENTATION: dict[str, Any] = {
    "SEM_SEG_HEAD": {
        "NAME": "SemSegFPNHead",
        "IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "IGNORE_VALUE": 255,  # pixels with this label do not count
        "NUM_CLASSES": 54,
        "CONVS_DIM": 128,
        "COMMON_STRIDE": 4,
        "NORM": "GN",
        "LOSS_WEIGHT": 1.0,
    },
    "PANOPTIC_FPN": {
        "INSTANCE_LOSS_WEIGHT": 1.0,
        "COMBINE": {
            "ENABLED": True,
            "OVERLAP_THRESH": 0.5,  # an instance that others cover by more is dropped
            "STUFF_AREA_LIMIT": 4096,  # smaller stuff regions are dropped
            "INSTANCES_CONFIDENCE_THRESH": 0.5,
        },
    },
}

_RETINANET: dict[str, Any] = {
    "RETINANET": {
        "NUM_CLASSES": 80,
        "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
        "NUM_CONVS": 4,
        "IOU_THRESHOLDS": [0.4, 0.5],
        "IOU_LABELS": [0, -1, 1],
        "PRIOR_PROB": 0.01,  # score of a class before training
        "SCORE_THRESH_TEST": 0.05,
        "TOPK_CANDIDATES_TEST": 1000,
        "NMS_THRESH_TEST": 0.5,
        "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
        "FOCAL_LOSS_GAMMA": 2.0,
        "FOCAL_LOSS_ALPHA": 0.25,
        "SMOOTH_L1_LOSS_BETA": 0.1,
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "NORM": "",
    },
}

_MODEL: dict[str, Any] = {
    "LOAD_PROPOSALS": False,  # boxes come from DATASETS.PROPOSAL_FILES_...
    "MASK_ON": False,
    "KEYPOINT_ON": False,
    "DEVICE": "cuda",
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "WEIGHTS": "",  # path or address of a checkpoint
    # Subtracted from and divided into each channel, in the order of INPUT.FORMAT, values 0 to 255.
    "PIXEL_MEAN": [103.53, 116.28, 123.675],
    "PIXEL_STD": [1.0, 1.0, 1.0],
    **_BACKBONE,
    **_PROPOSALS,
    **_ROI_HEADS,
    **_SEGMENTATION,
    **_RETINANET,
}

_DATA: dict[str, Any] = {
    "INPUT": {
        "MIN_SIZE_TRAIN": (800,),  # the shorter side, drawn from these; 0 in ..._TEST: no resizing
        "MIN_SIZE_TRAIN_SAMPLING": "choice",  # or "range": between the two
        "MAX_SIZE_TRAIN": 1333,  # the longer side is at most this
        "MIN_SIZE_TEST": 800,
        "MAX_SIZE_TEST": 1333,
        "RANDOM_FLIP": "horizontal",  # or "vertical", "none"
        "CROP": {
            "ENABLED": False,
            "TYPE": "relative_range",  # or "relative", "absolute", "absolute_range"
            "SIZE": [0.9, 0.9],  # height, width; fractions, or pixels where absolute
        },
        "FORMAT": "BGR",  # any of Pillow's modes, or BGR, YUV-BT.601
        "MASK_FORMAT": "polygon",  # or "bitmask"
    },
    "DATASETS": {
        "TRAIN": (),  # names in the catalog
        "PROPOSAL_FILES_TRAIN": (),  # one per dataset
        "PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000,
        "TEST": (),
        "PROPOSAL_FILES_TEST": (),
        "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000,
    },
    "DATALOADER": {
        "NUM_WORKERS": 4,  # processes, per rank
        "ASPECT_RATIO_GROUPING": True,  # wide images and tall ones go into separate batches
        "SAMPLER_TRAIN": "TrainingSampler",  # or RepeatFactorTrainingSampler
        "REPEAT_THRESHOLD": 0.0,  # categories in a smaller share of images are repeated
        "REPEAT_SQRT": True,
        "FILTER_EMPTY_ANNOTATIONS": True,  # images without objects are left out of training
    },
}

_SOLVER: dict[str, Any] = {
    "LR_SCHEDULER_NAME": "WarmupMultiStepLR",  # or WarmupCosineLR, WarmupStepWithFixedGammaLR
    "MAX_ITER": 40000,
    "BASE_LR": 0.001,
    "BASE_LR_END": 0.0,  # where the cosine ends
    "MOMENTUM": 0.9,
    "NESTEROV": False,
    "WEIGHT_DECAY": 0.0001,
    "WEIGHT_DECAY_NORM": 0.0,  # of normalisation layers
    "GAMMA": 0.1,  # the rate is multiplied by this at each of STEPS
    "STEPS": (30000,),  # iterations
    "NUM_DECAYS": 3,
    "WARMUP_FACTOR": 0.001,
    "WARMUP_ITERS": 1000,
    "WARMUP_METHOD": "linear",  # or "constant"
    "RESCALE_INTERVAL": False,
    "CHECKPOINT_PERIOD": 5000,  # iterations
    "IMS_PER_BATCH": 16,  # images per step, all ranks together
    "REFERENCE_WORLD_SIZE": 0,  # ranks that the schedule is meant for; others rescale it
    "BIAS_LR_FACTOR": 1.0,
    "WEIGHT_DECAY_BIAS": None,  # None: as other weights
    "CLIP_GRADIENTS": {
        "ENABLED": False,
        "CLIP_TYPE": "value",  # or "norm" (per parameter), "full_model"
        "CLIP_VALUE": 1.0,
        "NORM_TYPE": 2.0,
    },
    "AMP": {"ENABLED": False},
}

_TEST: dict[str, Any] = {
    "EXPECTED_RESULTS": [],  # rows of task, metric, value, tolerance
    "EVAL_PERIOD": 0,  # iterations; 0 evaluates at the end only
    "KEYPOINT_OKS_SIGMAS": [],  # one per keypoint; empty: COCO's
    "DETECTIONS_PER_IMAGE": 100,
    "AUG": {  # test-time augmentation
        "ENABLED": False,
        "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
        "MAX_SIZE": 4000,
        "FLIP": True,
    },
    "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
}

_RETINUE: dict[str, Any] = {
    "EPOCHS": 0,  # passes over the training set; 0: SOLVER.MAX_ITER counts iterations
    "ACCUMULATE": 1,  # batches whose gradients one optimizer step averages
    "VAL_LOSS_PERIOD": 0,  # iterations between losses on DATASETS.TEST; 0: none
    "BEST_METRIC": "",  # e.g. "bbox/AP": its best checkpoint is kept as model_best.pth
    "EARLY_STOPPING_PATIENCE": 0,  # evaluations without a better BEST_METRIC; 0: never stop
    "EMA_DECAY": 0.0,  # of averaged weights, which are evaluated and saved too; 0: none
    "KEEP_CHECKPOINTS": 0,  # of the numbered ones, the newest; 0: all
    "ASYNC_CHECKPOINTS": False,  # write them while training goes on
    "FSDP": False,  # spread weights, gradients and the optimizer's state over the processes
    "SKIP_UNREADABLE": False,  # go on without images that cannot be read
    "COMPILE": False,  # torch.compile the model
}

_C = CfgNode(
    {
        "VERSION": 2,  # of the keys; older files are upgraded
        "MODEL": _MODEL,
        **_DATA,
        "SOLVER": _SOLVER,
        "TEST": _TEST,
        "OUTPUT_DIR": "./output",
        "SEED": -1,  # negative: a different one each run
        "CUDNN_BENCHMARK": False,
        "FLOAT32_PRECISION": "",  # "highest", "high", "medium": torch.set_float32_matmul_precision
        "VIS_PERIOD": 0,  # iterations between pictures of training inputs; 0: none
        "GLOBAL": {"HACK": 1.0},  # detectron2 has it; projects read it
        "RETINUE": _RETINUE,
    }
)


def get_cfg() -> CfgNode:
    """Return a fresh tree with every key at its default."""
    cfg = _C.clone()
    cfg.review_new_keys()
    return cfg
