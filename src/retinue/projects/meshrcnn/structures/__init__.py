"""What an object of an image may have beside box and mask: its voxels, its mesh."""

from retinue.projects.meshrcnn.structures.mesh import MeshInstances
from retinue.projects.meshrcnn.structures.voxel import VoxelInstances

__all__ = ["MeshInstances", "VoxelInstances"]
