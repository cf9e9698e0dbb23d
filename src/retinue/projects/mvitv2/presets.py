"""Weights and scores of the published configs of MViTv2; the configs are files in ``configs``.

Scores are those of the project's page in https://github.com/facebookresearch/detectron2, on COCO
val2017.
"""

from retinue.model_zoo.presets import Preset

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = ()  # no YAML configs

_WEIGHTS = "detectron2/MViTv2"

PRESETS = {
    "mask_rcnn_mvitv2_t_3x.py": Preset(
        (),
        f"{_WEIGHTS}/mask_rcnn_mvitv2_t_3x/f307611773/model_final_1a1c30.pkl",
        {"box_ap": 48.3, "mask_ap": 43.8},
    ),
    "cascade_mask_rcnn_mvitv2_t_3x.py": Preset(
        (),
        f"{_WEIGHTS}/cascade_mask_rcnn_mvitv2_t_3x/f308344828/model_final_c6967a.pkl",
        {"box_ap": 52.2, "mask_ap": 45.0},
    ),
    "cascade_mask_rcnn_mvitv2_s_3x.py": Preset(
        (),
        f"{_WEIGHTS}/cascade_mask_rcnn_mvitv2_s_3x/f308344647/model_final_279baf.pkl",
        {"box_ap": 53.2, "mask_ap": 46.0},
    ),
    "cascade_mask_rcnn_mvitv2_b_3x.py": Preset(
        (),
        f"{_WEIGHTS}/cascade_mask_rcnn_mvitv2_b_3x/f308109448/model_final_421a91.pkl",
        {"box_ap": 54.1, "mask_ap": 46.7},
    ),
    "cascade_mask_rcnn_mvitv2_b_in21k_3x.py": Preset(
        (),
        f"{_WEIGHTS}/cascade_mask_rcnn_mvitv2_b_in12k_3x/f309003202/model_final_be5168.pkl",
        {"box_ap": 54.9, "mask_ap": 47.4},
    ),
    "cascade_mask_rcnn_mvitv2_l_in21k_lsj_50ep.py": Preset(
        (),
        f"{_WEIGHTS}/cascade_mask_rcnn_mvitv2_l_in12k_lsj_50ep/f308099658/model_final_c41c5a.pkl",
        {"box_ap": 55.8, "mask_ap": 48.3},
    ),
    "cascade_mask_rcnn_mvitv2_h_in21k_lsj_3x.py": Preset(
        (),
        f"{_WEIGHTS}/cascade_mask_rcnn_mvitv2_h_in12k_lsj_3x/f309013744/model_final_30d36b.pkl",
        {"box_ap": 56.1, "mask_ap": 48.5},
    ),
}
