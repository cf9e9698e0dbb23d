"""Published configs of DensePose, their weights and scores.

Scores are those of the project's pages in https://github.com/facebookresearch/detectron2: AP of
boxes, of masks (pixels that belong to a body), and of dense correspondences by GPS and GPSM.

Reading order: the models, from DENSEPOSE on; CSE, its meshes and animals; EVOLUTION, which learns
chimpanzees from people; PRESETS at the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from retinue.model_zoo.overlays import FPN, R50, R101, SCHEDULE_1X, SCHEDULE_3X, Overlay
from retinue.model_zoo.presets import Preset
from retinue.projects.densepose.config import add_densepose_config

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = (add_densepose_config,)

HEAD = "MODEL.ROI_DENSEPOSE_HEAD"
S1X = {"SOLVER.MAX_ITER": 130_000, "SOLVER.STEPS": (100_000, 120_000)}
WEIGHTS = "https://dl.fbaipublicfiles.com/densepose"

# ------------------------------------------------------------------------------ charts of people
DENSEPOSE = FPN | {
    "DATASETS.TRAIN": ("densepose_coco_2014_train", "densepose_coco_2014_valminusminival"),
    "DATASETS.TEST": ("densepose_coco_2014_minival",),
    "MODEL.ROI_HEADS.NAME": "DensePoseROIHeads",
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 0,
    f"{HEAD}.NAME": "DensePoseV1ConvXHead",
    f"{HEAD}.POOLER_TYPE": "ROIAlign",
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.WARMUP_FACTOR": 0.1,
}
DEEPLAB = {f"{HEAD}.NAME": "DensePoseDeepLabHead"}
CLIPPED = {"SOLVER.CLIP_GRADIENTS.ENABLED": True}
CLIPPED_NORM = CLIPPED | {"SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm"}
SLOW_START = {"SOLVER.WARMUP_FACTOR": 0.025}

# Confidences of chart coordinates: isotropic (WC1) or not (WC2); M adds those of segmentation.
WC1 = CLIPPED | {f"{HEAD}.POINT_REGRESSION_WEIGHTS": 0.0005, f"{HEAD}.UV_CONFIDENCE.ENABLED": True}
WC2 = WC1 | {f"{HEAD}.UV_CONFIDENCE.TYPE": "indep_aniso"}
WITH_SEGM_CONFIDENCE = {f"{HEAD}.SEGM_CONFIDENCE.ENABLED": True}
WC1M, WC2M = WC1 | WITH_SEGM_CONFIDENCE, WC2 | WITH_SEGM_CONFIDENCE

LEGACY = {  # the model of Güler et al. (2018)
    f"{HEAD}.POOLER_RESOLUTION": 14,
    f"{HEAD}.HEATMAP_SIZE": 56,
    f"{HEAD}.NUM_COARSE_SEGM_CHANNELS": 15,
    f"{HEAD}.INDEX_WEIGHTS": 2.0,
    f"{HEAD}.PART_WEIGHTS": 0.3,
    f"{HEAD}.POINT_REGRESSION_WEIGHTS": 0.1,
    f"{HEAD}.DECODER_ON": False,
    "SOLVER.BASE_LR": 0.002,
}


def _hrnet(width: int, weights: str) -> dict[str, Any]:
    channels = {
        f"MODEL.HRNET.STAGE{stage}.NUM_CHANNELS": [width * 2**branch for branch in range(stage)]
        for stage in (2, 3, 4)
    }
    return (
        CLIPPED_NORM
        | channels
        | {
            "MODEL.WEIGHTS": f"https://1drv.ms/u/s!{weights}",
            "MODEL.BACKBONE.NAME": "build_hrfpn_backbone",
            "MODEL.RPN.IN_FEATURES": ["p1", "p2", "p3", "p4", "p5"],
            "MODEL.ROI_HEADS.IN_FEATURES": ["p1", "p2", "p3", "p4", "p5"],
            "SOLVER.BASE_LR": 0.03,
        }
    )


# ---------------------------------------------------------------- continuous surface embeddings
CSE = (
    DENSEPOSE
    | CLIPPED_NORM
    | {
        "DATASETS.TRAIN": (),
        "DATASETS.TEST": (),
        f"{HEAD}.PREDICTOR_NAME": "DensePoseEmbeddingPredictor",
        f"{HEAD}.LOSS_NAME": "DensePoseCseLoss",
        "DENSEPOSE_EVALUATION.TYPE": "cse",
        "DENSEPOSE_EVALUATION.STORAGE": "file",
    }
)
SOFT = {f"{HEAD}.CSE.EMBED_LOSS_NAME": "SoftEmbeddingLoss"}
BROAD = {
    f"{HEAD}.CSE.EMBEDDING_DIST_GAUSS_SIGMA": 0.1,
    f"{HEAD}.CSE.GEODESIC_DIST_GAUSS_SIGMA": 0.1,
}


def _meshes(*names: str) -> dict[str, Any]:
    """Embed the vertices of these meshes; a name ends in their number."""
    embedders = {
        name: {
            "TYPE": "vertex_feature",
            "NUM_VERTICES": int(name.rpartition("_")[2]),
            "FEATURE_DIM": 256,
            "FEATURES_TRAINABLE": False,
            "IS_TRAINABLE": True,
            "INIT_FILE": f"{WEIGHTS}/data/cse/lbo/phi_{name}_256.pkl",
        }
        for name in names
    }
    return {f"{HEAD}.CSE.EMBEDDERS": embedders}


def _mesh_of_class(*names: str) -> dict[str, Any]:
    classes = {str(number): name for number, name in enumerate(names)}
    return {"DATASETS.CLASS_TO_MESH_NAME_MAPPING": classes}


CSE_HUMAN = (
    CSE
    | _meshes("smpl_27554")
    | _mesh_of_class("smpl_27554")
    | {
        "DATASETS.TRAIN": (
            "densepose_coco_2014_train_cse",
            "densepose_coco_2014_valminusminival_cse",
        ),
        "DATASETS.TEST": ("densepose_coco_2014_minival_cse",),
    }
)
FROM_PEOPLE = {
    "MODEL.WEIGHTS": (
        f"{WEIGHTS}/cse/densepose_rcnn_R_50_FPN_soft_s1x/250533982/model_final_2c4512.pkl"
    )
}
CHIMPS = (
    _meshes("chimp_5029")
    | _mesh_of_class("chimp_5029")
    | {
        "DATASETS.TRAIN": ("densepose_chimps_cse_train",),
        "DATASETS.TEST": ("densepose_chimps_cse_val",),
    }
)
# Animals of LVIS: the order of classes, and of the ids that stand for the same in the files.
ANIMALS = (
    "bear_4936",
    "cow_5002",
    "cat_7466",
    "dog_7466",
    "elephant_5002",
    "giraffe_5002",
    "horse_5004",
    "sheep_5004",
    "zebra_5002",
)
ANIMALS_1 = tuple({"cat_7466": "cat_5001", "dog_7466": "dog_5002"}.get(a, a) for a in ANIMALS)
SHEEP_ID, OTHER_IDS = 943, (1202, 569, 496, 422, 80, 76, 225, 378)
ANIMAL_LOSSES = SOFT | BROAD | {f"{HEAD}.COARSE_SEGM_TRAINED_BY_MASKS": True}
ALIGNED = {"DENSEPOSE_EVALUATION.EVALUATE_MESH_ALIGNMENT": True}


def _lvis(version: int) -> dict[str, Any]:
    """Train on the first (ds1) or second (ds2) set of annotated animals."""
    splits = [f"densepose_lvis_v1_ds{version}_{split}_v1" for split in ("train", "val")]
    animals = [SHEEP_ID, *OTHER_IDS]
    return {
        "DATASETS.TRAIN": (splits[0],),
        "DATASETS.TEST": (splits[1],),
        "DATASETS.WHITELISTED_CATEGORIES": dict.fromkeys(splits, animals),
    }


def _one_class(version: int) -> dict[str, Any]:
    """Call all animals sheep."""
    splits = [f"densepose_lvis_v1_ds{version}_{split}_v1" for split in ("train", "val")]
    to_sheep = {str(number): SHEEP_ID for number in OTHER_IDS}
    return _mesh_of_class("sheep_5004") | {
        "DATASETS.CATEGORY_MAPS": dict.fromkeys(splits, to_sheep)
    }


def _finetune(iterations: int, *steps: int) -> dict[str, Any]:
    return {"SOLVER.MAX_ITER": iterations, "SOLVER.STEPS": steps}


NINE = {"MODEL.ROI_HEADS.NUM_CLASSES": 9}
FOUR_K, SIXTEEN_K = _finetune(4_000, 3_000, 3_500), _finetune(16_000, 12_000, 14_000)
ANIMALS_4K = (CSE, R50, ANIMAL_LOSSES, FROM_PEOPLE, _meshes(*ANIMALS_1), _lvis(1), FOUR_K, ALIGNED)
ANIMALS_16K = (CSE, R50, ANIMAL_LOSSES, FROM_PEOPLE, _meshes(*ANIMALS), _lvis(2), SIXTEEN_K)
NINE_ANIMALS = (*ANIMALS_16K, NINE, _mesh_of_class(*ANIMALS), ALIGNED)
MASKS_ONLY = "cse/densepose_rcnn_R_50_FPN_soft_animals_finetune_maskonly_24k"
FROM_MASKS = {"MODEL.WEIGHTS": f"{WEIGHTS}/{MASKS_ONLY}/270668502/model_final_21b1d2.pkl"}
FROM_OTHER_MASKS = {"MODEL.WEIGHTS": f"{WEIGHTS}/{MASKS_ONLY}/267687159/model_final_354e61.pkl"}
PIXEL_CYCLES = {f"{HEAD}.CSE.PIX_TO_SHAPE_CYCLE_LOSS.ENABLED": True}
MESH_CYCLES = _meshes(*ANIMALS, "smpl_27554") | {
    f"{HEAD}.CSE.SHAPE_TO_SHAPE_CYCLE_LOSS.ENABLED": True,
    "DENSEPOSE_EVALUATION.MESH_ALIGNMENT_MESH_NAMES": list(ANIMALS),
}

# ------------------------------------------- from people to chimpanzees: Sanakoyeu et al. (2020)
NEAR_ANIMALS = range(16, 26)  # COCO's ids from bird to giraffe
EVOLUTION = (
    FPN
    | SCHEDULE_1X
    | {
        "DATASETS.TRAIN": ("base_coco_2017_train", "densepose_coco_2014_train"),
        "DATASETS.TEST": ("densepose_chimps",),
        "DATASETS.CATEGORY_MAPS": {
            f"base_coco_2017_{split}": {str(number): 1 for number in NEAR_ANIMALS}
            for split in ("train", "val")
        },
        "DATASETS.WHITELISTED_CATEGORIES": {
            f"base_coco_2017_{split}": [1, *NEAR_ANIMALS] for split in ("train", "val")
        },
        "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    }
)
MASTER = (
    EVOLUTION,
    R50,
    DEEPLAB,
    WC1M,
    SCHEDULE_3X,
    {
        "MODEL.ROI_HEADS.NAME": "DensePoseROIHeads",
        f"{HEAD}.POOLER_TYPE": "ROIAlign",
        f"{HEAD}.COARSE_SEGM_TRAINED_BY_MASKS": True,
    },
)
FROM_MASTER = (
    f"{WEIGHTS}/evolution/densepose_R_50_FPN_DL_WC1M_3x_Atop10P_CA/217578784/model_final_9fe1cc.pkl"
)


def _bootstrap(sampler: str) -> dict[str, Any]:
    """Train on what the master model predicts in videos of chimpanzees."""
    videos = {
        "DATASET": "chimpnsee",
        "RATIO": 1.0,
        "IMAGE_LOADER": {
            "TYPE": "video_keyframe",
            "SELECT": {"STRATEGY": "random_k", "NUM_IMAGES": 4},
            "TRANSFORM": {"TYPE": "resize", "MIN_SIZE": 800, "MAX_SIZE": 1333},
            "BATCH_SIZE": 8,
            "NUM_WORKERS": 1,
        },
        "INFERENCE": {"INPUT_BATCH_SIZE": 1, "OUTPUT_BATCH_SIZE": 1},
        "DATA_SAMPLER": {"TYPE": sampler, "COUNT_PER_CLASS": 8},
        "FILTER": {"TYPE": "detection_score", "MIN_VALUE": 0.8},
    }
    return {
        "MODEL.WEIGHTS": FROM_MASTER,
        "BOOTSTRAP_DATASETS": [videos],
        "BOOTSTRAP_MODEL.WEIGHTS": FROM_MASTER,
    }


# ------------------------------------------------------------------------------------- the table
Row = tuple[str, Preset]


def _row(
    name: str,
    overlays: Sequence[Overlay],
    weights: str = "",
    ap: Sequence[float] = (),
    **more: float,
) -> Row:
    """Name a config; weights lie below its name, ``ap`` is that of boxes, masks, GPS, GPSM."""
    names = ("box_ap", "mask_ap", "dp_ap_gps", "dp_ap_gpsm")
    scores: Mapping[str, Any] = dict(zip(names, ap, strict=False)) | more
    return f"{name}.yaml", Preset(
        tuple(overlays), f"densepose/{name}/{weights}" if weights else "", scores
    )


def _charts() -> Iterator[Row]:
    yield _row("Base-DensePose-RCNN-FPN", [DENSEPOSE])
    hrnets = {
        32: "Aus8VCZ_C_33dYBMemi9xOUFR0w",
        40: "Aus8VCZ_C_33ck0gvo5jfoWBOPo",
        48: "Aus8VCZ_C_33dKvqI6pBZlifgJk",
    }
    for width, weights in hrnets.items():
        name = f"HRNet/densepose_rcnn_HRFPN_HRNet_w{width}_s1x"
        yield _row(name, [DENSEPOSE, S1X, _hrnet(width, weights)])

    trunks = {"R_50_FPN": R50, "R_101_FPN": R101}
    kinds: dict[str, list[Overlay]] = {
        "s1x_legacy": [LEGACY],
        "s1x": [],
        "DL_s1x": [DEEPLAB],
        "WC1_s1x": [WC1, SLOW_START],
        "WC2_s1x": [WC2, SLOW_START],
        "DL_WC1_s1x": [DEEPLAB, WC1],
        "DL_WC2_s1x": [DEEPLAB, WC2],
        "WC1M_s1x": [WC1M, SLOW_START],
        "WC2M_s1x": [WC2M, SLOW_START],
        "DL_WC1M_s1x": [DEEPLAB, WC1M],
        "DL_WC2M_s1x": [DEEPLAB, WC2M],
    }
    norm_100 = CLIPPED_NORM | {"SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 100.0}
    for trunk, start in trunks.items():
        for kind, overlays in kinds.items():
            clip = [norm_100] if (trunk, kind) == ("R_50_FPN", "WC1M_s1x") else []
            weights, ap = TRAINED[f"{trunk}_{kind}"]
            name = f"densepose_rcnn_{trunk}_{kind}"
            yield _row(name, [DENSEPOSE, start, S1X, *overlays, *clip], weights, ap)


TRAINED = {  # weights; AP of boxes, masks, GPS, GPSM
    "R_50_FPN_s1x_legacy": ("164832157/model_final_d366fa.pkl", (58.1, 58.2, 52.1, 54.9)),
    "R_101_FPN_s1x_legacy": ("164832182/model_final_10af0e.pkl", (59.5, 59.3, 53.2, 56.0)),
    "R_50_FPN_s1x": ("165712039/model_final_162be9.pkl", (61.2, 67.2, 63.7, 65.3)),
    "R_101_FPN_s1x": ("165712084/model_final_c6ab63.pkl", (62.3, 67.8, 64.5, 66.2)),
    "R_50_FPN_DL_s1x": ("165712097/model_final_0ed407.pkl", (61.1, 68.3, 65.6, 66.7)),
    "R_101_FPN_DL_s1x": ("165712116/model_final_844d15.pkl", (62.3, 68.7, 66.3, 67.6)),
    "R_50_FPN_WC1_s1x": ("173862049/model_final_289019.pkl", (60.5, 67.0, 64.2, 65.4)),
    "R_50_FPN_WC2_s1x": ("173861455/model_final_3abe14.pkl", (60.7, 66.9, 64.2, 65.7)),
    "R_50_FPN_DL_WC1_s1x": ("173067973/model_final_b1e525.pkl", (61.1, 68.1, 65.8, 67.0)),
    "R_50_FPN_DL_WC2_s1x": ("173859335/model_final_60fed4.pkl", (60.8, 67.9, 65.6, 66.7)),
    "R_101_FPN_WC1_s1x": ("171402969/model_final_9e47f0.pkl", (62.5, 67.6, 64.9, 66.3)),
    "R_101_FPN_WC2_s1x": ("173860702/model_final_5ea023.pkl", (62.3, 67.6, 64.8, 66.4)),
    "R_101_FPN_DL_WC1_s1x": ("173858525/model_final_f359f3.pkl", (62.0, 68.4, 66.2, 67.2)),
    "R_101_FPN_DL_WC2_s1x": ("173294801/model_final_6e1ed1.pkl", (61.7, 68.3, 65.9, 67.2)),
    "R_50_FPN_WC1M_s1x": ("217144516/model_final_48a9d9.pkl", (60.6, 66.7, 64.0, 65.4)),
    "R_50_FPN_WC2M_s1x": ("216245640/model_final_d79ada.pkl", (60.7, 66.9, 64.2, 65.5)),
    "R_50_FPN_DL_WC1M_s1x": ("216245703/model_final_61971e.pkl", (60.7, 68.0, 65.2, 66.7)),
    "R_50_FPN_DL_WC2M_s1x": ("216245758/model_final_7bfb43.pkl", (60.8, 68.1, 65.0, 66.4)),
    "R_101_FPN_WC1M_s1x": ("216453687/model_final_0a7287.pkl", (62.0, 67.3, 64.8, 66.0)),
    "R_101_FPN_WC2M_s1x": ("216245682/model_final_e354d9.pkl", (62.5, 67.4, 64.5, 66.0)),
    "R_101_FPN_DL_WC1M_s1x": ("216245771/model_final_0ebeb3.pkl", (62.0, 68.1, 66.4, 67.1)),
    "R_101_FPN_DL_WC2M_s1x": ("216245790/model_final_de6e7a.pkl", (61.9, 68.2, 66.1, 67.1)),
    # embeddings
    "cse_R_50_FPN_s1x": ("251155172/model_final_c4ea5f.pkl", (61.1, 67.1, 64.4, 65.7)),
    "cse_R_101_FPN_s1x": ("251155500/model_final_5c995f.pkl", (62.3, 67.2, 64.7, 65.8)),
    "cse_R_50_FPN_DL_s1x": ("251156349/model_final_e96218.pkl", (60.8, 67.8, 65.5, 66.4)),
    "cse_R_101_FPN_DL_s1x": ("251156606/model_final_b236ce.pkl", (61.5, 68.0, 65.6, 66.6)),
    "cse_R_50_FPN_soft_s1x": ("250533982/model_final_2c4512.pkl", (61.3, 66.9, 64.3, 65.4)),
    "cse_R_101_FPN_soft_s1x": ("250712522/model_final_4637da.pkl", (62.1, 67.3, 64.5, 66.0)),
    "cse_R_50_FPN_DL_soft_s1x": ("250713703/model_final_9199f5.pkl", (60.8, 68.0, 66.1, 66.7)),
    "cse_R_101_FPN_DL_soft_s1x": ("250713061/model_final_1d3314.pkl", (61.5, 68.2, 66.2, 67.1)),
}


def _embeddings() -> Iterator[Row]:
    yield _row("cse/Base-DensePose-RCNN-FPN", [CSE])
    yield _row("cse/Base-DensePose-RCNN-FPN-Human", [CSE_HUMAN])
    kinds: dict[str, list[Overlay]] = {
        "s1x": [],
        "DL_s1x": [DEEPLAB],
        "soft_s1x": [SOFT],
        "DL_soft_s1x": [DEEPLAB, SOFT],
    }
    for trunk, start in {"R_50_FPN": R50, "R_101_FPN": R101}.items():
        for kind, overlays in kinds.items():
            weights, ap = TRAINED[f"cse_{trunk}_{kind}"]
            name = f"cse/densepose_rcnn_{trunk}_{kind}"
            yield _row(name, [CSE_HUMAN, start, S1X, *overlays], weights, ap)


def _animals() -> Iterator[Row]:
    base = "cse/densepose_rcnn_R_50_FPN_soft"
    yield _row(
        f"{base}_chimps_finetune_4k",
        [CSE, R50, SOFT, BROAD, FROM_PEOPLE, CHIMPS, FOUR_K],
        "253146869/model_final_52f649.pkl",
        (62.0, 59.0, 32.2, 39.6),
    )
    yield _row(
        f"{base}_animals_finetune_4k",
        [*ANIMALS_4K, NINE, _mesh_of_class(*ANIMALS_1)],
        "253145793/model_final_8f8ba2.pkl",
        (44.9, 55.5, 21.3, 28.8),
    )
    yield _row(
        f"{base}_animals_CA_finetune_4k",
        [*ANIMALS_4K, _one_class(1)],
        "253498611/model_final_6d69b7.pkl",
        (53.4, 59.5, 25.4, 33.4),
    )
    yield _row(f"{base}_animals_CA_finetune_16k", [*ANIMALS_16K, _one_class(2), ALIGNED])
    yield _row(f"{base}_animals_finetune_16k", NINE_ANIMALS)
    no_embedding_loss = {f"{HEAD}.CSE.EMBED_LOSS_WEIGHT": 0.0}
    yield _row(
        f"{base}_animals_finetune_maskonly_24k",
        [
            *NINE_ANIMALS,
            _finetune(24_000, 20_000, 22_000),
            no_embedding_loss,
            {"DENSEPOSE_EVALUATION.EVALUATE_MESH_ALIGNMENT": False},
        ],
    )
    # geodesic error and GPS between the meshes of two animals
    yield _row(
        f"{base}_animals_I0_finetune_16k",
        [*NINE_ANIMALS, FROM_MASKS],
        "270727112/model_final_421d28.pkl",
        (54.2, 67.0, 29.0, 38.6),
        mesh_gerr=13.2,
        mesh_gps=85.4,
    )
    yield _row(
        f"{base}_animals_I0_finetune_m2m_16k",
        [*NINE_ANIMALS, FROM_OTHER_MASKS, MESH_CYCLES],
        "270982215/model_final_6fe5f4.pkl",
        (54.1, 67.3, 28.6, 38.4),
        mesh_gerr=12.5,
        mesh_gps=87.6,
    )
    yield _row(
        f"{base}_animals_I0_finetune_i2m_16k",
        [*NINE_ANIMALS, FROM_MASKS, PIXEL_CYCLES],
        "270727461/model_final_8c9d99.pkl",
        (54.0, 66.6, 28.9, 38.3),
        mesh_gerr=11.0,
        mesh_gps=88.9,
    )


def _chimpanzees() -> Iterator[Row]:
    base = "evolution/densepose_R_50_FPN_DL_WC1M_3x_Atop10P_CA"
    yield _row("evolution/Base-RCNN-FPN-Atop10P_CA", [EVOLUTION])
    yield _row(
        base,
        [*MASTER, SLOW_START, {f"{HEAD}.INDEX_WEIGHTS": 1.0}],
        "217578784/model_final_9fe1cc.pkl",
        (61.3, 59.1, 20.0, 30.2),
        dp_apex_gps=36.2,
    )
    yield _row(
        f"{base}_B_uniform",
        [*MASTER, _bootstrap("densepose_uniform")],
        "256453729/model_final_241ff5.pkl",
        (60.9, 58.5, 21.5, 31.0),
        dp_apex_gps=37.2,
    )
    yield _row(
        f"{base}_B_uv",
        [*MASTER, _bootstrap("densepose_UV_confidence")],
        "256452095/model_final_d689e2.pkl",
        (61.4, 58.9, 22.2, 32.1),
        dp_apex_gps=38.3,
    )
    yield _row(
        f"{base}_B_finesegm",
        [*MASTER, _bootstrap("densepose_fine_segm_confidence")],
        "256452819/model_final_cb4ac6.pkl",
        (60.9, 58.5, 20.7, 30.7),
        dp_apex_gps=36.7,
    )
    yield _row(
        f"{base}_B_coarsesegm",
        [*MASTER, _bootstrap("densepose_coarse_segm_confidence")],
        "256455697/model_final_a6a4bf.pkl",
        (61.3, 59.2, 21.5, 31.6),
        dp_apex_gps=37.9,
    )


PRESETS = dict([*_charts(), *_embeddings(), *_animals(), *_chimpanzees()])
