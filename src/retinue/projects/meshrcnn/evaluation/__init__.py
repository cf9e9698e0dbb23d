"""How well meshes are predicted."""

from retinue.projects.meshrcnn.evaluation.pix3d_evaluation import (
    Pix3DEvaluator,
    transform_meshes_to_camera_coord_system,
)

__all__ = ["Pix3DEvaluator", "transform_meshes_to_camera_coord_system"]
