"""The first stage of R-CNN models, with torchvision's names."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from retinue.layers import ShapeSpec
from retinue.modeling.proposal_generator.rpn import RPN, StandardRPNHead
from retinue.torchvision.anchors import AnchorGenerator

__all__ = ["RPNHead", "RegionProposalNetwork"]


class RPNHead(StandardRPNHead):
    """3x3 convolutions, then one output for the score and one for the move of each anchor.

    Args:
        in_channels: channels of the feature maps.
        num_anchors: anchors at each position.
        conv_depth: how many 3x3 convolutions.
    """

    def __init__(self, in_channels: int, num_anchors: int, conv_depth: int = 1) -> None:
        super().__init__(
            in_channels=in_channels, num_anchors=num_anchors, conv_dims=(-1,) * conv_depth
        )


class RegionProposalNetwork(RPN):
    """Proposes boxes; ``head`` and ``anchor_generator`` can be replaced.

    A new :class:`AnchorGenerator` takes the strides of the backbone when it is assigned.

    Args:
        shapes: of the feature maps, by name.
        **arguments: of :class:`retinue.modeling.proposal_generator.rpn.RPN`.
    """

    def __init__(self, shapes: Mapping[str, ShapeSpec], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.shapes = dict(shapes)

    @property
    def head(self) -> nn.Module:
        """What scores and moves anchors."""
        return self.rpn_head

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "anchor_generator" and "shapes" in self.__dict__:
            is_ours = isinstance(value, AnchorGenerator)
            value = value.fit(self.shapes, "rpn.anchor_generator") if is_ours else value
        super().__setattr__("rpn_head" if name == "head" else name, value)
