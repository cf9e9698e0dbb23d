"""From a dataset dict to an example: voxels and meshes move with the picture.

A picture that is resized shows what a camera would that saw everything stretched alike, a flipped
one what it would of the mirrored object; so points in camera space are scaled and mirrored. Other
changes (crops, rotations) have no such counterpart and are refused.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

import retinue.data.transforms as T
from retinue.config import CfgNode, configurable
from retinue.data import MetadataCatalog
from retinue.data import detection_utils as utils
from retinue.data.datasets.coco_file import read_annotation_file
from retinue.projects.meshrcnn.ops import load_obj
from retinue.projects.meshrcnn.structures import MeshInstances, VoxelInstances
from retinue.projects.meshrcnn.utils.shape import read_voxel, transform_verts
from retinue.structures import Boxes, BoxMode, Instances
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager

__all__ = ["MeshRCNNMapper", "annotations_to_instances", "load_unique_meshes"]

logger = logging.getLogger(__name__)

MeshModels = Mapping[str, tuple[torch.Tensor, torch.Tensor]]


def load_unique_meshes(
    json_file: str, model_root: str
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Read the models that annotations name, each once: path -> vertices and faces.

    Pix3D's 10,000 annotations share 735 models, which fit into memory.
    """
    annotations = read_annotation_file(json_file)["annotations"]
    names = dict.fromkeys(a["model"] for a in annotations if a.get("model"))
    return {name: load_obj(os.path.join(model_root, name)) for name in names}


class MeshRCNNMapper:
    """Reads an image, transforms it with what is known of its objects, and makes the ground truth.

    Args:
        is_train: whether there is ground truth to make.
        augmentations: resizing and horizontal flips, in their order.
        image_format: as :func:`retinue.data.detection_utils.read_image` takes it.
        mask_on: make ``gt_masks``.
        voxel_on: make ``gt_voxels``.
        mesh_on: make ``gt_meshes``.
        zpred_on: make ``gt_dz``.
        mesh_models: vertices and faces by what annotations call ``mesh``.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        mask_on: bool = False,
        voxel_on: bool = False,
        mesh_on: bool = False,
        zpred_on: bool = False,
        mesh_models: MeshModels | None = None,
    ) -> None:
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.mask_on = mask_on
        self.voxel_on = voxel_on
        self.mesh_on = mesh_on
        self.zpred_on = zpred_on
        self.mesh_models = mesh_models or {}

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool = True, dataset_names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        if cfg.MODEL.LOAD_PROPOSALS:
            raise InputError(
                "MeshRCNNMapper: proposals from files are not read; set MODEL.LOAD_PROPOSALS False"
            )
        if dataset_names is None:
            raise InputError("MeshRCNNMapper: dataset_names is needed, to read the models of")
        models: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for name in dataset_names if is_train else ():
            meta = MetadataCatalog.get(name)
            models |= load_unique_meshes(meta.json_file, meta.image_root)
            logger.info("Read the models of %s; %d so far", name, len(models))
        return {
            "is_train": is_train,
            "augmentations": utils.build_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "mask_on": cfg.MODEL.MASK_ON,
            "voxel_on": cfg.MODEL.VOXEL_ON,
            "mesh_on": cfg.MODEL.MESH_ON,
            "zpred_on": cfg.MODEL.ZPRED_ON,
            "mesh_models": models,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the dict with ``image`` and, in training, ``instances``; the one given stays."""
        example = copy.deepcopy(dataset_dict)
        image = utils.read_image(example["file_name"], format=self.image_format)
        utils.check_image_size(example, image)
        augmented = T.AugInput(image)
        transforms = self.augmentations(augmented)
        example["image"] = torch.from_numpy(
            np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        )
        annotations = example.pop("annotations", None)
        if not self.is_train or annotations is None:
            return example
        size_hw = augmented.image.shape[:2]
        objects = [
            self.transform_annotations(one, transforms, size_hw)
            for one in annotations
            if not one.get("iscrowd", 0)
        ]
        example["instances"] = utils.filter_empty_instances(
            annotations_to_instances(objects, size_hw), by_mask=False
        )
        return example

    def transform_annotations(
        self, annotation: dict[str, Any], transforms: T.TransformList, image_size: tuple[int, int]
    ) -> dict[str, Any]:
        """Return an annotation of the transformed picture, with tensors instead of paths.

        Args:
            annotation: as :func:`load_pix3d_json` makes it; unchanged.
            transforms: what was done to the picture.
            image_size: (height, width) of the result.

        Raises:
            InputError: If ``transforms`` has others than resizing and horizontal flips, or the
                model is not among ``mesh_models``.
        """
        box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        height, width = image_size
        one = {
            "category_id": annotation["category_id"],
            "bbox": transforms.apply_box(np.array([box]))[0],
            "K": [annotation["K"][0], width / 2, height / 2],
        }
        rotation, shift = (torch.tensor(annotation[k], dtype=torch.float32) for k in ("R", "t"))
        if self.mask_on and "segmentation" in annotation:
            one["segmentation"] = _read_mask(annotation["segmentation"], transforms)
        if self.voxel_on and "voxel" in annotation:
            points = transform_verts(read_voxel(annotation["voxel"]), rotation, shift)
            one["voxel"] = _transform_points(points, transforms)
        if (self.mesh_on or self.zpred_on) and "mesh" in annotation:
            if annotation["mesh"] not in self.mesh_models:
                raise InputError(
                    f"MeshRCNNMapper: expected model {annotation['mesh']!r} among the"
                    f" {len(self.mesh_models)} that were read; give its dataset in dataset_names"
                )
            verts, faces = self.mesh_models[annotation["mesh"]]
            verts = transform_verts(verts, rotation, shift)
            if self.zpred_on:
                one["dz"] = _relative_depth(verts, annotation["K"][0]) * _row_scale(transforms)
            if self.mesh_on:
                one["mesh"] = (_transform_points(verts, transforms), faces)
        return one


def annotations_to_instances(
    annos: Sequence[dict[str, Any]], image_size: tuple[int, int]
) -> Instances:
    """Make ground truth of transformed annotations; fields are made of what the first one has.

    Args:
        annos: as ``MeshRCNNMapper.transform_annotations`` returns them.
        image_size: (height, width) of the picture.
    """
    boxes = Boxes(torch.tensor(np.array([a["bbox"] for a in annos])).reshape(-1, 4))
    boxes.clip(image_size)
    target = Instances(image_size, gt_boxes=boxes)
    target.gt_classes = torch.tensor([a["category_id"] for a in annos], dtype=torch.int64)
    first = annos[0] if annos else {}
    if "segmentation" in first:
        target.gt_masks = torch.stack([a["segmentation"] for a in annos])
    if "K" in first:
        target.gt_K = torch.tensor([a["K"] for a in annos], dtype=torch.float32)
    if "voxel" in first:
        target.gt_voxels = VoxelInstances([a["voxel"] for a in annos])
    if "mesh" in first:
        target.gt_meshes = MeshInstances([a["mesh"] for a in annos])
    if "dz" in first:
        target.gt_dz = torch.stack([a["dz"] for a in annos])
    return target


def _read_mask(path: str, transforms: T.TransformList) -> torch.Tensor:
    """Return ``(H, W)`` in [0, 1]."""
    with PathManager.open(path, "rb") as file:
        mask = np.asarray(Image.open(file).convert("L"))
    mask = transforms.apply_image(mask)
    return torch.from_numpy(mask.copy()).float() / 255


def _transform_points(points: torch.Tensor, transforms: T.TransformList) -> torch.Tensor:
    """Move points ``(P, 3)`` of camera space as the picture was."""
    factors = points.new_ones(3)
    for step in transforms.transforms:
        if isinstance(step, T.ResizeTransform):
            factors *= points.new_tensor([step.new_w / step.w, step.new_h / step.h, 1])
        elif isinstance(step, T.HFlipTransform):
            factors *= points.new_tensor([-1, 1, 1])
        elif not isinstance(step, T.NoOpTransform):
            raise InputError(
                "MeshRCNNMapper: voxels and meshes follow resizing and horizontal flips; got"
                f" {type(step).__name__}; leave it out of the augmentations"
            )
    return points * factors


def _row_scale(transforms: T.TransformList) -> float:
    """Return how much longer columns of the picture became."""
    scale = 1.0
    for step in transforms.transforms:
        if isinstance(step, T.ResizeTransform):
            scale *= step.new_h / step.h
    return scale


def _relative_depth(verts: torch.Tensor, focal_length: float) -> torch.Tensor:
    """Return extent along z by distance, in pixels; see ``modeling.roi_heads.z_head``."""
    low, high = verts[:, 2].amin(), verts[:, 2].amax()
    return (high - low) / ((high + low) / 2) * focal_length
