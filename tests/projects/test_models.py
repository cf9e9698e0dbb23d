"""Every published config of a project builds, and uses the parts that the catalogs name."""

import pytest
import torch

from retinue.config import instantiate
from retinue.modeling import build_model, catalog
from retinue.projects import get_config, zoo


def build(path):
    """Build the model on the meta device: shapes, no values."""
    cfg = get_config(path)
    with torch.device("meta"):
        if path.endswith(".py"):
            return instantiate(cfg.model)
        cfg.MODEL.DEVICE = "meta"
        return build_model(cfg)


YAML = [path for path in zoo.config_paths() if path.endswith(".yaml")]
DENSEPOSE = "projects/DensePose/configs"
ONE_OF_EACH_KIND = {  # of DensePose's fifty
    f"{DENSEPOSE}/densepose_rcnn_R_50_FPN_s1x_legacy.yaml",
    f"{DENSEPOSE}/densepose_rcnn_R_50_FPN_DL_WC2M_s1x.yaml",
    f"{DENSEPOSE}/HRNet/densepose_rcnn_HRFPN_HRNet_w32_s1x.yaml",
    f"{DENSEPOSE}/cse/densepose_rcnn_R_50_FPN_soft_animals_I0_finetune_m2m_16k.yaml",
}
LAZY = [  # transformers fill their weights slowly, even on the meta device: one of each kind
    "projects/MViTv2/configs/mask_rcnn_mvitv2_t_3x.py",
    "projects/Rethinking-BatchNorm/configs/mask_rcnn_BNhead_batch_stats.py",
    "projects/Rethinking-BatchNorm/configs/mask_rcnn_BNhead_shuffle.py",
    "projects/Rethinking-BatchNorm/configs/retinanet_SyncBNhead_SharedTraining.py",
    "projects/ViTDet/configs/COCO/cascade_mask_rcnn_swin_b_in21k_50ep.py",
    "projects/ViTDet/configs/LVIS/mask_rcnn_vitdet_b_100ep.py",
]


def is_quick(path):
    return path in YAML and (not path.startswith(DENSEPOSE) or path in ONE_OF_EACH_KIND)


@pytest.mark.parametrize(
    "path", [p if is_quick(p) else pytest.param(p, marks=pytest.mark.slow) for p in YAML + LAZY]
)
def test_it_builds(path):
    assert next(build(path).parameters()).is_meta


def test_each_row_of_a_project_is_used_by_one_of_its_configs():
    """A row that no published config names is listed here, with how it is reached."""
    elsewhere = {
        "build_pose_hrnet_backbone",  # without its pyramid, in configs of one's own
        "PointRendROIHeads",  # configs of PointRend's first version
        "TridentStandardROIHeads",  # for a pyramid, in configs of one's own
    }
    rows = {
        name
        for registry in (getattr(catalog, n) for n in catalog.__all__)
        for name, home in registry._catalog.items()
        if home.startswith("retinue.projects.")
    }
    texts = [get_config(path).dump() for path in YAML]
    unused = {name for name in rows if not any(f": {name}\n" in text for text in texts)}

    assert unused == elsewhere
