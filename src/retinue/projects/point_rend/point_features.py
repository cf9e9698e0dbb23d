"""Feature maps read at points, and the choice of points worth a prediction.

Shapes
    N images, or masks; R regions, all images together; C channels; P points; H, W rows and columns.

Units
    Point coordinates are (x, y): in [0, 1] of the box or map they belong to, where a map's first
    cell reaches from 0 to 1 / W, or, where said so, in pixels of the network input.

Reading order: point_sample reads; the two ``get_uncertain_...`` choose, the one in training, the
other in inference.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from retinue.structures import BitMasks, Boxes, Instances
from retinue.utils.errors import InputError

__all__ = [
    "generate_regular_grid_point_coords",
    "get_point_coords_wrt_image",
    "get_uncertain_point_coords_on_grid",
    "get_uncertain_point_coords_with_randomness",
    "point_sample",
    "point_sample_fine_grained_features",
    "sample_point_labels",
    "uniform_points",
]


def point_sample(input: torch.Tensor, point_coords: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """Interpolate feature maps at points.

    Args:
        input: ``(N, C, H, W)``.
        point_coords: ``(N, P, 2)`` or ``(N, H', W', 2)`` in [0, 1] of the map; outside it is 0.
        **kwargs: of :func:`torch.nn.functional.grid_sample`.

    Returns:
        ``(N, C, P)`` or ``(N, C, H', W')``, in the wider of both dtypes.
    """
    dtype = torch.promote_types(input.dtype, point_coords.dtype)
    grid = 2 * point_coords.to(dtype) - 1
    if grid.dim() == 3:
        return F.grid_sample(input.to(dtype), grid[:, :, None], **kwargs)[..., 0]
    return F.grid_sample(input.to(dtype), grid, **kwargs)


def generate_regular_grid_point_coords(
    R: int, side_size: int, device: torch.device | str
) -> torch.Tensor:
    """Return the centres of ``side_size`` x ``side_size`` cells, row by row, R times.

    Returns:
        ``(R, side_size**2, 2)`` float32 in [0, 1].
    """
    center = (torch.arange(side_size, device=device) + 0.5) / side_size
    x, y = torch.meshgrid(center, center, indexing="xy")
    return torch.stack((x, y), dim=2).reshape(1, -1, 2).expand(R, -1, -1)


def uniform_points(num_sets: int, num_points: int, like: torch.Tensor) -> torch.Tensor:
    """Draw ``(num_sets, num_points, 2)`` points of [0, 1)², at least float32, where ``like`` is."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.rand(num_sets, num_points, 2, dtype=dtype, device=like.device)


def get_uncertain_point_coords_with_randomness(
    coarse_logits: torch.Tensor,
    uncertainty_func: Callable[[torch.Tensor], torch.Tensor],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> torch.Tensor:
    """Draw points to train on, most of them where the coarse prediction is uncertain.

    Section 3.1 of the paper: draw more points than needed, keep the most uncertain, fill up with
    uniform ones. The uncertainty is that of the interpolated logits: between a sure "inside" and a
    sure "outside" lies an edge, where the logit is 0.

    Args:
        coarse_logits: ``(N, C, H, W)``.
        uncertainty_func: maps ``(N, C, P)`` logits to ``(N, 1, P)``, larger for less certain.
        num_points: P.
        oversample_ratio: how many times as many candidates are drawn, at least 1.
        importance_sample_ratio: part of P that is chosen by uncertainty, in [0, 1].

    Returns:
        ``(N, P, 2)``: the uncertain points, then the uniform ones.

    Raises:
        InputError: If a ratio is outside its range.
    """
    if oversample_ratio < 1 or not 0 <= importance_sample_ratio <= 1:
        raise InputError(
            "MODEL.POINT_HEAD: OVERSAMPLE_RATIO must be at least 1 and IMPORTANCE_SAMPLE_RATIO in"
            f" [0, 1]; got {oversample_ratio} and {importance_sample_ratio}"
        )
    num_maps = len(coarse_logits)
    candidates = uniform_points(num_maps, int(num_points * oversample_ratio), coarse_logits)
    logits = point_sample(coarse_logits, candidates, align_corners=False)
    num_uncertain = int(importance_sample_ratio * num_points)
    chosen = uncertainty_func(logits)[:, 0].topk(num_uncertain, dim=1).indices
    uncertain = candidates.gather(1, chosen[:, :, None].expand(-1, -1, 2))
    uniform = uniform_points(num_maps, num_points - num_uncertain, coarse_logits)
    return torch.cat((uncertain, uniform), dim=1)


def get_uncertain_point_coords_on_grid(
    uncertainty_map: torch.Tensor, num_points: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the most uncertain cells of each map.

    Args:
        uncertainty_map: ``(R, 1, H, W)``, larger for less certain.
        num_points: P, or all cells if there are fewer.

    Returns:
        ``(R, P)`` int64 indices into the H W cells, row by row, and the centres of these cells,
        ``(R, P, 2)`` in [0, 1].
    """
    num_maps, _, height, width = uncertainty_map.shape
    num_points = min(height * width, num_points)
    indices = uncertainty_map.reshape(num_maps, height * width).topk(num_points, dim=1).indices
    dtype = torch.promote_types(uncertainty_map.dtype, torch.float32)
    cells_xy = torch.stack((indices % width, indices // width), dim=2).to(dtype)
    return indices, (cells_xy + 0.5) / cells_xy.new_tensor((width, height))


def point_sample_fine_grained_features(
    features_list: Sequence[torch.Tensor],
    feature_scales: Sequence[float],
    boxes: Sequence[Boxes],
    point_coords: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read all feature maps at the same points of each box.

    Args:
        features_list: ``(N, C_l, H_l, W_l)``, one a level.
        feature_scales: cells of each level per pixel of the network input.
        boxes: per image; R together.
        point_coords: ``(R, P, 2)`` in [0, 1] of the box.

    Returns:
        ``(R, C, P)``, the channels of all levels one after the other, and the points in pixels of
        the network input, ``(R, P, 2)``.
    """
    point_xy = get_point_coords_wrt_image(Boxes.cat(list(boxes)).tensor, point_coords)
    per_image = point_xy.split([len(b) for b in boxes])
    levels = []
    for feature_map, scale in zip(features_list, feature_scales, strict=True):
        size_xy = point_xy.new_tensor((feature_map.shape[3], feature_map.shape[2]))
        sampled = [
            point_sample(one, points[None] / (size_xy / scale), align_corners=False)[0]
            for one, points in zip(feature_map.split(1), per_image, strict=True)
        ]  # (C_l, R_i, P) each
        levels.append(torch.cat(sampled, dim=1).transpose(0, 1))
    return torch.cat(levels, dim=1), point_xy


@torch.no_grad()
def get_point_coords_wrt_image(
    boxes_coords: torch.Tensor, point_coords: torch.Tensor
) -> torch.Tensor:
    """Turn points of boxes ``(R, P, 2)``, in [0, 1], into pixels; boxes are ``(R, 4)`` x0y0x1y1."""
    low, high = boxes_coords[:, None].split(2, dim=2)  # (R, 1, 2) each
    return point_coords * (high - low) + low


@torch.no_grad()
def sample_point_labels(instances: Sequence[Instances], point_coords: torch.Tensor) -> torch.Tensor:
    """Read the true masks at points.

    Args:
        instances: per image, with ``gt_masks`` as :class:`BitMasks`; R together.
        point_coords: ``(R, P, 2)`` in pixels.

    Returns:
        ``(R, P)`` in [0, 1]; between two pixels it is interpolated.

    Raises:
        InputError: If masks are polygons.
    """
    labels = [point_coords.new_zeros(0, point_coords.shape[1])]
    for one, points in zip(instances, point_coords.split([len(i) for i in instances]), strict=True):
        if not len(one):
            continue
        masks = one.gt_masks
        if not isinstance(masks, BitMasks):
            raise InputError(
                "PointRend: gt_masks must be BitMasks, so that they can be read at points; got"
                f" {type(masks).__name__}; set INPUT.MASK_FORMAT to 'bitmask'"
            )
        height, width = masks.image_size
        in_unit_square = points / points.new_tensor((width, height))
        bits = masks.tensor[:, None].to(points.dtype)
        labels.append(point_sample(bits, in_unit_square, align_corners=False)[:, 0])
    return torch.cat(labels)
