"""Pix3D, and a generated dataset in its form."""

from retinue.projects.meshrcnn.data.datasets.builtin import register_all_pix3d, register_pix3d
from retinue.projects.meshrcnn.data.datasets.pix3d import load_pix3d_json

__all__ = ["load_pix3d_json", "register_all_pix3d", "register_pix3d"]
