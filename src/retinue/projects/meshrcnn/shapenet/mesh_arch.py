"""Models that predict the mesh of the one object in a picture.

Shapes
    N pictures, H by W; G side of a grid of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from retinue.config import CfgNode, configurable
from retinue.projects.densepose.modeling.hrnet import BasicBlock, Bottleneck
from retinue.projects.meshrcnn.ops import Meshes, cubify, ico_sphere
from retinue.projects.meshrcnn.shapenet.coords import (
    get_blender_intrinsic_matrix,
    voxel_to_world,
)
from retinue.projects.meshrcnn.shapenet.heads import MeshRefinementHead, VoxelHead
from retinue.utils.errors import unknown_name
from retinue.utils.registry import Registry

__all__ = [
    "MESH_ARCH_REGISTRY",
    "Pixel2MeshHead",
    "ResNetBackbone",
    "SphereInitHead",
    "VoxMeshHead",
    "build_model",
]

_HERE = "retinue.projects.meshrcnn.shapenet.mesh_arch"
MESH_ARCH_REGISTRY = Registry(
    "MESH_ARCH",
    {
        "Pixel2MeshHead": f"{_HERE}:Pixel2MeshHead",
        "SphereInitHead": f"{_HERE}:SphereInitHead",
        "VoxMeshHead": f"{_HERE}:VoxMeshHead",
    },
    key="MODEL.MESH_HEAD.NAME",
)

_BLOCKS: dict[str, tuple[Any, tuple[int, ...]]] = {  # block, how many of it in each stage
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model that ``cfg.MODEL.MESH_HEAD.NAME`` names."""
    return MESH_ARCH_REGISTRY.get(cfg.MODEL.MESH_HEAD.NAME)(cfg)


class ResNetBackbone(nn.Module):
    """A ResNet as torchvision has it, returning the features of all four stages.

    Args:
        name: ``"resnet18"``, ``"resnet34"``, ``"resnet50"``, ``"resnet101"`` or ``"resnet152"``.
        width: channels of the first stage, inside of its blocks.

    Raises:
        UnknownNameError: If ``name`` is none of these.
    """

    def __init__(self, name: str, width: int = 64) -> None:
        super().__init__()
        if name not in _BLOCKS:
            raise unknown_name("MODEL.BACKBONE", name, _BLOCKS)
        block, counts = _BLOCKS[name]
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        channels = width
        self.out_channels = []
        for k, count in enumerate(counts):
            planes, stride = width * 2**k, 1 if k == 0 else 2
            out = planes * block.expansion
            shortcut = None
            if stride != 1 or channels != out:
                shortcut = nn.Sequential(
                    nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
                )
            blocks = [block(channels, planes, stride, shortcut)]
            blocks += [block(out, planes) for _ in range(count - 1)]
            self.add_module(f"stage{k + 1}", nn.Sequential(*blocks))
            channels = out
            self.out_channels.append(out)

    def forward(self, imgs: torch.Tensor) -> list[torch.Tensor]:
        """Map ``(N, 3, H, W)`` to maps at 1/4, 1/8, 1/16 and 1/32 of the size."""
        x = self.stem(imgs)
        features = []
        for k in range(1, 5):
            x = self.get_submodule(f"stage{k}")(x)
            features.append(x)
        return features


class _MeshArch(nn.Module):
    """A backbone, a mesh head on all of its features, and the camera of the pictures.

    Args:
        backbone: returns feature maps.
        mesh_head: refines meshes in world space.
    """

    K: torch.Tensor

    def __init__(self, backbone: nn.Module, mesh_head: nn.Module) -> None:
        super().__init__()
        self.register_buffer("K", get_blender_intrinsic_matrix())
        self.backbone = backbone
        self.mesh_head = mesh_head

    def _projections(self, num: int) -> torch.Tensor:
        return self.K.expand(num, 4, 4)


class VoxMeshHead(_MeshArch):
    """Voxels first, then a mesh from them: Mesh R-CNN on pictures of one object.

    Args:
        backbone: returns feature maps.
        voxel_head: maps the last of them to ``(N, G, G, G)`` logits.
        mesh_head: refines meshes in world space.
        cubify_threshold: probability from which a voxel is part of the object.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        voxel_head: nn.Module,
        mesh_head: nn.Module,
        cubify_threshold: float,
    ) -> None:
        super().__init__(backbone, mesh_head)
        self.voxel_head = voxel_head
        self.cubify_threshold = cubify_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = ResNetBackbone(cfg.MODEL.BACKBONE)
        channels = backbone.out_channels
        return {
            "backbone": backbone,
            "voxel_head": VoxelHead(cfg, channels[-1]),  # type: ignore[call-arg]
            "mesh_head": MeshRefinementHead(cfg, sum(channels)),  # type: ignore[call-arg]
            "cubify_threshold": cfg.MODEL.VOXEL_HEAD.CUBIFY_THRESH,
        }

    def forward(
        self, imgs: torch.Tensor, voxel_only: bool = False
    ) -> tuple[torch.Tensor, list[Meshes]]:
        """Return ``(N, G, G, G)`` logits, and the N meshes after each stage.

        Args:
            imgs: ``(N, 3, H, W)`` normalised.
            voxel_only: refine tetrahedra instead of the voxels' meshes, while these are bad still:
                all parameters take part in the step, and little time is lost.
        """
        features = self.backbone(imgs)
        voxel_scores = self.voxel_head(features[-1])
        num = len(imgs)
        start = self._tetrahedra(num, imgs) if voxel_only else self.cubify(voxel_scores)
        return voxel_scores, self.mesh_head(features, start, self._projections(num))

    @torch.no_grad()
    def cubify(self, voxel_scores: torch.Tensor) -> Meshes:
        """Return the mesh of each grid ``(N, G, G, G)`` of logits, in world space.

        One without voxels that are likely enough becomes a cube in the middle.
        """
        probabilities = voxel_scores.sigmoid()
        empty = (probabilities <= self.cubify_threshold).flatten(1).all(dim=1)
        side = voxel_scores.shape[1]
        middle = slice(side // 4, side // 4 + side // 2)
        cube = torch.zeros_like(probabilities[0])
        cube[middle, middle, middle] = 1
        filled = torch.where(empty[:, None, None, None], cube, probabilities)
        return voxel_to_world(cubify(filled, self.cubify_threshold))

    @staticmethod
    def _tetrahedra(num: int, like: torch.Tensor) -> Meshes:
        verts = like.new_tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        verts = verts - like.new_tensor([0, 0, 1.5])  # in front of the camera
        faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], device=like.device)
        return Meshes([verts] * num, [faces] * num)


class SphereInitHead(_MeshArch):
    """A sphere, refined stage by stage.

    Args:
        backbone: returns feature maps.
        mesh_head: refines meshes in world space.
        ico_sphere_level: of the sphere.
    """

    subdivide = False

    @configurable
    def __init__(self, *, backbone: nn.Module, mesh_head: nn.Module, ico_sphere_level: int) -> None:
        super().__init__(backbone, mesh_head)
        self.ico_sphere_level = ico_sphere_level

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = ResNetBackbone(cfg.MODEL.BACKBONE)
        channels: Sequence[int] = backbone.out_channels
        return {
            "backbone": backbone,
            "mesh_head": MeshRefinementHead(cfg, sum(channels)),  # type: ignore[call-arg]
            "ico_sphere_level": cfg.MODEL.MESH_HEAD.ICO_SPHERE_LEVEL,
        }

    def forward(self, imgs: torch.Tensor) -> tuple[None, list[Meshes]]:
        """Return None, for there are no voxels, and the N meshes after each stage.

        Args:
            imgs: ``(N, 3, H, W)`` normalised.
        """
        num = len(imgs)
        spheres = ico_sphere(self.ico_sphere_level, imgs.device, imgs.dtype).extend(num)
        features = self.backbone(imgs)
        return None, self.mesh_head(
            features, spheres, self._projections(num), subdivide=self.subdivide
        )


class Pixel2MeshHead(SphereInitHead):
    """The same, with each face split into four between stages."""

    subdivide = True
