"""The heads of Mesh R-CNN; ``roi_heads`` puts them together."""

from retinue.projects.meshrcnn.modeling.roi_heads.roi_heads import MeshRCNNROIHeads

__all__ = ["MeshRCNNROIHeads"]
