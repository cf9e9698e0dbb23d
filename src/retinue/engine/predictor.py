"""``DefaultPredictor``: from a config to predictions for one image at a time.

Predictions come from a copy of the model that ``optimize_for_inference`` prepared when it was first
needed. The model itself stays as it was built; whatever is changed in it changes predictions.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from retinue.checkpoint import DetectionCheckpointer
from retinue.data.catalog import MetadataCatalog
from retinue.data.transforms import ResizeShortestEdge
from retinue.modeling import build_model
from retinue.modeling.optimize import optimize_for_inference
from retinue.utils.errors import InputError

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = ["DefaultPredictor"]


class DefaultPredictor:
    """Loads ``cfg.MODEL.WEIGHTS`` and predicts on images as they come from a file.

    Images are resized as ``cfg.INPUT.{MIN,MAX}_SIZE_TEST`` say; results are in the pixels of the
    image given.

    Attributes:
        cfg: the config.
        model: the model, in evaluation mode. Weights, thresholds and hooks may be changed.
        metadata: of the first dataset of ``cfg.DATASETS.TEST``, if there is one.
        aug: how images are resized.
        input_format: channel order that the model wants, ``"BGR"`` or ``"RGB"``.

    Raises:
        InputError: If ``cfg.INPUT.FORMAT`` is another.

    Example:
        ``DefaultPredictor(cfg)(cv2.imread("street.jpg"))["instances"].pred_boxes``
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        self.input_format = cfg.INPUT.FORMAT
        if self.input_format not in ("RGB", "BGR"):
            raise InputError(f"INPUT.FORMAT must be RGB or BGR here; got {self.input_format!r}")
        self.model = build_model(self.cfg)
        self.model.eval()
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        shortest = cfg.INPUT.MIN_SIZE_TEST
        self.aug = ResizeShortestEdge([shortest, shortest], cfg.INPUT.MAX_SIZE_TEST)

    @functools.cached_property
    def _prepared(self) -> _Prepared:  # here for subclasses that set their attributes themselves
        return _Prepared()

    @torch.no_grad()
    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """Predict on one image.

        Args:
            original_image: ``(H, W, 3)`` uint8, channels blue, green, red.

        Returns:
            The model's output for it, such as ``{"instances": Instances}``.

        Raises:
            InputError: If the image has another shape.
        """
        shape = getattr(original_image, "shape", None)
        if shape is None or len(shape) != 3 or shape[2] != 3:
            got = shape or type(original_image).__name__
            hint = "; cv2.imread returns None for files that it can't read"
            raise InputError(
                "DefaultPredictor: image must be an array of shape (height, width, 3);"
                f" got {got}{hint if original_image is None else ''}"
            )
        height, width = original_image.shape[:2]
        image = original_image[:, :, ::-1] if self.input_format == "RGB" else original_image
        image = self.aug.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))
        inputs = {"image": tensor, "height": height, "width": width}
        model = self._prepared.twin_of(self.model)
        prediction: dict[str, Any] = model([inputs])[0]
        return prediction


class _Prepared:
    """A faster copy of a model, made anew whenever the model has changed."""

    def __init__(self) -> None:
        self._twin: nn.Module | None = None
        self._state: int | None = None

    def twin_of(self, model: nn.Module) -> nn.Module:
        """Return the copy; the model itself if it has hooks, or is training."""
        state = _state_of(model)
        if state is None:
            return model
        if self._twin is None or state != self._state:
            self._twin = None  # not both copies in memory
            self._twin = optimize_for_inference(model)
            self._state = state
        return self._twin


def _state_of(model: nn.Module) -> int | None:
    """Return a number that changes with weights and plain attributes; None if there are hooks."""
    parts: list[Any] = []
    for module in model.modules():
        if module.training or module._forward_hooks or module._forward_pre_hooks:
            return None
        for value in vars(module).values():
            if isinstance(value, int | float | str | tuple):
                parts.append(repr(value))
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                version = 0 if tensor.is_inference() else tensor._version
                parts.append((id(tensor), tensor.data_ptr(), version))
    return hash(tuple(parts))
