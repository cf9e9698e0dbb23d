"""The annotation of one body: labelled points, and coarse parts on a grid over its box.

Shapes
    K annotated points.

Units
    x and y are relative to the body's box, 0 to 256: a point lies at x0 + x * width / 256.
"""

from collections.abc import MutableMapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import retinue.data.transforms as T
from retinue.data.detection_utils import decode_rle
from retinue.projects.densepose.data.meshes.catalog import MeshCatalog
from retinue.projects.densepose.structures.mesh import load_mesh_symmetry
from retinue.projects.densepose.structures.transform_data import DensePoseTransformData
from retinue.utils.errors import InputError

__all__ = ["DensePoseDataRelative"]


class DensePoseDataRelative:
    """Points and parts, in attributes that are there as far as they are annotated.

    Attributes:
        x: ``(K,)``, 0 to 256.
        y: likewise.
        i: ``(K,)``, chart of each point, 1 to 24; 0 is background.
        u: ``(K,)`` in [0, 1], coordinate in the chart.
        v: likewise.
        vertex_ids: ``(K,)`` int64, the vertex of a mesh that each point shows.
        mesh_id: number of that mesh in ``MeshCatalog``.
        segm: ``(256, 256)`` labels of coarse parts, 0 to 14; 0 is background.

    Args:
        annotation: a dict with ``dp_x``, ``dp_y``, and ``dp_I``, ``dp_U``, ``dp_V`` or
            ``dp_vertex``, ``ref_model``; ``dp_masks`` if parts are annotated.
        cleanup: remove these keys from the dict.
    """

    X_KEY = "dp_x"
    Y_KEY = "dp_y"
    U_KEY = "dp_U"
    V_KEY = "dp_V"
    I_KEY = "dp_I"
    S_KEY = "dp_masks"
    VERTEX_IDS_KEY = "dp_vertex"
    MESH_NAME_KEY = "ref_model"
    N_BODY_PARTS = 14
    N_PART_LABELS = 24
    MASK_SIZE = 256

    _TENSORS = ("x", "y", "i", "u", "v", "vertex_ids", "segm")
    _CHART_KEYS = (I_KEY, U_KEY, V_KEY)
    _MESH_KEYS = (VERTEX_IDS_KEY, MESH_NAME_KEY)

    def __init__(self, annotation: MutableMapping[str, Any], cleanup: bool = False) -> None:
        self.x = torch.as_tensor(annotation[self.X_KEY])
        self.y = torch.as_tensor(annotation[self.Y_KEY])
        if all(key in annotation for key in self._CHART_KEYS):
            self.i = torch.as_tensor(annotation[self.I_KEY])
            self.u = torch.as_tensor(annotation[self.U_KEY])
            self.v = torch.as_tensor(annotation[self.V_KEY])
        if all(key in annotation for key in self._MESH_KEYS):
            self.vertex_ids = torch.as_tensor(annotation[self.VERTEX_IDS_KEY], dtype=torch.long)
            self.mesh_id = MeshCatalog.get_mesh_id(annotation[self.MESH_NAME_KEY])
        if self.S_KEY in annotation:
            self.segm = self.extract_segmentation_mask(annotation)
        self.device = torch.device("cpu")
        if cleanup:
            self.cleanup_annotation(annotation)

    def to(self, device: torch.device) -> "DensePoseDataRelative":
        """Return the annotation on a device."""
        if self.device == device:
            return self
        moved = DensePoseDataRelative.__new__(DensePoseDataRelative)
        moved.__dict__.update(self.__dict__, device=device)
        for name in self._TENSORS:
            if hasattr(self, name):
                setattr(moved, name, getattr(self, name).to(device))
        return moved

    @staticmethod
    def extract_segmentation_mask(annotation: MutableMapping[str, Any]) -> torch.Tensor:
        """Decode ``dp_masks``: an RLE of the body, a list with one of each part, or the labels.

        Returns:
            ``(256, 256)`` float32 labels; later parts cover earlier ones. Labels that are a tensor
            already are returned as they are.
        """
        masks = annotation[DensePoseDataRelative.S_KEY]
        if isinstance(masks, torch.Tensor):
            return masks
        labels = torch.zeros((DensePoseDataRelative.MASK_SIZE,) * 2)
        for number, rle in enumerate([masks] if isinstance(masks, dict) else masks, start=1):
            if rle:
                labels[torch.from_numpy(np.ascontiguousarray(decode_rle(rle))) > 0] = number
        return labels

    @staticmethod
    def validate_annotation(annotation: MutableMapping[str, Any]) -> tuple[bool, str | None]:
        """Tell whether an annotation has points of one of the two kinds; if not, also why."""
        data = DensePoseDataRelative
        for key in (data.X_KEY, data.Y_KEY):
            if key not in annotation:
                return False, f"the annotation has no {key}"
        if any(all(k in annotation for k in keys) for keys in (data._CHART_KEYS, data._MESH_KEYS)):
            return True, None
        kinds = ", ".join(data._CHART_KEYS), ", ".join(data._MESH_KEYS)
        return False, f"the annotation needs {kinds[0]} (charts) or {kinds[1]} (embeddings)"

    @staticmethod
    def cleanup_annotation(annotation: MutableMapping[str, Any]) -> None:
        """Remove the keys of DensePose from a dict."""
        data = DensePoseDataRelative
        for key in (data.X_KEY, data.Y_KEY, data.S_KEY, *data._CHART_KEYS, *data._MESH_KEYS):
            annotation.pop(key, None)

    def apply_transform(
        self, transforms: T.TransformList, densepose_transform_data: DensePoseTransformData | None
    ) -> None:
        """Follow what happened to the image, in place.

        Points and parts are relative to the box, so only mirroring and rotations matter.

        Args:
            transforms: of the image.
            densepose_transform_data: what charts become in a mirror; not needed for embeddings
                without parts.
        """
        self._transform_pts(transforms, densepose_transform_data)
        if hasattr(self, "segm"):
            self._transform_segm(transforms, densepose_transform_data)

    def _transform_pts(
        self, transforms: T.TransformList, dp_transform_data: DensePoseTransformData | None
    ) -> None:
        if _is_mirrored(transforms):
            self.x = self.MASK_SIZE - self.x
            if hasattr(self, "i"):
                self._flip_iuv_semantics(_known(dp_transform_data))
            if hasattr(self, "vertex_ids"):
                self._flip_vertices()
        for rotation in _rotations(transforms):
            scale = np.array([rotation.w, rotation.h]) / self.MASK_SIZE
            points = rotation.apply_coords(np.stack([self.x, self.y], axis=1) * scale) / scale
            self.x, self.y = torch.as_tensor(points, dtype=self.x.dtype).T

    def _transform_segm(
        self, transforms: T.TransformList, dp_transform_data: DensePoseTransformData | None
    ) -> None:
        if _is_mirrored(transforms):
            self.segm = torch.flip(self.segm, [1])
            self._flip_segm_semantics(_known(dp_transform_data))
        for rotation in _rotations(transforms):
            self._transform_segm_rotation(rotation)

    def _flip_segm_semantics(self, dp_transform_data: DensePoseTransformData) -> None:
        """Say what parts become."""
        parts = self.segm.new_tensor(dp_transform_data.mask_label_symmetries)
        self.segm = parts[self.segm.long()]

    def _transform_segm_rotation(self, rotation: T.RotationTransform) -> None:
        labels = F.interpolate(self.segm[None, None], (rotation.h, rotation.w))[0, 0]
        turned = torch.as_tensor(rotation.apply_segmentation(labels.numpy()))
        self.segm = F.interpolate(turned[None, None], (self.MASK_SIZE,) * 2)[0, 0]

    def _flip_iuv_semantics(self, dp_transform_data: DensePoseTransformData) -> None:
        """Say what charts and coordinates in them become."""
        on_body = self.i > 0
        chart = self.i[on_body].long() - 1
        cell = tuple((t[on_body] * 255).long() for t in (self.v, self.u))
        u, v = self.u.clone(), self.v.clone()
        u[on_body], v[on_body] = (
            dp_transform_data.uv_symmetries[name].to(u.device)[(chart, *cell)].to(u.dtype)
            for name in ("U_transforms", "V_transforms")
        )
        charts = self.i.new_tensor(dp_transform_data.point_label_symmetries)
        self.i, self.u, self.v = charts[self.i.long()], u, v

    def _flip_vertices(self) -> None:
        mesh = MeshCatalog[MeshCatalog.get_mesh_name(self.mesh_id)]
        if not mesh.symmetry:
            raise InputError(
                f"mesh {mesh.name!r} has no symmetry file, so its annotations can't be mirrored;"
                " set INPUT.RANDOM_FLIP to none"
            )
        self.vertex_ids = load_mesh_symmetry(mesh.symmetry)["vertex_transforms"][self.vertex_ids]


def _is_mirrored(transforms: T.TransformList) -> bool:
    return sum(isinstance(t, T.HFlipTransform) for t in transforms.transforms) % 2 == 1


def _rotations(transforms: T.TransformList) -> list[T.RotationTransform]:
    return [t for t in transforms.transforms if isinstance(t, T.RotationTransform)]


def _known(symmetries: DensePoseTransformData | None) -> DensePoseTransformData:
    if symmetries is None:
        raise InputError(
            "mirrored DensePose annotations need chart symmetries, which the dataset's metadata"
            " names as densepose_transform_src; none were given"
        )
    return symmetries
