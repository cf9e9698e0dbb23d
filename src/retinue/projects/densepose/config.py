"""Config keys of DensePose.

``add_densepose_config`` adds all of them; the others add one group each.
"""

from typing import Any

from retinue.config import CfgNode

__all__ = [
    "add_bootstrap_config",
    "add_dataset_category_config",
    "add_densepose_config",
    "add_densepose_head_config",
    "add_densepose_head_cse_config",
    "add_evaluation_config",
    "add_hrnet_config",
    "get_bootstrap_dataset_config",
    "load_bootstrap_config",
]


def add_densepose_config(cfg: CfgNode) -> None:
    """Add all keys of DensePose to a config, in place."""
    add_densepose_head_config(cfg)
    add_hrnet_config(cfg)
    add_bootstrap_config(cfg)
    add_dataset_category_config(cfg)
    add_evaluation_config(cfg)


def add_densepose_head_config(cfg: CfgNode) -> None:
    """Add the keys of the head, its predictor and its losses, in place."""
    cfg.MODEL.DENSEPOSE_ON = True
    cfg.MODEL.ROI_DENSEPOSE_HEAD = CfgNode(
        {
            # Names in the registries of heads, predictors and losses.
            "NAME": "",
            "PREDICTOR_NAME": "DensePoseChartWithConfidencePredictor",
            "LOSS_NAME": "DensePoseChartWithConfidenceLoss",
            # The head: convolutions over pooled regions; the predictor enlarges them twice.
            "POOLER_TYPE": "ROIAlignV2",
            "POOLER_RESOLUTION": 28,
            "POOLER_SAMPLING_RATIO": 2,
            "NUM_STACKED_CONVS": 8,
            "CONV_HEAD_DIM": 512,
            "CONV_HEAD_KERNEL": 3,
            "DECONV_KERNEL": 4,
            "UP_SCALE": 2,
            "HEATMAP_SIZE": 112,  # side of the prediction: 2 * 2 * POOLER_RESOLUTION
            "DEEPLAB": {"NORM": "GN", "NONLOCAL_ON": 0},
            # Charts of the body, and channels of the coarse segmentation, background included:
            # 2 for body or not, 15 for 14 parts.
            "NUM_PATCHES": 24,
            "NUM_COARSE_SEGM_CHANNELS": 2,
            # The decoder merges all feature maps into one, as in Panoptic FPN.
            "DECODER_ON": True,
            "DECODER_NUM_CLASSES": 256,
            "DECODER_CONV_DIMS": 256,
            "DECODER_NORM": "",
            "DECODER_COMMON_STRIDE": 4,
            # Training: proposals that overlap their object more than this; weights of the losses
            # of coarse segmentation, fine segmentation, and chart coordinates.
            "FG_IOU_THRESHOLD": 0.7,
            "INDEX_WEIGHTS": 5.0,
            "PART_WEIGHTS": 1.0,
            "POINT_REGRESSION_WEIGHTS": 0.01,
            "COARSE_SEGM_TRAINED_BY_MASKS": False,  # instance masks instead of coarse parts
            # Confidences are predicted, too; EPSILON is their lower bound. TYPE is iid_iso or
            # indep_aniso, see modeling/confidence.py.
            "UV_CONFIDENCE": {"ENABLED": False, "EPSILON": 0.01, "TYPE": "iid_iso"},
            "SEGM_CONFIDENCE": {"ENABLED": False, "EPSILON": 0.01},
        }
    )
    cfg.INPUT.ROTATION_ANGLES = [0]  # degrees; one is drawn for each training image
    cfg.TEST.AUG.ROTATION_ANGLES = ()  # degrees; test-time augmentation adds each
    add_densepose_head_cse_config(cfg)


def add_densepose_head_cse_config(cfg: CfgNode) -> None:
    """Add the keys of continuous surface embeddings (CSE), in place."""
    cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE = CfgNode(
        {
            "EMBED_SIZE": 16,  # dimensions of the space that pixels and vertices are put into
            # Distances are divided by these before the softmax over vertices.
            "EMBEDDING_DIST_GAUSS_SIGMA": 0.01,
            "GEODESIC_DIST_GAUSS_SIGMA": 0.01,
            "EMBED_LOSS_NAME": "EmbeddingLoss",  # or SoftEmbeddingLoss
            "EMBED_LOSS_WEIGHT": 0.6,
            # Learning rate of the embedders, relative to the model's.
            "FEATURES_LR_FACTOR": 1.0,
            "EMBEDDING_LR_FACTOR": 1.0,
            # Cycles from a mesh to another and back, and from pixels to a mesh and back.
            "SHAPE_TO_SHAPE_CYCLE_LOSS": {
                "ENABLED": False,
                "WEIGHT": 0.025,
                "NORM_P": 2,
                "TEMPERATURE": 0.05,
                "MAX_NUM_VERTICES": 4936,  # drawn at random; all if not positive
            },
            "PIX_TO_SHAPE_CYCLE_LOSS": {
                "ENABLED": False,
                "WEIGHT": 0.0001,
                "NORM_P": 2,
                "USE_ALL_MESHES_NOT_GT_ONLY": False,
                "NUM_PIXELS_TO_SAMPLE": 100,  # of each object; all if not positive
                "PIXEL_SIGMA": 5.0,
                "TEMPERATURE_PIXEL_TO_VERTEX": 0.05,
                "TEMPERATURE_VERTEX_TO_PIXEL": 0.05,
            },
        }
    )
    cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS = CfgNode(new_allowed=True)  # mesh -> its node


def add_hrnet_config(cfg: CfgNode) -> None:
    """Add the keys of the HRNet backbone (of width 32) and its feature pyramid, in place."""
    modules = {2: 1, 3: 4, 4: 3}  # of each stage; stage s has s branches
    hrnet: dict[str, Any] = {"STEM_INPLANES": 64, "HRFPN": {"OUT_CHANNELS": 256}}
    for stage, num_modules in modules.items():
        hrnet[f"STAGE{stage}"] = {
            "NUM_MODULES": num_modules,
            "NUM_BRANCHES": stage,
            "BLOCK": "BASIC",
            "NUM_BLOCKS": [4] * stage,
            "NUM_CHANNELS": [32 * 2**branch for branch in range(stage)],
            "FUSE_METHOD": "SUM",
        }
    cfg.MODEL.HRNET = CfgNode(hrnet)


def add_bootstrap_config(cfg: CfgNode) -> None:
    """Add the keys of training on a model's own predictions, in place."""
    cfg.BOOTSTRAP_DATASETS = []  # like get_bootstrap_dataset_config
    cfg.BOOTSTRAP_MODEL = CfgNode({"WEIGHTS": "", "DEVICE": "cuda"})


def get_bootstrap_dataset_config() -> CfgNode:
    """Return the defaults of one entry of ``BOOTSTRAP_DATASETS``."""
    cfg = CfgNode({"DATASET": "", "RATIO": 0.1})  # share of a batch, before shares are normalised
    cfg.IMAGE_LOADER = CfgNode(
        {
            "TYPE": "",
            "BATCH_SIZE": 4,
            "NUM_WORKERS": 4,
            "CATEGORIES": [],
            "MAX_COUNT_PER_CATEGORY": 1_000_000,
        },
        new_allowed=True,
    )
    cfg.IMAGE_LOADER.CATEGORY_TO_CLASS_MAPPING = CfgNode(new_allowed=True)
    # Images a forward pass, and examples a batch that comes out.
    cfg.INFERENCE = CfgNode({"INPUT_BATCH_SIZE": 4, "OUTPUT_BATCH_SIZE": 2})
    cfg.DATA_SAMPLER = CfgNode({"TYPE": "", "USE_GROUND_TRUTH_CATEGORIES": False}, new_allowed=True)
    cfg.FILTER = CfgNode({"TYPE": ""}, new_allowed=True)
    return cfg


def load_bootstrap_config(cfg: CfgNode) -> None:
    """Turn the entries of ``cfg.BOOTSTRAP_DATASETS``, plain dicts in a file, into config nodes."""
    nodes = []
    for entry in cfg.BOOTSTRAP_DATASETS:
        node = get_bootstrap_dataset_config()
        node.merge_from_other_cfg(CfgNode(entry))
        nodes.append(node)
    if nodes:
        cfg.BOOTSTRAP_DATASETS = nodes


def add_dataset_category_config(cfg: CfgNode) -> None:
    """Add the keys that choose and rename categories of datasets, in place."""
    cfg.DATASETS.CATEGORY_MAPS = CfgNode(new_allowed=True)  # dataset -> id in the file -> id
    cfg.DATASETS.WHITELISTED_CATEGORIES = CfgNode(new_allowed=True)  # dataset -> ids kept
    cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING = CfgNode(new_allowed=True)  # class -> mesh


def add_evaluation_config(cfg: CfgNode) -> None:
    """Add the keys of the evaluation, in place."""
    cfg.DENSEPOSE_EVALUATION = CfgNode(
        {
            "TYPE": "iou",  # or cse, for models that predict embeddings
            "STORAGE": "none",  # predictions until all are there: in their dicts, in ram, in a file
            "MIN_IOU_THRESHOLD": 0.5,  # the lowest similarity that is ever counted as a match
            "DISTRIBUTED_INFERENCE": True,
            "EVALUATE_MESH_ALIGNMENT": False,
            "MESH_ALIGNMENT_MESH_NAMES": [],
        }
    )
