"""The published meshes; they are rows of ``MeshCatalog`` from the start."""

from retinue.projects.densepose.data.meshes.catalog import DENSEPOSE_MESHES_DIR, MESHES

__all__ = ["DENSEPOSE_MESHES_DIR", "MESHES"]
