"""What a module says about the feature map it makes."""

from dataclasses import dataclass

__all__ = ["ShapeSpec"]


@dataclass
class ShapeSpec:
    """Shape of a feature map as far as it is known before running; unknown parts are ``None``.

    Attributes:
        channels: number of channels.
        height: rows.
        width: columns.
        stride: pixels of the network input per cell.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
