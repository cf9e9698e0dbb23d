"""Weights and scores of published lazy configs; the configs are files in ``configs``.

The table is that of the model zoo page of https://github.com/facebookresearch/detectron2 on longer
schedules with large-scale jitter, on COCO val2017.
"""

from retinue.model_zoo.presets import Preset

__all__ = ["LAZY_PRESETS"]


def _row(weights: str, box_ap: float, mask_ap: float, inference_s: float) -> Preset:
    return Preset((), weights, {"box_ap": box_ap, "mask_ap": mask_ap, "inference_s": inference_s})


LAZY_PRESETS: dict[str, Preset] = {
    f"new_baselines/mask_rcnn_{name}_LSJ": row
    for name, row in {
        "R_50_FPN_100ep": _row("42047764/model_final_bb69de.pkl", 44.6, 40.3, 0.069),
        "R_50_FPN_200ep": _row("42047638/model_final_89a8d3.pkl", 46.3, 41.7, 0.069),
        "R_50_FPN_400ep": _row("42019571/model_final_14d201.pkl", 47.4, 42.5, 0.069),
        "R_101_FPN_100ep": _row("42025812/model_final_4f7b58.pkl", 46.4, 41.6, 0.073),
        "R_101_FPN_200ep": _row("42131867/model_final_0bb7ae.pkl", 48.0, 43.1, 0.073),
        "R_101_FPN_400ep": _row("42073830/model_final_f96b26.pkl", 48.9, 43.7, 0.073),
        "regnetx_4gf_dds_FPN_100ep": _row("42047771/model_final_b7fbab.pkl", 46.0, 41.3, 0.071),
        "regnetx_4gf_dds_FPN_200ep": _row("42132721/model_final_5d87c1.pkl", 48.1, 43.1, 0.071),
        "regnetx_4gf_dds_FPN_400ep": _row("42025447/model_final_f1362d.pkl", 48.6, 43.5, 0.071),
        "regnety_4gf_dds_FPN_100ep": _row("42047784/model_final_6ba57e.pkl", 46.1, 41.6, 0.073),
        "regnety_4gf_dds_FPN_200ep": _row("42047642/model_final_27b9c1.pkl", 47.8, 43.0, 0.072),
        "regnety_4gf_dds_FPN_400ep": _row("42045954/model_final_ef3a80.pkl", 48.2, 43.3, 0.072),
    }.items()
}
