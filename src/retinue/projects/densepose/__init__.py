"""DensePose: where on the surface of a body each pixel of it lies.

Güler et al., "DensePose: Dense Human Pose Estimation In The Wild" (2018),
https://arxiv.org/abs/1802.00434; Neverova et al., "Continuous Surface Embeddings" (2020),
https://arxiv.org/abs/2011.12438.

Reading order: structures (ground truth, predictions), modeling.roi_heads (the flow), then
modeling.predictors, modeling.losses, converters (predictions to pixels), data, evaluation, vis.
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DensePoseCOCOEvaluator": f"{_HERE}.evaluation.evaluator",
        "DensePoseDataRelative": f"{_HERE}.structures.data_relative",
        "DensePoseDatasetMapperTTA": f"{_HERE}.modeling.test_time_augmentation",
        "DensePoseGeneralizedRCNNWithTTA": f"{_HERE}.modeling.test_time_augmentation",
        "DensePoseList": f"{_HERE}.structures.list",
        "DensePoseROIHeads": f"{_HERE}.modeling.roi_heads.roi_head",
        "DensePoseTransformData": f"{_HERE}.structures.transform_data",
        "add_bootstrap_config": f"{_HERE}.config",
        "add_dataset_category_config": f"{_HERE}.config",
        "add_densepose_config": f"{_HERE}.config",
        "add_densepose_head_config": f"{_HERE}.config",
        "add_hrnet_config": f"{_HERE}.config",
        "build_hrfpn_backbone": f"{_HERE}.modeling.hrfpn",
        "builtin": f"{_HERE}.data.datasets:builtin",
        "builtin_converters": f"{_HERE}.converters:builtin",
        "config": "",
        "converters": "",
        "data": "",
        "engine": "",
        "evaluation": "",
        "load_bootstrap_config": f"{_HERE}.config",
        "load_from_cfg": f"{_HERE}.utils.transform",
        "modeling": "",
        "presets": "",
        "structures": "",
        "training": "",
        "utils": "",
        "vis": "",
    },
)
