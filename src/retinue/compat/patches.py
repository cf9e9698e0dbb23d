"""Functions that a program puts in place of detectron2's reach the code that would call them.

``rpn.find_top_rpn_proposals = mine`` changes detectron2, as its RPN looks the function up there.
Where retinue's code looks elsewhere, or does the work of several functions in one, a module under
the hook hands on what is assigned to it, and takes it back when the original is put back.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

__all__ = ["HANDED_ON", "hand_on_from", "take_all_back"]


def _image_by_image(function: Callable[..., Any]) -> Callable[..., Any]:
    """Do what ``fast_rcnn_inference`` does by a function for one image."""

    def fast_rcnn_inference(boxes: Any, scores: Any, image_shapes: Any, *options: Any) -> Any:
        images = zip(boxes, scores, image_shapes, strict=True)
        results = [function(*image, *options) for image in images]
        return [found for found, _ in results], [rows for _, rows in results]

    return fast_rcnn_inference


def _of_all_boxes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Do what ``RPN.predict_proposals`` does by a function that chooses among decoded boxes."""

    def predict_proposals(
        self: Any, anchors: Any, logits: Any, deltas: Any, image_sizes: Any
    ) -> Any:
        import torch  # here, as the hook is installed without it

        with torch.no_grad():
            return function(
                self._decode_proposals(anchors, deltas),
                logits,
                image_sizes,
                self.nms_thresh,
                self.pre_nms_topk[self.training],
                self.post_nms_topk[self.training],
                self.min_box_size,
                self.training,
            )

    return predict_proposals


def _as_it_is(function: Any) -> Any:
    return function


_ROI_HEADS = "retinue.modeling.roi_heads"

HANDED_ON: Mapping[str, Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "retinue.data.build": {
        name: (f"retinue.data.dataset_dicts:{name}", _as_it_is)
        for name in (
            "filter_images_with_few_keypoints",
            "filter_images_with_only_crowd_annotations",
            "load_proposals_into_dataset",
            "print_instances_class_histogram",
        )
    },
    "retinue.engine.defaults": {
        "inference_on_dataset": ("retinue.evaluation:inference_on_dataset", _as_it_is),
        "print_csv_format": ("retinue.evaluation:print_csv_format", _as_it_is),
        "setup_logger": ("retinue.engine.setup:setup_logger", _as_it_is),
        "verify_results": ("retinue.evaluation:verify_results", _as_it_is),
    },
    "retinue.modeling.proposal_generator.rpn": {
        "find_top_rpn_proposals": (
            "retinue.modeling.proposal_generator.rpn:RPN.predict_proposals",
            _of_all_boxes,
        ),
    },
    f"{_ROI_HEADS}.fast_rcnn": {
        "fast_rcnn_inference_single_image": (
            f"{_ROI_HEADS}.fast_rcnn:fast_rcnn_inference",
            _image_by_image,
        ),
    },
    f"{_ROI_HEADS}.roi_heads": {
        "add_ground_truth_to_proposals": (
            f"{_ROI_HEADS}.base:add_ground_truth_to_proposals",
            _as_it_is,
        ),
        "pairwise_iou": (f"{_ROI_HEADS}.base:ROIHeads.pairwise_iou", staticmethod),
        "subsample_labels": (f"{_ROI_HEADS}.base:subsample_labels", _as_it_is),
    },
}
"""Module -> name -> where a function of that name is called from, and what makes one for there."""

_replaced: dict[tuple[str, str], tuple[Any, Any]] = {}  # (module, name) -> original there, here


def _place(target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    holder: Any = importlib.import_module(module)
    *owners, attribute = path.split(".")
    for owner in owners:
        holder = getattr(holder, owner)
    return holder, attribute


class _HandingOn(ModuleType):
    """A module that hands on what is assigned to it."""

    def __setattr__(self, name: str, value: Any) -> None:
        row = HANDED_ON.get(self.__name__, {}).get(name)
        if row is not None:
            holder, attribute = _place(row[0])
            if (self.__name__, name) not in _replaced:
                there = vars(holder).get(attribute, getattr(holder, attribute))
                _replaced[self.__name__, name] = (there, getattr(self, name, None))
            there, here = _replaced[self.__name__, name]
            setattr(holder, attribute, there if value is here else row[1](value))
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        _take_back(self.__name__, name)


def _take_back(module: str, name: str) -> None:
    if (module, name) in _replaced:
        holder, attribute = _place(HANDED_ON[module][name][0])
        setattr(holder, attribute, _replaced.pop((module, name))[0])


_handing_on: list[ModuleType] = []


def hand_on_from(module: ModuleType) -> None:
    """Let a module hand on from now on, if ``HANDED_ON`` has it."""
    if module.__name__ in HANDED_ON and type(module) is ModuleType:
        module.__class__ = _HandingOn
        _handing_on.append(module)


def take_all_back() -> None:
    """Put all originals back, and let modules be modules."""
    for key in list(_replaced):
        _take_back(*key)
    while _handing_on:
        _handing_on.pop().__class__ = ModuleType
