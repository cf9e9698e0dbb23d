"""Mesh R-CNN: to each object of Mask R-CNN its depth, its voxels, its mesh.

Shapes
    N images; R_i regions of image i, R all together; C channels; V side of a grid of voxels.

Reading order: MeshRCNNROIHeads._forward_shape, where voxels become cubes, cubes a mesh, and the
mesh is refined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec
from retinue.modeling.poolers import ROIPooler
from retinue.modeling.roi_heads.base import (
    Features,
    Losses,
    check_given_boxes,
    make_pooler,
    pooled_shape,
    require_targets,
    select_foreground_proposals,
)
from retinue.modeling.roi_heads.roi_heads import StandardROIHeads
from retinue.projects.meshrcnn.modeling.roi_heads.mask_head import (
    mask_rcnn_loss,
    of_class,
    of_true_class,
)
from retinue.projects.meshrcnn.modeling.roi_heads.mesh_head import (
    build_mesh_head,
    mesh_rcnn_inference,
    mesh_rcnn_loss,
)
from retinue.projects.meshrcnn.modeling.roi_heads.voxel_head import (
    build_voxel_head,
    voxel_rcnn_inference,
    voxel_rcnn_loss,
)
from retinue.projects.meshrcnn.modeling.roi_heads.z_head import (
    build_z_head,
    z_rcnn_inference,
    z_rcnn_loss,
)
from retinue.projects.meshrcnn.ops import Meshes, cubify, ico_sphere
from retinue.structures import ImageList, Instances
from retinue.utils.errors import InputError

__all__ = ["MeshRCNNROIHeads", "ShapeLossSettings"]


@dataclass(frozen=True)
class ShapeLossSettings:
    """Weights of the losses, and how meshes are compared; the config keys say the same.

    Attributes:
        z: of the depth branch.
        z_beta: where its loss turns from a square into a line.
        voxel: of the voxel branch.
        chamfer, normals, edge: of the mesh branch.
        gt_num_samples, pred_num_samples: points on a true and on a predicted mesh.
        gt_coord_thresh: see :func:`mesh_rcnn_loss`.
    """

    z: float = 5.0
    z_beta: float = 0.0
    voxel: float = 1.0
    chamfer: float = 1.0
    normals: float = 1.0
    edge: float = 1.0
    gt_num_samples: int = 5000
    pred_num_samples: int = 5000
    gt_coord_thresh: float = 0.0


class MeshRCNNROIHeads(StandardROIHeads):
    """The heads of Mask R-CNN, and branches for depth, voxels and meshes; any may be left out.

    Gkioxari et al., "Mesh R-CNN" (2019), https://arxiv.org/abs/1906.02739. Without voxels, meshes
    start from spheres.

    Args:
        z_pooler: pools a region's features for the depth head.
        z_head: maps them to ``(R, K)``; None for a model without.
        voxel_pooler: the same for voxels.
        voxel_head: maps them to ``(R, K, V, V, V)`` logits.
        mesh_pooler: the same for meshes.
        mesh_head: maps them and R meshes to the meshes after each stage.
        cubify_thresh: probability from which a voxel is part of the object.
        ico_sphere_level: of the spheres that meshes start from without voxels.
        shape_losses: how the branches learn.
        **kwargs: arguments of :class:`StandardROIHeads`.

    Raises:
        InputError: If there are meshes, and neither voxels nor a sphere to start from.
    """

    z_pooler: Any
    z_head: Any
    voxel_pooler: Any
    voxel_head: Any
    mesh_pooler: Any
    mesh_head: Any

    @configurable
    def __init__(
        self,
        *,
        z_pooler: ROIPooler | None = None,
        z_head: nn.Module | None = None,
        voxel_pooler: ROIPooler | None = None,
        voxel_head: nn.Module | None = None,
        mesh_pooler: ROIPooler | None = None,
        mesh_head: nn.Module | None = None,
        cubify_thresh: float = 0.0,
        ico_sphere_level: int = -1,
        shape_losses: ShapeLossSettings | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.zpred_on = z_head is not None
        self.voxel_on = voxel_head is not None
        self.mesh_on = mesh_head is not None
        if self.mesh_on and not self.voxel_on and ico_sphere_level < 0:
            raise InputError(
                "MeshRCNNROIHeads: meshes start from voxels or from a sphere; got neither: set"
                " MODEL.VOXEL_ON, or MODEL.ROI_MESH_HEAD.ICO_SPHERE_LEVEL to 0 or more (it is"
                f" {ico_sphere_level})"
            )
        if self.zpred_on:
            self.z_pooler, self.z_head = z_pooler, z_head
        if self.voxel_on:
            self.voxel_pooler, self.voxel_head = voxel_pooler, voxel_head
        if self.mesh_on:
            self.mesh_pooler, self.mesh_head = mesh_pooler, mesh_head
        self.cubify_thresh = cubify_thresh
        self.ico_sphere_level = ico_sphere_level
        self.shape_losses = shape_losses or ShapeLossSettings()

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        args = super().from_config(cfg, input_shape)
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        z, voxel, mesh = (getattr(cfg.MODEL, f"ROI_{n}_HEAD") for n in ("Z", "VOXEL", "MESH"))
        for name, is_on, head, build in (
            ("z", cfg.MODEL.ZPRED_ON, z, build_z_head),
            ("voxel", cfg.MODEL.VOXEL_ON, voxel, build_voxel_head),
            ("mesh", cfg.MODEL.MESH_ON, mesh, build_mesh_head),
        ):
            if is_on:
                args[f"{name}_pooler"] = make_pooler(head, input_shape, in_features)
                args[f"{name}_head"] = build(cfg, pooled_shape(head, input_shape, in_features))
        return args | {
            "cubify_thresh": voxel.CUBIFY_THRESH,
            "ico_sphere_level": mesh.ICO_SPHERE_LEVEL,
            "shape_losses": ShapeLossSettings(
                z=z.Z_REG_WEIGHT,
                z_beta=z.SMOOTH_L1_BETA,
                voxel=voxel.LOSS_WEIGHT,
                chamfer=mesh.CHAMFER_LOSS_WEIGHT,
                normals=mesh.NORMALS_LOSS_WEIGHT,
                edge=mesh.EDGE_LOSS_WEIGHT,
                gt_num_samples=mesh.GT_NUM_SAMPLES,
                pred_num_samples=mesh.PRED_NUM_SAMPLES,
                gt_coord_thresh=mesh.GT_COORD_THRESH,
            ),
        }

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        """See :meth:`ROIHeads.forward`; in training no proposals are returned."""
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, require_targets(targets))
            losses = self._forward_box(features, proposals)
            objects, _ = select_foreground_proposals(proposals, self.num_classes)
            losses.update(self._forward_z(features, objects))
            losses.update(self._forward_mask(features, objects))
            losses.update(self._forward_shape(features, objects))
            return [], losses
        detections = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, detections), {}

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
        """Add depth, masks, voxels and meshes to detections whose boxes are known.

        Args:
            features: ``(N, C, H, W)`` by name.
            instances: per image, with ``pred_boxes`` and ``pred_classes``.

        Returns:
            The same objects, with ``pred_dz``, ``pred_masks``, ``pred_voxels``, ``pred_meshes``.
        """
        check_given_boxes(self, instances)
        instances = self._forward_z(features, instances)
        instances = self._forward_mask(features, instances)
        return self._forward_shape(features, instances)

    def _pool_regions(self, pooler: Any, features: Features, instances: list[Instances]) -> Any:
        return self._pool(pooler, self.in_features, features, instances)

    def _forward_z(self, features: Features, instances: list[Instances]) -> Any:
        """Return losses in training, the detections with ``pred_dz`` otherwise."""
        if not self.zpred_on:
            return {} if self.training else instances
        z_pred = self.z_head(self._pool_regions(self.z_pooler, features, instances))  # (R, K)
        if not self.training:
            z_rcnn_inference(z_pred, instances)
            return instances
        boxes = torch.cat([i.proposal_boxes.tensor for i in instances])
        settings = self.shape_losses
        return {"loss_z_reg": z_rcnn_loss(z_pred, instances, boxes, settings.z, settings.z_beta)}

    def _forward_mask(self, features: Features, instances: list[Instances]) -> Any:
        """Return losses in training, the detections with ``pred_masks`` otherwise."""
        if not self.mask_on or not self.training:
            return (
                super()._forward_mask(features, instances)
                if self.mask_on
                else ({} if self.training else instances)
            )
        x = self._pool_regions(self.mask_pooler, features, instances)
        return {"loss_mask": mask_rcnn_loss(self.mask_head.layers(x), instances)[0]}

    def _forward_shape(self, features: Features, instances: list[Instances]) -> Any:
        """Return losses in training, the detections with voxels and meshes otherwise."""
        losses: Losses = {}
        meshes = None
        if self.voxel_on:
            x = self._pool_regions(self.voxel_pooler, features, instances)
            logits = self.voxel_head(x)  # (R, K, V, V, V)
            if self.training:
                losses["loss_voxel"], _ = voxel_rcnn_loss(
                    logits, instances, self.shape_losses.voxel
                )
                chosen = of_true_class(logits, instances)
            else:
                voxel_rcnn_inference(logits, instances)
                chosen = of_class(logits, [i.pred_classes for i in instances])
            meshes = cubify(chosen.detach().sigmoid(), self.cubify_thresh)
        if self.mesh_on:
            x = self._pool_regions(self.mesh_pooler, features, instances)
            stages = self.mesh_head(x, self._spheres(x) if meshes is None else meshes)
            if self.training:
                losses.update(self._mesh_losses(stages, instances))
            meshes = stages[-1]
        if self.training:
            return losses
        if meshes is not None:
            mesh_rcnn_inference(meshes, instances)
        return instances

    def _spheres(self, x: torch.Tensor) -> Meshes:
        """Return a unit sphere for each of R regions."""
        return ico_sphere(self.ico_sphere_level, x.device).extend(len(x))

    def _mesh_losses(self, stages: list[Meshes], instances: list[Instances]) -> Losses:
        settings = self.shape_losses
        chamfer, normals, edge, _ = mesh_rcnn_loss(
            stages,
            instances,
            {"chamfer": settings.chamfer, "normals": settings.normals, "edge": settings.edge},
            settings.gt_num_samples,
            settings.pred_num_samples,
            settings.gt_coord_thresh,
        )
        return {"loss_chamfer": chamfer, "loss_normals": normals, "loss_edge": edge}
