"""Makes masks out of predictions."""

from retinue.projects.densepose.converters.to_mask import ToMaskConverter
from retinue.structures import BitMasks, Instances

__all__ = ["MaskFromDensePoseSampler"]


class MaskFromDensePoseSampler:
    """Takes the pixels that are predicted to belong to a body."""

    def __call__(self, instances: Instances) -> BitMasks:
        """Return masks of instances with ``pred_boxes`` and ``pred_densepose``."""
        return ToMaskConverter.convert(
            instances.pred_densepose, instances.pred_boxes, instances.image_size
        )
