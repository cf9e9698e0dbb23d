"""Weights and scores of the published configs of ViTDet; the configs are files in ``configs``.

Scores are those of the project's page in https://github.com/facebookresearch/detectron2, on COCO
val2017 or LVIS v1 val.
"""

from retinue.model_zoo.presets import Preset

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = ()  # no YAML configs

_WEIGHTS = "detectron2/ViTDet"

PRESETS = {
    "COCO/mask_rcnn_vitdet_b_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/mask_rcnn_vitdet_b/f325346929/model_final_61ccd1.pkl",
        {"box_ap": 51.6, "mask_ap": 45.9, "inference_s": 0.079},
    ),
    "COCO/mask_rcnn_vitdet_l_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/mask_rcnn_vitdet_l/f325599698/model_final_6146ed.pkl",
        {"box_ap": 55.5, "mask_ap": 49.2, "inference_s": 0.125},
    ),
    "COCO/mask_rcnn_vitdet_h_75ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/mask_rcnn_vitdet_h/f329145471/model_final_7224f1.pkl",
        {"box_ap": 56.7, "mask_ap": 50.2, "inference_s": 0.178},
    ),
    "COCO/cascade_mask_rcnn_swin_b_in21k_50ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/cascade_mask_rcnn_swin_b_in21k/f342979038/model_final_246a82.pkl",
        {"box_ap": 53.9, "mask_ap": 46.2, "inference_s": 0.077},
    ),
    "COCO/cascade_mask_rcnn_swin_l_in21k_50ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/cascade_mask_rcnn_swin_l_in21k/f342979186/model_final_7c897e.pkl",
        {"box_ap": 55.0, "mask_ap": 47.2, "inference_s": 0.097},
    ),
    "COCO/cascade_mask_rcnn_mvitv2_b_in21k_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/cascade_mask_rcnn_mvitv2_b_in21k/f325820315/model_final_8c3da3.pkl",
        {"box_ap": 55.6, "mask_ap": 48.1, "inference_s": 0.09},
    ),
    "COCO/cascade_mask_rcnn_mvitv2_l_in21k_50ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/cascade_mask_rcnn_mvitv2_l_in21k/f325607715/model_final_2141b0.pkl",
        {"box_ap": 55.7, "mask_ap": 48.3, "inference_s": 0.157},
    ),
    "COCO/cascade_mask_rcnn_mvitv2_h_in21k_36ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/cascade_mask_rcnn_mvitv2_h_in21k/f326187358/model_final_2234d7.pkl",
        {"box_ap": 55.9, "mask_ap": 48.3, "inference_s": 0.285},
    ),
    "COCO/cascade_mask_rcnn_vitdet_b_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/cascade_mask_rcnn_vitdet_b/f325358525/model_final_435fa9.pkl",
        {"box_ap": 54.0, "mask_ap": 46.7, "inference_s": 0.089},
    ),
    "COCO/cascade_mask_rcnn_vitdet_l_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/cascade_mask_rcnn_vitdet_l/f328021305/model_final_1a9f28.pkl",
        {"box_ap": 57.6, "mask_ap": 50.0, "inference_s": 0.142},
    ),
    "COCO/cascade_mask_rcnn_vitdet_h_75ep.py": Preset(
        (),
        f"{_WEIGHTS}/COCO/cascade_mask_rcnn_vitdet_h/f328730692/model_final_f05665.pkl",
        {"box_ap": 58.7, "mask_ap": 51.0, "inference_s": 0.196},
    ),
    "LVIS/mask_rcnn_vitdet_b_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/mask_rcnn_vitdet_b/329225748/model_final_5251c5.pkl",
        {"box_ap": 40.2, "mask_ap": 38.2, "inference_s": 0.085},
    ),
    "LVIS/mask_rcnn_vitdet_l_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/mask_rcnn_vitdet_l/329211570/model_final_021b3a.pkl",
        {"box_ap": 46.1, "mask_ap": 43.6, "inference_s": 0.137},
    ),
    "LVIS/mask_rcnn_vitdet_h_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/mask_rcnn_vitdet_h/332434656/model_final_866730.pkl",
        {"box_ap": 49.1, "mask_ap": 46.0, "inference_s": 0.186},
    ),
    "LVIS/cascade_mask_rcnn_swin_b_in21k_50ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/cascade_mask_rcnn_swin_b_in21k/329222304/model_final_a3a348.pkl",
        {"box_ap": 44.0, "mask_ap": 39.6, "inference_s": 0.09},
    ),
    "LVIS/cascade_mask_rcnn_swin_l_in21k_50ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/cascade_mask_rcnn_swin_l_in21k/329222724/model_final_2b94db.pkl",
        {"box_ap": 46.0, "mask_ap": 41.4, "inference_s": 0.105},
    ),
    "LVIS/cascade_mask_rcnn_mvitv2_b_in21k_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/cascade_mask_rcnn_mvitv2_b_in21k/329477206/model_final_a00567.pkl",
        {"box_ap": 46.3, "mask_ap": 42.0, "inference_s": 0.1},
    ),
    "LVIS/cascade_mask_rcnn_mvitv2_l_in21k_50ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/cascade_mask_rcnn_mvitv2_l_in21k/329661552/model_final_7838a5.pkl",
        {"box_ap": 49.4, "mask_ap": 44.2, "inference_s": 0.172},
    ),
    "LVIS/cascade_mask_rcnn_mvitv2_h_in21k_50ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/cascade_mask_rcnn_mvitv2_h_in21k/330445165/model_final_ad4220.pkl",
        {"box_ap": 49.5, "mask_ap": 44.1, "inference_s": 0.29},
    ),
    "LVIS/cascade_mask_rcnn_vitdet_b_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/cascade_mask_rcnn_vitdet_b/329226874/model_final_df306f.pkl",
        {"box_ap": 43.0, "mask_ap": 38.9, "inference_s": 0.099},
    ),
    "LVIS/cascade_mask_rcnn_vitdet_l_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/cascade_mask_rcnn_vitdet_l/329042206/model_final_3e81c2.pkl",
        {"box_ap": 49.2, "mask_ap": 44.5, "inference_s": 0.15},
    ),
    "LVIS/cascade_mask_rcnn_vitdet_h_100ep.py": Preset(
        (),
        f"{_WEIGHTS}/LVIS/cascade_mask_rcnn_vitdet_h/332552778/model_final_11bbb7.pkl",
        {"box_ap": 51.5, "mask_ap": 46.6, "inference_s": 0.204},
    ),
}
