"""From centres and votes to a panoptic map.

Shapes
    I centres; H, W rows and columns.

Units
    Coordinates and offsets are (y, x), in pixels.

Reading order: get_panoptic_segmentation, at the end, calls the others in their order here.
"""

from collections.abc import Collection

import torch
from torch.nn import functional as F

from retinue.utils.errors import expect_shape

__all__ = [
    "find_instance_center",
    "get_instance_segmentation",
    "get_panoptic_segmentation",
    "group_pixels",
    "merge_semantic_and_instance",
]

PIXELS_AT_ONCE = 2**24  # distances in memory: pixels times centres


def find_instance_center(
    center_heatmap: torch.Tensor,
    threshold: float = 0.1,
    nms_kernel: int = 3,
    top_k: int | None = None,
) -> torch.Tensor:
    """Find the local maxima of a heat map.

    Args:
        center_heatmap: ``(1, H, W)``.
        threshold: what a centre has to exceed.
        nms_kernel: side of the square that it has to be the maximum of, odd.
        top_k: most centres to return; those that tie with the one after the last fall out with it.

    Returns:
        ``(I, 2)`` int64, (y, x), row by row.
    """
    expect_shape("find_instance_center: center_heatmap", center_heatmap, (1, "H", "W"))
    heat = torch.where(center_heatmap > threshold, center_heatmap, -1.0)
    peak = F.max_pool2d(heat, nms_kernel, stride=1, padding=(nms_kernel - 1) // 2)
    heat = torch.where(heat == peak, heat, -1.0)[0]
    least = heat.new_zeros(())
    if top_k is not None and top_k < heat.numel():
        # The k-th largest itself is not above itself: k - 1 centres stay where there are more.
        least = heat.flatten().topk(top_k).values[-1].clamp(min=0)
    return (heat > least).nonzero()


def group_pixels(center_points: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Give each pixel to the centre nearest to where it points.

    Args:
        center_points: ``(I, 2)``, I at least 1.
        offsets: ``(2, H, W)``, from each pixel to its centre, y first.

    Returns:
        ``(1, H, W)`` int64 in [1, I].
    """
    height, width = offsets.shape[1:]
    y = torch.arange(height, dtype=offsets.dtype, device=offsets.device)
    x = torch.arange(width, dtype=offsets.dtype, device=offsets.device)
    pointed_at = offsets.flatten(start_dim=1).T + torch.cartesian_prod(y, x)  # (H W, 2)
    centers = center_points.to(offsets.dtype)
    chunk = max(PIXELS_AT_ONCE // len(centers), 1)
    nearest = [
        torch.cdist(part, centers, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
        for part in pointed_at.split(chunk)
    ]
    return torch.cat(nearest).reshape(1, height, width) + 1


def get_instance_segmentation(
    sem_seg: torch.Tensor,
    center_heatmap: torch.Tensor,
    offsets: torch.Tensor,
    thing_seg: torch.Tensor,
    thing_ids: Collection[int],
    threshold: float = 0.1,
    nms_kernel: int = 3,
    top_k: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Split the pixels of things into instances, whatever their class.

    Args:
        sem_seg: ``(1, H, W)`` int64 classes.
        center_heatmap: ``(1, H, W)``.
        offsets: ``(2, H, W)``, from each pixel to its centre, y first.
        thing_seg: ``(1, H, W)``, 1 on things and 0 elsewhere.
        thing_ids: classes of things.
        threshold: see :func:`find_instance_center`, as are ``nms_kernel`` and ``top_k``.

    Returns:
        ``(1, H, W)`` int64, 0 where there is no instance, else the number of its centre, from 1;
        and the centres, ``(1, I, 2)``.
    """
    centers = find_instance_center(center_heatmap, threshold, nms_kernel, top_k)
    if not len(centers):
        return torch.zeros_like(sem_seg), centers[None]
    return thing_seg * group_pixels(centers, offsets), centers[None]


def merge_semantic_and_instance(
    sem_seg: torch.Tensor,
    ins_seg: torch.Tensor,
    semantic_thing_seg: torch.Tensor,
    label_divisor: int,
    thing_ids: Collection[int],
    stuff_area: int,
    void_label: int,
) -> torch.Tensor:
    """Give each instance the class of most of its pixels, and join stuff.

    Args:
        sem_seg: ``(1, H, W)`` int64 classes.
        ins_seg: ``(1, H, W)`` int64 instances; 0 is none.
        semantic_thing_seg: ``(1, H, W)``, 1 on things; instances don't reach beyond.
        label_divisor: an id is ``class * label_divisor + number``; the number is 0 for stuff and
            counts the instances of a class from 1.
        thing_ids: classes of things.
        stuff_area: pixels; classes of stuff that have fewer become void.
        void_label: the id of pixels that belong to nothing.

    Returns:
        ``(1, H, W)`` int64 ids.
    """
    panoptic = torch.full_like(sem_seg, void_label)
    num_classes = int(sem_seg.max()) + 1 if sem_seg.numel() else 1

    instances = torch.where(semantic_thing_seg > 0, ins_seg, 0).long()
    num_instances = int(instances.max()) + 1 if instances.numel() else 1
    votes = torch.bincount(
        (instances * num_classes + sem_seg).flatten(), minlength=num_instances * num_classes
    ).reshape(num_instances, num_classes)
    winner = votes.argmax(dim=1)  # of equal classes the lowest
    exists = votes.sum(dim=1) > 0
    exists[0] = False
    one_hot = F.one_hot(winner, num_classes) * exists[:, None]
    number = one_hot.cumsum(dim=0).gather(1, winner[:, None])[:, 0]  # from 1, class by class
    ids = winner * label_divisor + number
    panoptic = torch.where(instances > 0, ids[instances], panoptic)

    is_stuff = torch.ones(num_classes, dtype=torch.bool, device=sem_seg.device)
    is_stuff[[i for i in thing_ids if i < num_classes]] = False
    free = ins_seg == 0
    area = torch.bincount(sem_seg[free], minlength=num_classes)
    kept = free & (is_stuff & (area >= stuff_area))[sem_seg]
    return torch.where(kept, sem_seg * label_divisor, panoptic)


def get_panoptic_segmentation(
    sem_seg: torch.Tensor,
    center_heatmap: torch.Tensor,
    offsets: torch.Tensor,
    thing_ids: Collection[int],
    label_divisor: int,
    stuff_area: int,
    void_label: int,
    threshold: float = 0.1,
    nms_kernel: int = 7,
    top_k: int | None = 200,
    foreground_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a panoptic map of one image.

    Args:
        sem_seg: ``(1, H, W)`` int64 classes.
        center_heatmap: ``(1, H, W)``.
        offsets: ``(2, H, W)``, from each pixel to its centre, y first.
        thing_ids: see :func:`merge_semantic_and_instance`, as are ``label_divisor``,
            ``stuff_area`` and ``void_label``.
        threshold: see :func:`find_instance_center`, as are ``nms_kernel`` and ``top_k``.
        foreground_mask: ``(1, H, W)``, 1 on things; by default where ``sem_seg`` is a thing.

    Returns:
        ``(1, H, W)`` int64 ids, and the centres found, ``(1, I, 2)``.

    Raises:
        InputError: (a ``ValueError``) If a shape is wrong.
    """
    where = "get_panoptic_segmentation: "
    expect_shape(where + "sem_seg", sem_seg, (1, "H", "W"))
    expect_shape(where + "center_heatmap", center_heatmap, (1, "H", "W"))
    expect_shape(where + "offsets", offsets, (2, "H", "W"))
    if foreground_mask is None:
        things = torch.tensor(sorted(thing_ids), dtype=sem_seg.dtype, device=sem_seg.device)
        foreground_mask = torch.isin(sem_seg, things).to(sem_seg.dtype)
    else:
        expect_shape(where + "foreground_mask", foreground_mask, (1, "H", "W"))
    instances, centers = get_instance_segmentation(
        sem_seg,
        center_heatmap,
        offsets,
        foreground_mask,
        thing_ids,
        threshold=threshold,
        nms_kernel=nms_kernel,
        top_k=top_k,
    )
    panoptic = merge_semantic_and_instance(
        sem_seg, instances, foreground_mask, label_divisor, thing_ids, stuff_area, void_label
    )
    return panoptic, centers
