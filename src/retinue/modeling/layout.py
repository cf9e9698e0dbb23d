"""Whether a model may keep its tensors in channels-last order, where convolutions are fastest."""

from __future__ import annotations

import sys

from torch import nn

__all__ = ["takes_channels_last"]

_FOLLOW_ORDER = ("retinue", "torch", "torchvision", "timm")


def takes_channels_last(model: nn.Module) -> bool:
    """Say whether no part of ``model`` needs its tensors contiguous.

    Code written for detectron2 may ``view`` what a convolution or a pooler gives, which works with
    contiguous tensors only. Modules of other packages are taken for such code in programs that
    import ``detectron2``.
    """
    if "detectron2" not in sys.modules:
        return True
    return all(type(m).__module__.partition(".")[0] in _FOLLOW_ORDER for m in model.modules())
