"""Small models on a backbone of one convolution a level, and their inputs."""

import pytest
import torch
from torch import nn

from retinue.modeling import Backbone
from retinue.structures import BitMasks, Boxes, Instances


class Tiny(Backbone):
    """Levels p3 and p4, one convolution each, of strides 8 and 16 and 4 channels."""

    _out_features = ("p3", "p4")
    _out_feature_channels = dict.fromkeys(_out_features, 4)
    _out_feature_strides = {"p3": 8, "p4": 16}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.p3 = nn.Conv2d(3, 4, 8, stride=8)
        self.p4 = nn.Conv2d(3, 4, 16, stride=16)

    size_divisibility = 16

    def forward(self, x):
        return {"p3": self.p3(x), "p4": self.p4(x)}


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Tiny()


def image(height, width):
    """Waves of bytes, ``(3, height, width)``."""
    x = torch.arange(3 * height * width, dtype=torch.float32)
    return (127 + 100 * torch.sin(x * 0.05)).to(torch.uint8).view(3, height, width)


def instances(height, width, *, masks=False):
    """Two objects of the classes 0 and 2."""
    boxes = torch.tensor([[2.0, 3, 18, 19], [8, 6, 30, 24]])
    found = Instances((height, width), gt_boxes=Boxes(boxes), gt_classes=torch.tensor([0, 2]))
    if masks:
        y, x = torch.arange(height)[:, None, None], torch.arange(width)[:, None]
        inside = (x >= boxes[:, 0]) & (x < boxes[:, 2]) & (y >= boxes[:, 1]) & (y < boxes[:, 3])
        found.gt_masks = BitMasks(inside.permute(2, 0, 1))
    return found


def empty_instances(height, width):
    return Instances(
        (height, width), gt_boxes=Boxes([]), gt_classes=torch.zeros(0, dtype=torch.int64)
    )


@pytest.fixture
def inputs():
    """Two images, the first asked for at twice its size, the second without objects."""
    return [
        {"image": image(32, 40), "instances": instances(32, 40), "height": 64, "width": 80},
        {"image": image(24, 30), "instances": empty_instances(24, 30)},
    ]


PIXELS = {"pixel_mean": [120.0, 110.0, 100.0], "pixel_std": [60.0, 60.0, 60.0]}


@pytest.fixture
def pixels():
    return PIXELS
