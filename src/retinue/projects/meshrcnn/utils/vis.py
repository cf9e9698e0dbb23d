"""Pictures of annotations and predictions, and the predicted meshes as ``.obj`` files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from retinue.data import detection_utils
from retinue.projects.meshrcnn.evaluation.pix3d_evaluation import (
    transform_meshes_to_camera_coord_system,
)
from retinue.projects.meshrcnn.ops import Meshes, save_obj
from retinue.structures import Instances
from retinue.visualization import Visualizer

__all__ = ["draw_pix3d_dict", "meshes_in_camera_space", "visualize_predictions"]


def draw_pix3d_dict(dataset_dict: dict[str, Any], metadata: Any = None) -> np.ndarray:
    """Draw boxes, masks and classes of a sample.

    Args:
        dataset_dict: as :func:`load_pix3d_json` returns them.
        metadata: of its dataset, for class names.

    Returns:
        ``(H, W, 3)`` uint8, RGB.
    """
    image = detection_utils.read_image(dataset_dict["file_name"], format="RGB")
    drawing = Visualizer(image, metadata)
    names = metadata.thing_classes if metadata is not None else None
    boxes, masks, labels = [], [], []
    for one in dataset_dict["annotations"]:
        x, y, width, height = one["bbox"]
        boxes.append([x, y, x + width, y + height])
        labels.append(names[one["category_id"]] if names else str(one["category_id"]))
        if "segmentation" in one:
            masks.append(np.asarray(Image.open(one["segmentation"]).convert("L")) > 0)
    drawing.overlay_instances(
        boxes=np.array(boxes).reshape(-1, 4), masks=masks or None, labels=labels
    )
    return drawing.output.get_image()


def meshes_in_camera_space(
    instances: Instances, K: Sequence[float], distance: float | None = None
) -> Meshes:
    """Place predicted meshes in front of a camera.

    Args:
        instances: detections with ``pred_boxes``, ``pred_meshes`` and ``pred_dz``.
        K: focal length and principal point x, y in pixels.
        distance: of the objects; by default such that all are in front of the camera, since one
            picture doesn't tell.
    """
    boxes = instances.pred_boxes.tensor
    relative = instances.pred_dz[:, 0] * (boxes[:, 3] - boxes[:, 1]) / K[0]  # extent by distance
    center = boxes.new_tensor(distance) if distance else 1 + relative.abs().amax()
    ranges = torch.stack((center * (1 - relative / 2), center * (1 + relative / 2)), dim=1)
    meshes = Meshes([m[0] for m in instances.pred_meshes], [m[1] for m in instances.pred_meshes])
    cameras = boxes.new_tensor(K).expand(len(boxes), 3)
    return transform_meshes_to_camera_coord_system(
        meshes, boxes, ranges, cameras, instances.image_size
    )


def visualize_predictions(
    image_id: int | str,
    image_file: str,
    instances: Instances,
    K: Sequence[float],
    metadata: Any,
    output_dir: str | os.PathLike[str],
) -> list[Path]:
    """Write, for each detection, a picture with box and mask, and its mesh.

    Args:
        image_id: begins the files' names.
        image_file: the picture.
        instances: detections of a model with meshes and depth, at the picture's size.
        K: focal length and principal point x, y in pixels.
        metadata: of the dataset, for names and colours of classes.
        output_dir: files go to ``results`` below it.

    Returns:
        Paths of the meshes, ``.obj``, in camera space; the picture is beside each, ``.png``.
    """
    folder = Path(output_dir) / "results"
    folder.mkdir(parents=True, exist_ok=True)
    image = detection_utils.read_image(image_file, format="RGB")
    instances = instances.to("cpu")
    if not len(instances):
        return []
    meshes = meshes_in_camera_space(instances, K)
    paths = []
    for number in range(len(instances)):
        one = instances[number]
        name = metadata.thing_classes[int(one.pred_classes[0])]
        stem = folder / f"{image_id}_{number}_{name}_{float(one.scores[0]):.3f}"
        drawn = Visualizer(image, metadata).draw_instance_predictions(one)
        Image.fromarray(drawn.get_image()).save(stem.parent / f"{stem.name}.png")
        paths.append(stem.parent / f"{stem.name}.obj")
        save_obj(paths[-1], *meshes.get_mesh_verts_faces(number))
    return paths
