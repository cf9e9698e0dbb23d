"""Mesh R-CNN: the three-dimensional shape of each object in a picture, as a triangle mesh.

Gkioxari, Malik, Johnson, "Mesh R-CNN" (2019), https://arxiv.org/abs/1906.02739. Names and config
keys are those of the public project, https://github.com/facebookresearch/meshrcnn.

Reading order: utils.shape (the space that shapes are predicted in), modeling.roi_heads (the model),
ops (meshes), data, evaluation; example (all of it on generated pictures); shapenet (its simpler
sibling, for pictures of one object).
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.meshrcnn"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "MeshRCNNMapper": f"{_HERE}.data",
        "MeshRCNNROIHeads": f"{_HERE}.modeling",
        "Pix3DEvaluator": f"{_HERE}.evaluation",
        "config": "",
        "data": "",
        "evaluation": "",
        "example": "",
        "get_meshrcnn_cfg_defaults": f"{_HERE}.config",
        "modeling": "",
        "ops": "",
        "presets": "",
        "shapenet": "",
        "structures": "",
        "training": "",
        "utils": "",
    },
)
