"""The heads and predictors of R-CNN models, with torchvision's names and layout.

Shapes
    R regions; C channels; S side of a pooled region, in cells; K classes, background among them
    as class 0.

A box predictor returns class logits ``(R, K)`` and box deltas ``(R, K * 4)``, a mask predictor
``(R, K, M, M)`` logits, a keypoint predictor ``(R, keypoints, H, H)`` logits; own modules that do
the same can take their places.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "FastRCNNPredictor",
    "KeypointRCNNHeads",
    "KeypointRCNNPredictor",
    "MaskRCNNHeads",
    "MaskRCNNPredictor",
    "TwoMLPHead",
]


class TwoMLPHead(nn.Module):
    """Two fully connected layers over pooled region features.

    Args:
        in_channels: numbers in a pooled region, channels times cells.
        representation_size: width of both layers.
    """

    def __init__(self, in_channels: int, representation_size: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(in_channels, representation_size)
        self.fc7 = nn.Linear(representation_size, representation_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` to ``(R, representation_size)``."""
        return F.relu(self.fc7(F.relu(self.fc6(x.flatten(1)))))


class FastRCNNPredictor(nn.Module):
    """Two linear layers: one scores classes, the other moves the box, for each class its own way.

    Args:
        in_channels: numbers a region.
        num_classes: K, background counted.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, num_classes * 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map ``(R, in_channels)`` to class logits ``(R, K)`` and box deltas ``(R, K * 4)``."""
        x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x)


class MaskRCNNHeads(nn.Sequential):
    """3x3 convolutions with ReLU.

    Args:
        in_channels: C.
        layers: output channels of each convolution.
        dilation: of all convolutions.
    """

    def __init__(self, in_channels: int, layers: Sequence[int], dilation: int = 1) -> None:
        super().__init__(
            *(
                nn.Sequential(
                    nn.Conv2d(num_in, num_out, 3, padding=dilation, dilation=dilation), nn.ReLU()
                )
                for num_in, num_out in pairwise([in_channels, *layers])
            )
        )
        _init_convs(self)


class MaskRCNNPredictor(nn.Sequential):
    """A transposed convolution that doubles the size, and a 1x1 convolution to a mask a class.

    Args:
        in_channels: C.
        dim_reduced: channels between the two.
        num_classes: K, background counted.
    """

    def __init__(self, in_channels: int, dim_reduced: int, num_classes: int) -> None:
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(in_channels, dim_reduced, 2, stride=2)
        self.relu = nn.ReLU()
        self.mask_fcn_logits = nn.Conv2d(dim_reduced, num_classes, 1)
        _init_convs(self)


class KeypointRCNNHeads(nn.Sequential):
    """3x3 convolutions with ReLU.

    Args:
        in_channels: C.
        layers: output channels of each convolution.
    """

    def __init__(self, in_channels: int, layers: Sequence[int]) -> None:
        super().__init__()
        for num_in, num_out in pairwise([in_channels, *layers]):
            self.append(nn.Conv2d(num_in, num_out, 3, padding=1))
            self.append(nn.ReLU())
        _init_convs(self)


class KeypointRCNNPredictor(nn.Module):
    """A transposed convolution to one map a keypoint, and bilinear upsampling.

    Args:
        in_channels: C.
        num_keypoints: keypoints of an object.
    """

    def __init__(self, in_channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.kps_score_lowres = nn.ConvTranspose2d(in_channels, num_keypoints, 4, 2, padding=1)
        self.up_scale = 2
        self.out_channels = num_keypoints
        _init_convs(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(R, C, S, S)`` to ``(R, num_keypoints, 4 S, 4 S)`` logits."""
        x = self.kps_score_lowres(x)
        return F.interpolate(
            x, scale_factor=float(self.up_scale), mode="bilinear", align_corners=False
        )


def _init_convs(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
