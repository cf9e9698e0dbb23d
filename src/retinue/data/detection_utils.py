"""The steps a mapper is made of: read an image, move its annotations along, make ``Instances``.

Shapes
    N instances; K keypoints an instance; H, W rows and columns of the image.

Units
    Sizes are (height, width) in pixels. An annotation is a dict of the standard dataset format:
    ``bbox`` and ``bbox_mode``, ``category_id``, ``segmentation`` (polygons, RLE or a bitmap),
    ``keypoints`` (x, y, visibility in a row).

Reading order: read_image, check_image_size, transform_instance_annotations,
annotations_to_instances, filter_empty_instances; the rest serves special cases.
"""
# ruff: noqa: NPY002 - random crops draw from numpy's global generator, as augmentations do

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from retinue.data import transforms as T
from retinue.data.catalog import MetadataCatalog
from retinue.data.images import (  # noqa: F401 - detectron2 has them here
    _M_RGB2YUV,
    _M_YUV2RGB,
    UnreadableImageError,
    _apply_exif_orientation,
    convert_image_to_rgb,
    convert_PIL_to_numpy,
    read_image,
)
from retinue.data.transforms.clip import mask_to_polygons
from retinue.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
    polygons_to_bitmask,
)
from retinue.utils.errors import InputError, unknown_name
from retinue.utils.logger import log_first_n

__all__ = [
    "SizeMismatchError",
    "UnreadableImageError",
    "annotations_to_instances",
    "annotations_to_instances_rotated",
    "build_augmentation",
    "build_transform_gen",
    "check_image_size",
    "convert_image_to_rgb",
    "create_keypoint_hflip_indices",
    "filter_empty_instances",
    "read_image",
    "transform_instance_annotations",
    "transform_proposals",
]


class SizeMismatchError(ValueError):
    """An image has another size than its annotations say."""


def check_image_size(dataset_dict: dict[str, Any], image: np.ndarray) -> None:
    """Compare an image with the ``width`` and ``height`` of its dict; fill in what is missing.

    Raises:
        SizeMismatchError: If they differ.
    """
    height, width = image.shape[:2]
    if (dataset_dict.get("width", width), dataset_dict.get("height", height)) != (width, height):
        raise SizeMismatchError(
            f"image {dataset_dict.get('file_name', '(no file_name)')} is {width} wide and {height}"
            f" high; its annotations say {dataset_dict.get('width')} and"
            f" {dataset_dict.get('height')}; correct them, or find out whether the image was"
            " resized or rotated after it was annotated"
        )
    dataset_dict.setdefault("width", width)
    dataset_dict.setdefault("height", height)


def get_bbox(annotation: dict[str, Any]) -> Any:
    """Return the box of an annotation as x0, y0, x1, y1."""
    return BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)


def transform_proposals(
    dataset_dict: dict[str, Any],
    image_shape: tuple[int, int],
    transforms: T.TransformList,
    *,
    proposal_topk: int,
    min_box_size: float = 0,
) -> None:
    """Replace precomputed proposals in a dict by ``proposals``, moved along with the image.

    Args:
        dataset_dict: ``proposal_boxes``, ``proposal_objectness_logits`` and ``proposal_bbox_mode``
            are taken out of it, ``proposals`` (an ``Instances``) is put in. Changed in place.
        image_shape: of the transformed image.
        transforms: what was done to the image.
        proposal_topk: how many to keep; they come sorted by score.
        min_box_size: proposals whose width or height isn't above this are dropped.
    """
    if "proposal_boxes" not in dataset_dict:
        return
    mode = dataset_dict.pop("proposal_bbox_mode")
    raw = BoxMode.convert(dataset_dict.pop("proposal_boxes"), mode, BoxMode.XYXY_ABS)
    logits = dataset_dict.pop("proposal_objectness_logits").astype("float32")
    boxes = Boxes(transforms.apply_box(raw))
    boxes.clip(image_shape)
    keep = boxes.nonempty(threshold=min_box_size)
    proposals = Instances(image_shape)
    proposals.proposal_boxes = boxes[keep][:proposal_topk]
    proposals.objectness_logits = torch.as_tensor(logits)[keep][:proposal_topk]
    dataset_dict["proposals"] = proposals


def transform_instance_annotations(
    annotation: dict[str, Any],
    transforms: Any,
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: Any = None,
) -> dict[str, Any]:
    """Move one annotation along with its image.

    Args:
        annotation: changed in place: ``bbox`` becomes x0, y0, x1, y1, clipped to the image;
            polygons stay polygons, RLE becomes an ``(H, W)`` bitmap.
        transforms: what was done to the image, a ``TransformList`` or a list of transforms.
        image_size: of the transformed image.
        keypoint_hflip_indices: see ``create_keypoint_hflip_indices``.

    Returns:
        ``annotation``.

    Raises:
        InputError: (a ``ValueError``) If the segmentation is of no known kind, or its RLE is not
            of the image's size.
    """
    if not isinstance(transforms, T.Transform):
        transforms = T.TransformList(transforms)
    box = transforms.apply_box(np.array([get_bbox(annotation)]))[0].clip(min=0)
    height, width = image_size
    annotation["bbox"] = np.minimum(box, (width, height, width, height))
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if "segmentation" in annotation:
        annotation["segmentation"] = _transform_segmentation(
            annotation["segmentation"], transforms, image_size
        )
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def _transform_segmentation(
    segmentation: Any, transforms: T.TransformList, image_size: tuple[int, int]
) -> list[np.ndarray] | np.ndarray:
    if isinstance(segmentation, list):
        polygons = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation]
        return [polygon.reshape(-1) for polygon in transforms.apply_polygons(polygons)]
    if not isinstance(segmentation, (dict, np.ndarray)):
        raise _unknown_segmentation(segmentation)
    mask: np.ndarray = decode_rle(segmentation) if isinstance(segmentation, dict) else segmentation
    before = mask.shape
    try:
        mask = transforms.apply_segmentation(mask)
        fits = tuple(mask.shape[:2]) == tuple(image_size)
    except InputError as error:
        raise InputError(f"a mask of {before} pixels doesn't fit its image: {error}") from error
    if not fits:
        raise InputError(
            f"a mask of {before} pixels doesn't fit its image: transformed alike, it has"
            f" {mask.shape[:2]} and the image {tuple(image_size)}; a mask must have the image's"
            " height and width"
        )
    return mask


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """Turn COCO's run-length code, compressed or not, into an ``(H, W)`` uint8 bitmap.

    Raises:
        InputError: If the runs don't add up to the pixels of its ``size``.
    """
    from hotcoco import mask as runs

    try:
        height, width = rle["size"]
        counts = rle["counts"]
        if isinstance(counts, list) and sum(counts) != height * width:
            raise ValueError(f"the counts add up to {sum(counts)}")
        return runs.decode(rle)
    except (KeyError, TypeError, ValueError) as error:
        size = rle.get("size")
        raise InputError(
            f"an RLE of size {size} can't be decoded: {error}; counts must add up to height x"
            " width, and size is [height, width]"
        ) from error


def _unknown_segmentation(segmentation: Any) -> InputError:
    return InputError(
        f"a segmentation of type {type(segmentation).__name__} is not understood; it may be a list"
        " of polygons [x0, y0, x1, y1, ...], an RLE dict {'size': [h, w], 'counts': ...}, or an"
        " (H, W) array"
    )


def transform_keypoint_annotations(
    keypoints: Sequence[float] | np.ndarray,
    transforms: T.TransformList,
    image_size: tuple[int, int],
    keypoint_hflip_indices: Any = None,
) -> np.ndarray:
    """Move the keypoints of one instance along with its image.

    Points that leave the image become unlabelled: x, y and visibility 0.

    Args:
        keypoints: 3K numbers x, y, visibility.
        transforms: what was done to the image.
        image_size: of the transformed image.
        keypoint_hflip_indices: where each keypoint's name goes under a mirror, needed if the
            transforms mirror; see ``create_keypoint_hflip_indices``.

    Returns:
        ``(K, 3)`` float64.

    Raises:
        InputError: (a ``ValueError``) If the indices are needed and missing, or not K.
    """
    points = np.array(keypoints, dtype="float64").reshape(-1, 3)
    xy = transforms.apply_coords(points[:, :2].copy())
    inside = ((xy >= 0) & (xy <= np.array(image_size[::-1]))).all(axis=1)
    points[:, :2] = xy
    points[~inside, 2] = 0
    num_flips = sum(isinstance(t, T.HFlipTransform) for t in transforms.transforms)
    if num_flips % 2 == 1:
        if keypoint_hflip_indices is None:
            raise InputError(
                "keypoints can't be mirrored without keypoint_hflip_indices; set keypoint_names and"
                " keypoint_flip_map of the dataset's metadata and use create_keypoint_hflip_indices"
            )
        if len(points) != len(keypoint_hflip_indices):
            raise InputError(
                f"an annotation has {len(points)} keypoints, the metadata names"
                f" {len(keypoint_hflip_indices)}; set keypoint_names of the dataset to its own"
            )
        points = points[np.asarray(keypoint_hflip_indices, dtype=np.int64)]
    points[points[:, 2] == 0] = 0
    return points


def annotations_to_instances(
    annos: Sequence[dict[str, Any]], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Make the ground truth of one image.

    Args:
        annos: its annotations.
        image_size: its height and width.
        mask_format: ``"polygon"`` or ``"bitmask"``: what masks become. Polygons are filled, RLE
            and bitmaps are traced along their pixels, as needed.

    Returns:
        ``gt_boxes`` and ``gt_classes``; ``gt_masks`` and ``gt_keypoints`` if annotated.

    Raises:
        InputError: (a ``ValueError``) If a segmentation is missing, of no known kind or of the
            wrong size.
    """
    target = Instances(image_size)
    target.gt_boxes = Boxes(
        np.array([get_bbox(anno) for anno in annos], dtype=np.float64).reshape(-1, 4)
    )
    target.gt_classes = torch.tensor([int(a["category_id"]) for a in annos], dtype=torch.int64)
    if annos and "segmentation" in annos[0]:
        target.gt_masks = _masks(annos, image_size, mask_format)
    labelled = [anno["keypoints"] for anno in annos if "keypoints" in anno]
    if labelled:
        unlabelled = np.zeros_like(np.asarray(labelled[0], dtype="float64"))
        points = [anno.get("keypoints", unlabelled) for anno in annos]
        target.gt_keypoints = Keypoints(np.array(points).reshape(len(annos), -1, 3))
    return target


def _masks(
    annos: Sequence[dict[str, Any]], image_size: tuple[int, int], mask_format: str
) -> PolygonMasks | BitMasks:
    missing = [i for i, anno in enumerate(annos) if "segmentation" not in anno]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(annos)} annotations have no segmentation (the first is number"
            f" {missing[0]}); annotate all, drop those, or train without masks"
            " (MODEL.MASK_ON False)"
        )
    segmentations = [anno["segmentation"] for anno in annos]
    if mask_format == "polygon":
        return PolygonMasks([_as_polygons(segmentation) for segmentation in segmentations])
    if mask_format != "bitmask":
        known = ("polygon", "bitmask")
        raise InputError(str(unknown_name("mask format (INPUT.MASK_FORMAT)", mask_format, known)))
    bitmaps = [_as_bitmap(segmentation, image_size) for segmentation in segmentations]
    return BitMasks(torch.from_numpy(np.stack(bitmaps)))


def _as_polygons(segmentation: Any) -> list[Any]:
    if isinstance(segmentation, list):
        return segmentation
    if isinstance(segmentation, dict):
        return list(mask_to_polygons(decode_rle(segmentation)))
    if isinstance(segmentation, np.ndarray):
        return list(mask_to_polygons(segmentation))
    raise _unknown_segmentation(segmentation)


def _as_bitmap(segmentation: Any, image_size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *image_size)
    is_rle = isinstance(segmentation, dict)
    if is_rle:
        segmentation = decode_rle(segmentation)
    if not isinstance(segmentation, np.ndarray) or segmentation.ndim != 2:
        raise _unknown_segmentation(segmentation)
    if segmentation.shape != tuple(image_size):
        odd = f"a mask of {segmentation.shape} pixels doesn't fit its image of {tuple(image_size)}"
        if is_rle:
            raise InputError(odd)
        log_first_n(logging.WARNING, odd, key="message")  # which detectron2 takes as it is
    return segmentation.astype(bool)


def annotations_to_instances_rotated(
    annos: Sequence[dict[str, Any]], image_size: tuple[int, int]
) -> Instances:
    """Make the ground truth of one image from rotated boxes.

    Args:
        annos: annotations whose ``bbox`` is x centre, y centre, width, height, degrees.
        image_size: height and width of the image.

    Returns:
        ``gt_boxes`` (``RotatedBoxes``, clipped to the image) and ``gt_classes``.
    """
    target = Instances(image_size)
    boxes = np.array([anno["bbox"] for anno in annos], dtype=np.float64).reshape(-1, 5)
    target.gt_boxes = RotatedBoxes(torch.from_numpy(boxes))
    target.gt_boxes.clip(image_size)
    target.gt_classes = torch.tensor([int(a["category_id"]) for a in annos], dtype=torch.int64)
    return target


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
) -> Any:
    """Drop instances that have no area left.

    Args:
        instances: ground truth with ``gt_boxes`` and perhaps ``gt_masks``.
        by_box: drop those whose box is not wider and higher than ``box_threshold``.
        by_mask: drop those with an empty mask.
        box_threshold: pixels.
        return_mask: return also which ones were kept, ``(N,)`` bool.

    Raises:
        InputError: (an ``AssertionError``) If neither boxes nor masks are to be looked at.
    """
    if not (by_box or by_mask):
        raise InputError("filter_empty_instances: set by_box, by_mask or both")
    keep = torch.ones(len(instances), dtype=torch.bool)
    if by_box:
        keep &= instances.gt_boxes.nonempty(threshold=box_threshold)
    if by_mask and instances.has("gt_masks"):
        keep &= instances.gt_masks.nonempty()
    kept = instances if keep.all() else instances[keep]
    return (kept, keep) if return_mask else kept


def create_keypoint_hflip_indices(dataset_names: str | Sequence[str]) -> list[int]:
    """Return for each keypoint the index of the one it becomes in a mirror.

    Args:
        dataset_names: datasets whose metadata has ``keypoint_names`` and ``keypoint_flip_map``.

    Raises:
        AttributeError: If a dataset's metadata lacks them.
        ValueError: If the datasets differ in them.
    """
    dataset_names = [dataset_names] if isinstance(dataset_names, str) else dataset_names
    check_metadata_consistency("keypoint_names", dataset_names)
    check_metadata_consistency("keypoint_flip_map", dataset_names)
    meta = MetadataCatalog.get(dataset_names[0])
    mirrored = dict(meta.keypoint_flip_map)
    mirrored.update({right: left for left, right in meta.keypoint_flip_map})
    names = list(meta.keypoint_names)
    return [names.index(mirrored.get(name, name)) for name in names]


def get_fed_loss_cls_weights(
    dataset_names: str | Sequence[str], freq_weight_power: float = 1.0
) -> torch.Tensor:
    """Return a weight a class, the number of images it is in to a power: ``(classes,)`` float32.

    For the federated loss of Zhou et al. (2021), https://arxiv.org/abs/2103.07461. The metadata
    of the datasets has the numbers, as ``class_image_count``.
    """
    dataset_names = [dataset_names] if isinstance(dataset_names, str) else dataset_names
    check_metadata_consistency("class_image_count", dataset_names)
    rows = MetadataCatalog.get(dataset_names[0]).class_image_count
    counts = [row["image_count"] for row in sorted(rows, key=lambda row: row["id"])]
    return torch.tensor(counts).float() ** freq_weight_power


def gen_crop_transform_with_instance(
    crop_size: tuple[int, int], image_size: tuple[int, int], instance: dict[str, Any]
) -> T.CropTransform:
    """Draw a crop that contains the centre of an annotation's box.

    Args:
        crop_size: height and width of the crop.
        image_size: height and width of the image.
        instance: the annotation.

    Raises:
        InputError: (an ``AssertionError``) If the centre is outside the image, or the crop larger.
    """
    x0, y0, x1, y1 = get_bbox(instance)
    center_yx = np.array([(y0 + y1) * 0.5, (x0 + x1) * 0.5])
    size, room = np.array(image_size), np.subtract(image_size, crop_size)
    if (center_yx > size).any() or (center_yx < 0).any():
        raise InputError(
            f"the box {[x0, y0, x1, y1]} has its centre outside an image of {image_size}"
        )
    if (room < 0).any():
        raise InputError(f"a crop of {crop_size} is larger than the image of {image_size}")
    low = np.maximum(np.floor(center_yx).astype(np.int64) - crop_size, 0)
    high = np.minimum(room, np.ceil(center_yx).astype(np.int64))
    top = np.random.randint(low[0], high[0] + 1)
    left = np.random.randint(low[1], high[1] + 1)
    return T.CropTransform(left, top, crop_size[1], crop_size[0])


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """Make sure that datasets agree in a piece of metadata.

    Raises:
        AttributeError: If one doesn't have it.
        ValueError: If they differ.
    """
    values = [getattr(MetadataCatalog.get(name), key) for name in dataset_names]
    for name, value in zip(dataset_names, values, strict=True):
        if value != values[0]:
            raise ValueError(
                f"datasets that are used together must have the same {key}; {dataset_names[0]!r}"
                f" has {_first_difference(values[0], value)}, {name!r} differs: "
                f"{_first_difference(value, values[0])}"
            )


def _first_difference(value: Any, other: Any) -> str:
    """Show a value, of long lists only where it departs from the other."""
    if not (isinstance(value, (list, tuple)) and isinstance(other, (list, tuple))):
        return repr(value)
    for i, item in enumerate(value):
        if i >= len(other) or item != other[i]:
            return f"{len(value)} entries, number {i} being {item!r}"
    return f"{len(value)} entries"


def build_augmentation(cfg: Any, is_train: bool) -> list[T.Augmentation]:
    """Return the augmentations that a config asks for: resizing and, in training, a flip.

    Raises:
        InputError: (a ``ValueError``) If ``INPUT.RANDOM_FLIP`` is unknown.
    """
    if not is_train:
        return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]
    resize = T.ResizeShortestEdge(
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    )
    flip, known = cfg.INPUT.RANDOM_FLIP, ("none", "horizontal", "vertical")
    if flip not in known:
        raise InputError(str(unknown_name("value of INPUT.RANDOM_FLIP", flip, known)))
    if flip == "none":
        return [resize]
    flipping = T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical")
    return [resize, flipping]


build_transform_gen = build_augmentation
