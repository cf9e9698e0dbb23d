"""The kinds of things that ``retinue.data.health`` finds wrong with a dataset, and what to do."""

from __future__ import annotations

__all__ = ["KINDS"]

# code -> is fatal, what it is, what happens or what to do
KINDS: dict[str, tuple[bool, str, str]] = {
    "no_image": (True, "the dataset has no image", "check its annotation file"),
    "no_instance": (True, "no image shows an object", "check the annotations, or the classes"),
    "class_outside": (
        True,
        "annotations have a class outside the dataset's",
        "correct them, or add the class to thing_classes",
    ),
    "no_box": (True, "annotations have no bbox", "add x, y, width, height in pixels"),
    "box_not_finite": (True, "boxes are not four finite numbers", "correct them"),
    "box_without_area": (False, "boxes have no area", "training leaves these instances out"),
    "box_outside": (
        False,
        "boxes are outside their image",
        "training leaves these instances out; were width and height, or x and y, exchanged?",
    ),
    "box_over_edge": (False, "boxes reach over the edge of their image", "they are clipped"),
    "polygon_points": (
        True,
        "polygons have fewer than 3 points, or half a point",
        "a polygon is x0, y0, x1, y1, x2, y2, ...",
    ),
    "rle_size": (
        True,
        "RLE masks are not of their image's size",
        "an RLE has the size [height, width] of the image, and counts that add up to it",
    ),
    "rle_broken": (
        True,
        "RLE masks can't be decoded",
        "write them anew, as pycocotools.mask.encode does",
    ),
    "segmentation_kind": (
        True,
        "segmentations are neither polygons nor RLE nor bitmaps",
        "a list of lists, a dict, or an array is understood",
    ),
    "file_format": (True, "a value is not of the type that COCO's format has", "correct it"),
    "class_twice": (
        False,
        "class names occur more than once",
        "these are learnt as different classes; rename or merge them",
    ),
    "image_twice": (False, "image ids occur more than once", "evaluation needs unique ones"),
    "annotation_twice": (
        False,
        "annotation ids occur more than once",
        "evaluation needs unique ones",
    ),
    "class_unused": (False, "classes have no instance", "the model can't learn them"),
    "empty_image_dropped": (
        False,
        "images show no object and are dropped",
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps them",
    ),
    "mask_missing": (
        True,
        "instances have no mask, and the model needs them",
        "annotate them, or set MODEL.MASK_ON False",
    ),
    "keypoints_missing": (
        True,
        "the model needs keypoints",
        "annotate them, or set MODEL.KEYPOINT_ON False",
    ),
    "keypoints_unnamed": (
        True,
        "keypoints have no names in the metadata",
        "set its keypoint_names and keypoint_flip_map; mirroring needs them",
    ),
    "num_classes_few": (
        True,
        "the model is configured for fewer classes than there are",
        "set the key to that number",
    ),
    "num_classes_many": (
        False,
        "the model is configured for more classes than there are",
        "set the key to that number, unless the others are to be learnt later",
    ),
    "file_missing": (
        True,
        "image files are missing",
        "check the image folder, or set RETINUE.SKIP_UNREADABLE True to go on without them",
    ),
    "file_missing_skipped": (False, "image files are missing", "training goes on without them"),
    "file_empty": (
        True,
        "image files are empty",
        "copy them anew, or set RETINUE.SKIP_UNREADABLE True to go on without them",
    ),
    "file_empty_skipped": (False, "image files are empty", "training goes on without them"),
    "orphan_image_id": (False, "annotations belong to no image in the file", "they are left out"),
    "near_duplicate": (
        False,
        "annotations nearly cover another of their class",
        "were images annotated twice?",
    ),
}
