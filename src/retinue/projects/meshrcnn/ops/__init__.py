"""Operations on triangle meshes in plain PyTorch: any device, float32 and float64, differentiable.

Names and arguments are those of PyTorch3D, whose wheels exist for few systems. Nothing here knows
Mesh R-CNN. A batch without meshes, and a mesh without faces, are ordinary everywhere.

Reading order: meshes (the batch), cubes and spheres (how to get one), subdivide, image_features and
graph_conv (how a network changes it), sample_points, knn and losses (how it is compared), obj_io.
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.meshrcnn.ops"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "GraphConv": f"{_HERE}.graph_conv",
        "Meshes": f"{_HERE}.meshes",
        "SubdivideMeshes": f"{_HERE}.subdivide",
        "chamfer_distance": f"{_HERE}.losses",
        "cubify": f"{_HERE}.cubes",
        "ico_sphere": f"{_HERE}.spheres",
        "knn_gather": f"{_HERE}.knn",
        "knn_points": f"{_HERE}.knn",
        "load_obj": f"{_HERE}.obj_io",
        "mesh_edge_loss": f"{_HERE}.losses",
        "mesh_normal_consistency": f"{_HERE}.losses",
        "sample_points_from_meshes": f"{_HERE}.sample_points",
        "save_obj": f"{_HERE}.obj_io",
        "vert_align": f"{_HERE}.image_features",
    },
)
