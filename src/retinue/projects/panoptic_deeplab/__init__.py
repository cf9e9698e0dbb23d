"""Panoptic-DeepLab: panoptic segmentation from the bottom up, pixels voting for centres.

Cheng et al., "Panoptic-DeepLab" (2020), https://arxiv.org/abs/1911.10194.

Reading order: panoptic_seg (the model and its two heads), post_processing (from votes to
instances), target_generator and dataset_mapper (what it learns from).
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.panoptic_deeplab"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "INS_EMBED_BRANCHES_REGISTRY": f"{_HERE}.panoptic_seg",
        "PanopticDeepLab": f"{_HERE}.panoptic_seg",
        "PanopticDeepLabInsEmbedHead": f"{_HERE}.panoptic_seg",
        "PanopticDeepLabSemSegHead": f"{_HERE}.panoptic_seg",
        "PanopticDeeplabDatasetMapper": f"{_HERE}.dataset_mapper",
        "add_panoptic_deeplab_config": f"{_HERE}.config",
        "build_ins_embed_branch": f"{_HERE}.panoptic_seg",
        "config": "",
        "dataset_mapper": "",
        "panoptic_seg": "",
        "post_processing": "",
        "presets": "",
        "target_generator": "",
        "training": "",
    },
)
