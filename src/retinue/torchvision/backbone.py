"""What is asked of a backbone, and what a look at it tells: its feature maps and their strides.

Shapes
    N images; C channels; H, W rows and columns of a feature map.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from retinue.layers import ShapeSpec
from retinue.modeling.backbone.backbone import Backbone
from retinue.utils.errors import InputError

__all__ = [
    "IMAGE_MEAN",
    "IMAGE_STD",
    "NamedFeatures",
    "channels_of",
    "features_of",
    "image_statistics",
    "look_at_backbone",
]

# Statistics of ImageNet's pictures, RGB in [0, 1].
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)

_PROBE_SIDES = (256, 224)  # a power of 2 tells strides exactly; some networks take only 224


def features_of(backbone: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the feature maps ``(N, C, H, W)`` by name; a single map is called ``"0"``.

    Raises:
        InputError: If the backbone returns anything else.
    """
    out = backbone(images)
    if isinstance(out, torch.Tensor):
        out = {"0": out}
    is_maps = isinstance(out, Mapping) and all(
        isinstance(x, torch.Tensor) and x.dim() == 4 for x in out.values()
    )
    if not is_maps or not out:
        raise InputError(
            "backbone: forward must return a feature map (N, C, H, W) or a dict of them;"
            f" got {_describe(out)}"
        )
    return {str(name): x for name, x in out.items()}


def channels_of(backbone: nn.Module) -> int | None:
    """Return the channels of the feature maps; None if it doesn't tell."""
    channels = getattr(backbone, "out_channels", None)
    if channels is None and isinstance(backbone, Backbone):
        shapes = {shape.channels for shape in backbone.output_shape().values()}
        channels = shapes.pop() if len(shapes) == 1 else None
    return channels if isinstance(channels, int) else None


def image_statistics(
    backbone: nn.Module, image_mean: Sequence[float] | None, image_std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Complete mean and deviation of the channels by what the backbone, or ImageNet, says."""
    of_backbone = [m for m in backbone.modules() if hasattr(m, "image_mean")]
    known = of_backbone[0] if of_backbone else None
    return (
        getattr(known, "image_mean", IMAGE_MEAN) if image_mean is None else image_mean,
        getattr(known, "image_std", IMAGE_STD) if image_std is None else image_std,
    )


def _describe(out: object) -> str:
    if isinstance(out, Mapping):
        return repr({k: tuple(x.shape) for k, x in out.items() if isinstance(x, torch.Tensor)})
    if isinstance(out, torch.Tensor):
        return f"a tensor of shape {tuple(out.shape)}"
    return type(out).__name__


@torch.no_grad()
def look_at_backbone(backbone: nn.Module, image_channels: int) -> dict[str, ShapeSpec]:
    """Run the backbone on an empty image to learn its feature maps: channels and stride by name.

    Raises:
        InputError: If it doesn't tell its channels, fails, or returns maps that don't have them.
    """
    channels = channels_of(backbone)
    if channels is None:
        raise InputError(
            "backbone: expected an attribute out_channels, the channels of its feature maps, the"
            f" same for all; got {getattr(backbone, 'out_channels', None)!r}; set"
            " backbone.out_channels"
        )
    was_training = [m for m in backbone.modules() if m.training]
    backbone.eval()
    try:
        side, maps = _probe(backbone, image_channels)
    finally:
        for module in was_training:
            module.training = True
    others = {name: x.shape[1] for name, x in maps.items() if x.shape[1] != channels}
    if others:
        raise InputError(
            f"backbone: out_channels says {channels} channels; got {others} from its forward;"
            " the heads are shared by all feature maps, so each must have out_channels"
        )
    return {name: _shape(x, side) for name, x in maps.items()}


def _probe(backbone: nn.Module, image_channels: int) -> tuple[int, dict[str, torch.Tensor]]:
    parameter = next(backbone.parameters(), torch.empty(0))
    failure: Exception | None = None
    for side in _PROBE_SIDES:
        image = parameter.new_zeros(1, image_channels, side, side)
        try:
            return side, features_of(backbone, image)
        except InputError:
            raise
        except Exception as error:  # whatever a user's module may raise
            failure = failure or error
    raise InputError(
        f"backbone: it failed on an image of {image_channels} x {_PROBE_SIDES[0]} x"
        f" {_PROBE_SIDES[0]} pixels: {failure}"
    ) from failure


def _shape(feature: torch.Tensor, side: int) -> ShapeSpec:
    """Tell the stride from the size; a map cropped by a few cells counts as its power of 2."""
    cells = max(feature.shape[-2:])
    power = 2 ** round(math.log2(side / cells))
    is_exact = side % cells == 0
    is_near = abs(side / cells / power - 1) < 0.2
    stride = side // cells if is_exact or not is_near else power
    return ShapeSpec(channels=feature.shape[1], stride=stride)


class NamedFeatures(Backbone):
    """A user's module as a :class:`Backbone`: its maps by name, their shapes known in advance.

    Args:
        body: the module.
        shapes: what :func:`look_at_backbone` says of it.
    """

    def __init__(self, body: nn.Module, shapes: Mapping[str, ShapeSpec]) -> None:
        super().__init__()
        self.body = body
        self.out_channels = channels_of(body)
        self._shapes = dict(shapes)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images ``(N, C, H, W)`` to feature maps by name."""
        return features_of(self.body, x)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each feature map."""
        return dict(self._shapes)


def describe_levels(shapes: Mapping[str, ShapeSpec]) -> str:
    """Name feature maps for an error message: ``'0' (stride 16), '1' (stride 32)``."""
    return ", ".join(f"{name!r} (stride {shape.stride})" for name, shape in shapes.items())


def check_levels(names: Sequence[str], shapes: Mapping[str, ShapeSpec], what: str) -> None:
    """Check that the backbone has the feature maps that something asks for.

    Raises:
        InputError: If one is missing.
    """
    missing = [name for name in names if name not in shapes]
    if missing or not names:
        raise InputError(
            f"{what}: expected names of feature maps among {list(shapes)}, which are"
            f" {describe_levels(shapes)}; got {list(names)}"
        )
