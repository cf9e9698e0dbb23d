"""Mesh R-CNN without detection: one centred object a picture, as in renderings of ShapeNet.

The package ``shapenet`` of the public project: a ResNet reads the picture, voxels and meshes are
predicted for all of it, in world space, through the known camera.

Reading order: coords (the camera), mesh_arch (the models), heads, mesh_loss, data, training,
evaluation.
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.meshrcnn.shapenet"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "MeshLoss": f"{_HERE}.mesh_loss",
        "MeshVoxDataset": f"{_HERE}.data",
        "build_model": f"{_HERE}.mesh_arch",
        "config": "",
        "coords": "",
        "data": "",
        "evaluate_test": f"{_HERE}.evaluation",
        "evaluation": "",
        "get_shapenet_cfg": f"{_HERE}.config",
        "heads": "",
        "mesh_arch": "",
        "mesh_loss": "",
        "train": f"{_HERE}.training",
        "training": "",
    },
)
