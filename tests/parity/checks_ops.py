"""Operators: rebuild the inputs of ops/*.npz, run ours, compare values and gradients."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import compare
import numpy as np
import torch

Arrays = dict[str, torch.Tensor]


def _boxes(kind: type, x: torch.Tensor) -> Any:
    """A structure whose coordinates keep the dtype of ``x``, to check its formulas in float64."""
    boxes = kind(x)
    boxes.tensor = x.clone()
    return boxes


def roi_align(p, x, rois):
    from retinue.layers import ROIAlign

    return ROIAlign(p["output_size"], p["spatial_scale"], p["sampling_ratio"], p["aligned"])(
        x, rois
    )


def roi_align_rotated(p, x, rois):
    from retinue.layers import ROIAlignRotated

    return ROIAlignRotated(p["output_size"], p["spatial_scale"], p["sampling_ratio"])(x, rois)


def nms(p, boxes, scores, idxs=None):
    from retinue import layers

    threshold = p["iou_threshold"]
    rotated = "_rotated" if boxes.shape[1] == 5 else ""
    if idxs is not None:
        return getattr(layers, f"batched_nms{rotated}")(boxes, scores, idxs, threshold)
    return getattr(layers, f"nms{rotated}")(boxes, scores, threshold)


def iou(p, name, **inputs):
    from retinue import structures
    from retinue.structures import Boxes, RotatedBoxes
    from retinue.structures import boxes as module

    if name == "pairwise_iou_rotated":
        from retinue.structures.rotated_boxes import pairwise_iou

        a, b = (_boxes(RotatedBoxes, inputs[k]) for k in "ab")
        return pairwise_iou(a, b)
    if name == "pairwise_point_box_distance":
        return structures.pairwise_point_box_distance(inputs["points"], _boxes(Boxes, inputs["b"]))
    if name in ("area_clip_nonempty", "rotated_boxes"):
        return box_methods(p, RotatedBoxes if name == "rotated_boxes" else Boxes, inputs["b"])
    return getattr(module, name)(_boxes(Boxes, inputs["a"]), _boxes(Boxes, inputs["b"]))


def box_methods(p, kind, b):
    boxes = _boxes(kind, b)
    out = {
        "area": boxes.area(),
        "centers": boxes.get_centers(),
        "inside": boxes.inside_box(tuple(p["inside_box"]), p["boundary_threshold"]),
        "nonempty": boxes.nonempty(p["nonempty_threshold"]),
    }
    if "clip_angle_threshold" in p:
        boxes.normalize_angles()
        out["normalized"] = boxes.tensor.clone()
        boxes.clip(tuple(p["clip"]), p["clip_angle_threshold"])
    else:
        boxes.clip(tuple(p["clip"]))
    out["clipped"] = boxes.tensor.clone()
    boxes.scale(*p["scale_after_clip"])
    return out | {"scaled": boxes.tensor}


def box_transform(p, name, **inputs):
    from retinue.modeling import box_regression

    suffix = {"plain": "", "rotated": "Rotated", "linear": "Linear"}[name.split("_")[0]]
    transform = getattr(box_regression, f"Box2BoxTransform{suffix}")(**p)
    if "_get_" in name:
        return transform.get_deltas(inputs["src"], inputs["dst"])
    if suffix == "Linear":
        return transform.apply_deltas(inputs["deltas"], inputs["boxes"])
    return transform.apply_deltas(inputs["deltas"], inputs["boxes"])


def deform_conv(p, x, offset, weight, mask=None, bias=None):
    from retinue.layers import deform_conv as module

    sizes = (p["stride"], p["padding"], p["dilation"], p["groups"], p["deformable_groups"])
    if mask is None:
        return module.deform_conv(x, offset, weight, *sizes)
    return module.modulated_deform_conv(x, offset, mask, weight, bias, *sizes)


def masks(p, name, group, **inputs):
    from retinue.layers import paste_masks_in_image
    from retinue.structures import BitMasks, Boxes, PolygonMasks
    from retinue.structures.masks import polygons_to_bitmask

    polygons = [[np.asarray(q) for q in parts] for parts in p.get("polygons", [])]
    bitmask = torch.from_numpy(group["polygons/out64/bitmask"])
    if name.startswith("paste"):
        boxes = _boxes(Boxes, inputs["boxes"])
        if name == "paste_soft":
            from retinue.layers import mask_ops

            return mask_ops.paste_soft_masks(inputs["masks"], boxes.tensor, tuple(p["image_shape"]))
        return paste_masks_in_image(inputs["masks"], boxes, tuple(p["image_shape"]), p["threshold"])
    if name == "bitmask_boxes":
        return BitMasks(bitmask).get_bounding_boxes().tensor
    if name.startswith("bitmask_crop"):
        return BitMasks(bitmask).crop_and_resize(inputs["boxes"], p["mask_size"])
    if name.startswith("polygon_crop"):
        return PolygonMasks(polygons).crop_and_resize(inputs["boxes"], p["mask_size"])
    drawn = np.stack([polygons_to_bitmask(q, p["height"], p["width"]) for q in polygons])
    if name == "small_polygons":
        bits, shape = compare.pack(drawn)
        return {"bitmask": torch.from_numpy(bits), "shape": torch.from_numpy(shape)}
    structure = PolygonMasks(polygons)
    return {
        "bitmask": torch.from_numpy(drawn),
        "area": structure.area(),
        "boxes": structure.get_bounding_boxes().tensor,
    }


def keypoints(p, name, **inputs):
    from retinue.structures.keypoints import Keypoints, heatmaps_to_keypoints

    if name == "heatmaps_to_keypoints":
        return heatmaps_to_keypoints(inputs["maps"], inputs["rois"])
    structure = Keypoints(inputs["keypoints"])
    structure.tensor = inputs["keypoints"]
    cells, valid = structure.to_heatmap(inputs["rois"], p["heatmap_size"])
    return {"heatmaps": cells, "valid": valid.long()}


def matcher(p, quality):
    from retinue.modeling.matcher import Matcher

    match = Matcher(p["thresholds"], p["labels"], p["allow_low_quality_matches"])
    matches, labels = match(quality)
    return {"matches": matches, "labels": labels}


def anchors(p, name, **_):
    from retinue.modeling import anchor_generator as module

    arguments = {
        k: p[k] for k in ("sizes", "aspect_ratios", "strides", "angles", "offset") if k in p
    }
    kind = "RotatedAnchorGenerator" if "angles" in p else "DefaultAnchorGenerator"
    generator = getattr(module, kind)(**arguments)
    features = [torch.zeros(1, 1, *size) for size in p["grid_sizes"]]
    out = {str(i): boxes.tensor for i, boxes in enumerate(generator(features))}
    return out | {f"cell/{i}": cell for i, cell in enumerate(generator.cell_anchors)}


def losses(p, name, **inputs):
    from retinue.layers import losses as module

    if name.startswith("hard_pixel"):
        from retinue.projects.deeplab.loss import DeepLabCE

        loss = DeepLabCE(p["ignore_label"], p["top_k_percent_pixels"])
        return loss(inputs["logits"], inputs["labels"], inputs["weights"])
    if name.startswith("focal_star"):
        focal = module.sigmoid_focal_loss_star
        return focal(inputs["logits"], inputs["targets"], p["alpha"], p["gamma"], p["reduction"])
    if name.startswith("focal"):
        focal = module.sigmoid_focal_loss
        return focal(inputs["logits"], inputs["targets"], p["alpha"], p["gamma"], p["reduction"])
    loss = getattr(module, name.rsplit("_", 2 if name.startswith("smooth") else 1)[0] + "_loss")
    return loss(inputs["a"], inputs["b"], **p)


def misc(p, name, group, **inputs):
    if name == "assign_boxes_to_levels":
        from retinue.modeling.poolers import assign_boxes_to_levels
        from retinue.structures import Boxes

        return assign_boxes_to_levels([_boxes(Boxes, inputs["boxes"])], **p)
    if name.startswith("fast_rcnn_inference"):
        from retinue.modeling.roi_heads.fast_rcnn import fast_rcnn_inference

        results, indices = fast_rcnn_inference(
            [inputs["boxes"]],
            [inputs["scores"]],
            [tuple(p["image_shape"])],
            p["score_thresh"],
            p["nms_thresh"],
            p["topk_per_image"],
        )
        found = results[0]
        return {
            "boxes": found.pred_boxes.tensor,
            "scores": found.scores,
            "classes": found.pred_classes,
            "indices": indices[0],
        }
    if name == "sem_seg_postprocess":
        from retinue.modeling.postprocessing import sem_seg_postprocess

        return sem_seg_postprocess(inputs["x"], tuple(p["image_size"]), *p["output"])
    if name == "combine_panoptic":
        return _combine_panoptic(p, **inputs)
    if name == "panoptic_from_centers":
        from retinue.projects.panoptic_deeplab.post_processing import get_panoptic_segmentation

        sem_seg = torch.from_numpy(group[p["sem_seg"]])[None]
        panoptic, centers = get_panoptic_segmentation(
            sem_seg,
            inputs["center"],
            inputs["offset"],
            thing_ids=p["thing_ids"],
            label_divisor=p["label_divisor"],
            stuff_area=p["stuff_area"],
            void_label=p["void_label"],
            threshold=p["threshold"],
            nms_kernel=p["nms_kernel"],
            top_k=p["top_k"],
        )
        return {"panoptic": panoptic, "centers": centers}
    if name.startswith("swap_align2nat"):
        from retinue.projects.tensormask.layers import swap_align2nat

        return swap_align2nat(inputs["x"], p["lambda_val"], p["pad_val"])
    from retinue.projects.point_rend import point_features

    if name == "point_sample":
        return point_features.point_sample(inputs["x"], inputs["points"], **p)
    if name == "regular_grid_points":
        make = point_features.generate_regular_grid_point_coords
        return make(p["R"], p["side_size"], inputs["dummy"].device)
    if name == "uncertain_points_on_grid":
        make = point_features.get_uncertain_point_coords_on_grid
        indices, coords = make(inputs["uncertainty"], p["num_points"])
        return {"indices": indices, "coords": coords}
    raise LookupError(f"no check for the operator {name!r} yet")


def _combine_panoptic(p, masks, scores, classes, sem_seg):
    from retinue.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
    from retinue.structures import Instances

    found = Instances(tuple(sem_seg.shape), pred_masks=masks, scores=scores, pred_classes=classes)
    panoptic, info = combine_semantic_and_instance_outputs(
        found,
        sem_seg,
        p["overlap_threshold"],
        p["stuff_area_thresh"],
        p["instances_score_thresh"],
    )
    keys = ("id", "category_id", "isthing", "instance_id", "area")
    rows = [[int(s.get(k, -1)) for k in keys] for s in info]
    return {"map": panoptic, "segments": torch.tensor(rows)}


GROUPS: dict[str, Callable[..., Any]] = {
    "anchors": anchors,
    "box_transforms": box_transform,
    "deform_conv": deform_conv,
    "iou": iou,
    "keypoints": keypoints,
    "losses": losses,
    "masks": masks,
    "matcher": matcher,
    "misc": misc,
    "nms": nms,
    "roi_align": roi_align,
    "roi_align_rotated": roi_align_rotated,
}
NEEDS_NAME = {"anchors", "box_transforms", "iou", "keypoints", "losses", "masks", "misc"}
NEEDS_GROUP = {"masks", "misc"}


def checks(parity: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    for file in sorted((parity / "ops").glob("*.npz")):
        group = compare.load(f"ops/{file.stem}", parity)
        for case in sorted({key.split("/")[0] for key in group}):
            yield f"ops/{file.stem}/{case}", partial(check, group, file.stem, case)


def check(group: compare.Golden, group_name: str, case: str) -> None:
    if group_name not in GROUPS:
        raise LookupError(f"no check for operators of the group {group_name!r} yet")
    params = json.loads(str(group[f"{case}/params"]))
    params.pop("note", None)
    widths = [w for w in (64, 32) if any(k.startswith(f"{case}/out{w}") for k in group)]
    for width in widths:
        check_width(group, group_name, case, params, width)


def check_width(
    group: compare.Golden, group_name: str, case: str, params: dict, width: int
) -> None:
    start = f"{case}/in/"
    differentiated = {k.rsplit("/", 1)[1] for k in group if k.startswith(f"{case}/grad{width}/")}
    inputs: Arrays = {}
    for key in group:
        if key.startswith(start):
            x = torch.from_numpy(np.array(group[key]))
            x = x.double() if width == 64 and x.is_floating_point() else x
            name = key.removeprefix(start)
            inputs[name] = x.requires_grad_(name in differentiated)
    function = GROUPS[group_name]
    if group_name in NEEDS_NAME:
        function = partial(function, name=case)
    if group_name in NEEDS_GROUP:
        function = partial(function, group=group)
    out = function(params, **inputs)

    prefix = f"{case}/out{width}"
    named = {f"/{k}": v for k, v in out.items()} if isinstance(out, dict) else {"": out}
    got = {prefix + k: v for k, v in named.items()}
    if differentiated:
        total = sum(
            (v * torch.from_numpy(np.array(group[f"{case}/cotangent{k}"])).to(v)).sum()
            for k, v in named.items()
            if f"{case}/cotangent{k}" in group
        )
        names = sorted(differentiated)
        gradients = torch.autograd.grad(total, [inputs[n] for n in names])
        got |= {f"{case}/grad{width}/{n}": g for n, g in zip(names, gradients, strict=True)}
    want = compare.Golden(
        {k: v for k, v in group.items() if k.startswith((prefix, f"{case}/grad{width}/"))}
    )
    want.path = f"ops/{group_name}"
    compare.check(want, got, tol=1e-9 if width == 64 else 1e-5, strict=True)
