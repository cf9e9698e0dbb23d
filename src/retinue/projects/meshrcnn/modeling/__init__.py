"""The model: heads for depth, voxels and meshes beside those of Mask R-CNN."""

from retinue.projects.meshrcnn.modeling.roi_heads import MeshRCNNROIHeads

__all__ = ["MeshRCNNROIHeads"]
