"""Test-time augmentation: predictions on scaled, mirrored and rotated images, averaged.

Reading order: DensePoseGeneralizedRCNNWithTTA._inference_one_image; _unrotated takes a prediction
in a rotated box back to the upright one.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import retinue.data.transforms as T
from retinue.config import CfgNode
from retinue.engine.test_time_augmentation import DatasetMapperTTA, GeneralizedRCNNWithTTA
from retinue.modeling.postprocessing import detector_postprocess
from retinue.projects.densepose.converters.hflip import HFlipConverter
from retinue.projects.densepose.structures.transform_data import DensePoseTransformData
from retinue.structures import Instances
from retinue.utils.errors import InputError

__all__ = [
    "DensePoseDatasetMapperTTA",
    "DensePoseGeneralizedRCNNWithTTA",
    "rotate_box_inverse",
]

CHART_FIELDS = ("coarse_segm", "fine_segm", "u", "v")


class DensePoseDatasetMapperTTA(DatasetMapperTTA):
    """:class:`DatasetMapperTTA` with a version rotated by each of ``TEST.AUG.ROTATION_ANGLES``.

    Args:
        cfg: with ``TEST.AUG``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg=cfg)  # type: ignore[call-arg]
        self.angles = cfg.TEST.AUG.ROTATION_ANGLES

    def __call__(self, dataset_dict: dict[str, Any]) -> list[dict[str, Any]]:
        """Make the versions; see :meth:`DatasetMapperTTA.__call__`."""
        versions = super().__call__(dataset_dict)
        pixels = dataset_dict["image"].permute(1, 2, 0).numpy()
        to_input = versions[-1]["transforms"].transforms[0]
        for angle in self.angles:
            rotation = T.RandomRotation(angle=angle, expand=True)
            turned, steps = T.apply_transform_gens([rotation], np.copy(pixels))
            version = {k: copy.deepcopy(v) for k, v in dataset_dict.items() if k != "image"}
            version["image"] = torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1)))
            version["transforms"] = T.TransformList([to_input, *steps.transforms])
            versions.append(version)
        return versions


class DensePoseGeneralizedRCNNWithTTA(GeneralizedRCNNWithTTA):
    """:class:`GeneralizedRCNNWithTTA` for models that predict charts.

    Boxes come from the upright versions; predictions in them from all.

    Args:
        cfg: the model's.
        model: in evaluation mode.
        transform_data: what parts, charts and coordinates become in a mirror.
        tta_mapper: makes the versions; ``DatasetMapperTTA(cfg)`` by default.
        batch_size: versions that go through the model together.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        transform_data: DensePoseTransformData,
        tta_mapper: Any = None,
        batch_size: int = 1,
    ) -> None:
        super().__init__(cfg=cfg, model=model, tta_mapper=tta_mapper, batch_size=batch_size)
        self._transform_data = transform_data.to(self.model.device)

    def _inference_one_image(self, input: dict[str, Any]) -> dict[str, Any]:
        size_hw = input["height"], input["width"]
        input["image"] = input["image"].to(torch.uint8)
        versions, tfms = self._get_augmented_inputs(input)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on", "densepose_on"]):
            boxes, scores, classes = self._get_augmented_boxes(versions, tfms)
        merged = self._merge_detections(boxes, scores, classes, size_hw)
        if not len(merged) or not (self.cfg.MODEL.MASK_ON or self.cfg.MODEL.DENSEPOSE_ON):
            return {"instances": merged}
        detected = self._rescale_detected_boxes(versions, merged, tfms)
        outputs = self._batch_inference(versions, detected)
        if self.cfg.MODEL.MASK_ON:
            merged.pred_masks = self._reduce_pred_masks(outputs, tfms)
        if self.cfg.MODEL.DENSEPOSE_ON:
            merged.pred_densepose = self._reduce_pred_densepose(outputs, tfms)
        return {"instances": detector_postprocess(merged, *size_hw)}

    def _get_augmented_boxes(
        self, augmented_inputs: Sequence[dict[str, Any]], tfms: Sequence[T.TransformList]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Detect on the upright versions: a box around a rotated box would be too large."""
        upright = [i for i, tfm in enumerate(tfms) if _rotation(tfm) is None]
        return super()._get_augmented_boxes(
            [augmented_inputs[i] for i in upright], [tfms[i] for i in upright]
        )

    def _reduce_pred_densepose(
        self, outputs: Sequence[Instances], tfms: Sequence[T.TransformList]
    ) -> Any:
        """Average the predictions, each taken back to the original image.

        A prediction is relative to its box, so that size does not matter.
        """
        average = None
        for number, (output, tfm) in enumerate(zip(outputs, tfms, strict=True)):
            prediction = output.pred_densepose
            rotation = _rotation(tfm)
            if rotation is not None:
                for name in CHART_FIELDS:
                    value = getattr(prediction, name)
                    setattr(prediction, name, _unrotated(value, output.pred_boxes.tensor, rotation))
            if any(isinstance(step, T.HFlipTransform) for step in tfm.transforms):
                prediction = HFlipConverter.convert(prediction, self._transform_data)
            average = self._incremental_avg_dp(average or prediction, prediction, number)
        return average

    def _incremental_avg_dp(self, avg: Any, new_el: Any, idx: int) -> Any:
        """Take the prediction number ``idx`` into the average of those before, in place."""
        for name in CHART_FIELDS:
            before = getattr(avg, name)
            setattr(avg, name, before + (getattr(new_el, name) - before) / (idx + 1))
        return avg


def _rotation(transforms: T.TransformList) -> Any:
    """Return the rotation among transforms; None if there is none."""
    found = [step for step in transforms.transforms if isinstance(step, T.RotationTransform)]
    return found[0] if found else None


def _unrotated(
    values: torch.Tensor, boxes: torch.Tensor, rotation: T.RotationTransform
) -> torch.Tensor:
    """Take predictions ``(D, C, S, S)`` in boxes on a rotated image back to the upright boxes."""
    turned = boxes.int().cpu().numpy()
    upright = rotate_box_inverse(rotation, turned).astype(int)
    size_wh = turned[:, 2:] - turned[:, :2]
    margins = (upright[:, 2:] - upright[:, :2] - size_wh) // 2  # of the upright box, on each side
    matrix = torch.as_tensor(rotation.rm_image, dtype=values.dtype, device=values.device).clone()
    matrix[:, 2] = 0  # about the centre
    results = values.clone()
    for i, ((width, height), margin) in enumerate(zip(size_wh.tolist(), margins, strict=True)):
        if min(width, height) <= 0:
            continue
        pixels = F.interpolate(
            values[i : i + 1], (height, width), mode="bilinear", align_corners=False
        )
        more_w, more_h = np.maximum(margin, 0).tolist()
        pixels = F.pad(pixels, (more_w, more_w, more_h, more_h))  # room for both boxes
        grid = F.affine_grid(matrix[None], list(pixels.shape), align_corners=False)
        pixels = F.grid_sample(pixels, grid, align_corners=False)
        less_w, less_h = np.maximum(-margin, 0).tolist()
        pixels = pixels[:, :, less_h : pixels.shape[2] - less_h, less_w : pixels.shape[3] - less_w]
        if pixels.numel():
            results[i] = F.interpolate(
                pixels, values.shape[2:], mode="bilinear", align_corners=False
            )[0]
            results[i, 0] += 1e-10  # what was padded is background
    return results


def rotate_box_inverse(rot_tfm: T.RotationTransform, rotated_box: np.ndarray) -> np.ndarray:
    """Find the boxes that rotated boxes are drawn around.

    Rotating back gives the right centre, but each way the box around becomes larger; its height and
    width before follow from those after, h' = h cos + w sin and w' = w cos + h sin.

    Args:
        rot_tfm: the rotation, by no odd multiple of 45 degrees.
        rotated_box: ``(N, 4)``, x0, y0, x1, y1 in the rotated image.

    Returns:
        ``(N, 4)`` in the original image.

    Raises:
        InputError: If the angle is such a multiple, for which height and width can't be told.
    """
    sin, cos = rot_tfm.abs_sin, rot_tfm.abs_cos
    determinant = 1 - 2 * sin**2
    if abs(determinant) < 1e-9:
        raise InputError("boxes can't be rotated back by 45 degrees; choose another angle")
    boxes: np.ndarray = rot_tfm.inverse().apply_box(rotated_box.astype(float))
    width, height = (rotated_box[:, 2:] - rotated_box[:, :2]).T
    size = np.stack([width * cos - height * sin, height * cos - width * sin], axis=1) / determinant
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)
