"""Transforming annotated points, and drawing some of them.

A point is the centre of a pixel when it leaves the mapper: the annotated pixel plus a half.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import retinue.data.transforms as T
from retinue.data import detection_utils as base
from retinue.projects.point_sup.point_utils import IGNORED
from retinue.structures import Instances
from retinue.utils.errors import InputError

__all__ = ["annotations_to_instances", "transform_instance_annotations"]


def annotations_to_instances(
    annos: Sequence[dict[str, Any]], image_size: tuple[int, int], sample_points: int = 0
) -> Instances:
    """Make the ground truth of an image from transformed annotations.

    Args:
        annos: dicts with ``bbox``, ``category_id``, ``point_coords`` and ``point_labels``.
        image_size: (height, width).
        sample_points: how many points of each object to draw; all with 0.

    Returns:
        What the library makes of boxes and classes, with ``gt_point_coords`` ``(G, P, 2)`` in
        pixels and ``gt_point_labels`` ``(G, P)``, G objects, if they have points.

    Raises:
        InputError: If objects have different numbers of points and none are drawn.
    """
    target = base.annotations_to_instances(list(annos), image_size)
    if not annos or not _has_points(annos[0]):
        return target
    points = [np.asarray(a["point_coords"], dtype=np.float64) for a in annos]
    labels = [np.asarray(a["point_labels"], dtype=np.float64) for a in annos]
    if sample_points:
        drawn = [
            np.random.choice(len(p), sample_points, replace=len(p) < sample_points)  # noqa: NPY002
            for p in points  # the global generator is seeded in each worker
        ]
        points = [p[i] for p, i in zip(points, drawn, strict=True)]
        labels = [x[i] for x, i in zip(labels, drawn, strict=True)]
    if len({len(p) for p in points}) > 1:
        raise InputError(
            "point_coords: objects of an image need equally many points; got"
            f" {sorted({len(p) for p in points})}; set INPUT.SAMPLE_POINTS to draw as many of each"
        )
    target.gt_point_coords = torch.from_numpy(np.stack(points))
    target.gt_point_labels = torch.from_numpy(np.stack(labels))
    return target


def transform_instance_annotations(
    annotation: dict[str, Any],
    transforms: T.Transform | Sequence[T.Transform],
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: np.ndarray | None = None,
) -> dict[str, Any]:
    """Transform the box and the points of an object, in place.

    Args:
        annotation: ``bbox``; ``point_coords`` ``(P, 2)`` in pixels, and ``point_labels``.
        transforms: what the image went through.
        image_size: (height, width) of the transformed image; points outside are ignored.
        keypoint_hflip_indices: for keypoints, as the library takes them.

    Returns:
        The same dict.
    """
    if not isinstance(transforms, T.Transform):
        transforms = T.TransformList(list(transforms))
    annotation = base.transform_instance_annotations(
        annotation, transforms, image_size, keypoint_hflip_indices=keypoint_hflip_indices
    )
    if _has_points(annotation):
        points = transforms.apply_coords(np.array(annotation["point_coords"], dtype=np.float64))
        labels = np.array(annotation["point_labels"], dtype=np.float64)
        inside = ((points >= 0) & (points <= np.array(image_size[::-1]))).all(axis=1)
        annotation["point_coords"] = points
        annotation["point_labels"] = np.where(inside, labels, IGNORED)
    return annotation


def _has_points(annotation: dict[str, Any]) -> bool:
    given = [key in annotation for key in ("point_coords", "point_labels")]
    if given[0] != given[1]:
        raise InputError(
            "annotation: point_coords and point_labels belong together; got only"
            f" {'point_coords' if given[0] else 'point_labels'}"
        )
    return given[0]
