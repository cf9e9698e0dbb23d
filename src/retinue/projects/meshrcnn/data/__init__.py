"""Pictures with the meshes and voxels of what they show."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.meshrcnn.data"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "MeshRCNNMapper": f"{_HERE}.meshrcnn_transforms",
        "datasets": "",
        "load_unique_meshes": f"{_HERE}.meshrcnn_transforms",
        "meshrcnn_transforms": "",
    },
)
