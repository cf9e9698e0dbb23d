"""3x3 convolution by Winograd's algorithm: a quarter of the multiplications, for inference.

Shapes
    N images; C input and D output channels; H, W rows and columns; T tiles of 4 x 4 outputs.

Each tile of 6 x 6 inputs becomes 36 numbers a channel by a linear map; a number of the result
depends only on the same number of the input, so the convolution is 36 matrix products of (T, C)
by (C, D); another linear map makes 4 x 4 outputs of them. Lavin & Gray, "Fast Algorithms for
Convolutional Neural Networks" (2015), https://arxiv.org/abs/1509.09308. The points of the
interpolation are 0, 1, -1, 1/2, -2 and infinity: in float32 they lose some 3e-6 of the largest
output, a third of what the authors' points lose; a direct convolution loses some 5e-7.

Reading order: winograd_weight transforms the weight, once; winograd_conv3x3 does the rest.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

from retinue.utils.errors import InputError, expect_shape

__all__ = ["winograd_conv3x3", "winograd_weight"]

_OUT, _IN = 4, 6  # sides of a tile of outputs, and of the inputs it depends on
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
_TILES_AT_A_TIME = 256  # so that the intermediate results of a strip stay in the cache


@cache
def _maps() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the maps of outputs ``(4, 6)``, weights ``(6, 3)`` and inputs ``(6, 6)``, float64.

    Toom and Cook's construction: evaluate the weight's polynomial at the points, and interpolate.
    """
    points = torch.tensor(_POINTS, dtype=torch.float64)
    powers = points[:, None] ** torch.arange(_OUT)  # (5, 4); 0 ** 0 is 1
    at_infinity = torch.eye(_OUT, dtype=torch.float64)[-1:]  # the leading coefficient
    of_outputs = torch.cat((powers, at_infinity)).T

    differences = points[:, None] - points + torch.eye(len(points), dtype=torch.float64)
    leading = torch.eye(3, dtype=torch.float64)[-1:]
    of_weights = torch.cat((powers[:, :3] / differences.prod(dim=1, keepdim=True), leading))

    rows = []
    for left_out in (*range(len(points)), None):  # products of (x - point), lowest power first
        row = torch.ones(1, dtype=torch.float64)
        for index, point in enumerate(_POINTS):
            if index != left_out:
                row = F.pad(row, (1, 0)) - point * F.pad(row, (0, 1))
        rows.append(F.pad(row, (0, _IN - len(row))))
    return of_outputs, of_weights, torch.stack(rows)


def winograd_weight(weight: torch.Tensor) -> torch.Tensor:
    """Transform the weight of a convolution, ``(D, C, 3, 3)``, to ``(36, C, D)``.

    Raises:
        InputError: If the kernel isn't 3 x 3.
    """
    expect_shape("winograd_weight: weight", weight, ("D", "C", 3, 3))
    _, of_weights, _ = _maps()
    of_weights = of_weights.to(weight.device)
    transformed = torch.einsum("ai,bj,dcij->abcd", of_weights, of_weights, weight.double())
    return transformed.flatten(0, 1).to(weight.dtype).contiguous()


def winograd_conv3x3(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, relu: bool = False
) -> torch.Tensor:
    """Convolve with stride 1 and padding 1.

    It pays from about 64 channels on. There is no gradient with respect to the weight.

    Args:
        x: ``(N, C, H, W)`` float32 or float64, best in channels-last order.
        weight: ``(36, C, D)`` from ``winograd_weight``.
        bias: ``(D,)``.
        relu: set negative outputs to 0 on the way.

    Returns:
        ``(N, D, H, W)`` in channels-last order.

    Raises:
        InputError: If channels don't match.
    """
    expect_shape("winograd_conv3x3: x", x, ("N", weight.shape[1], "H", "W"))
    if x.dtype not in (torch.float32, torch.float64):
        raise InputError(f"winograd_conv3x3: x must be float32 or float64; got {x.dtype}")
    num_images, _, height, width = x.shape
    rows, columns = -(-height // _OUT), -(-width // _OUT)  # of tiles, rounded up
    right, bottom = columns * _OUT + 1 - width, rows * _OUT + 1 - height
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, right, 1, bottom))
    out = x.new_empty(num_images, rows * _OUT, columns * _OUT, weight.shape[2])
    if out.numel() == 0:
        return out[:, :height, :width].permute(0, 3, 1, 2)

    of_outputs, _, of_inputs = (m.to(x) for m in _maps())
    maps = torch.kron(of_outputs, of_outputs), torch.kron(of_inputs, of_inputs)
    images_at_a_time = max(1, _TILES_AT_A_TIME // (rows * columns))
    rows_at_a_time = max(1, _TILES_AT_A_TIME // columns)
    for image in range(0, num_images, images_at_a_time):
        for row in range(0, rows, rows_at_a_time):
            start = row * _OUT
            end = min(row + rows_at_a_time, rows) * _OUT
            images = slice(image, image + images_at_a_time)
            result = _strip(padded[images, start : end + 2], weight, *maps)
            if bias is not None:
                result += bias
            if relu:
                result.relu_()
            part = out[images, start:end]
            part = part.unflatten(1, (-1, _OUT)).unflatten(3, (-1, _OUT))
            part.copy_(result.permute(2, 3, 0, 4, 1, 5))
    return out[:, :height, :width].permute(0, 3, 1, 2)


def _strip(
    padded: torch.Tensor, weight: torch.Tensor, of_outputs: torch.Tensor, of_inputs: torch.Tensor
) -> torch.Tensor:
    """Convolve ``(n, h + 2, w + 2, C)``; h and w are multiples of 4.

    Args:
        padded: the inputs.
        weight: ``(36, C, D)``.
        of_outputs: ``(16, 36)``, from the results of a tile to its outputs.
        of_inputs: ``(36, 36)``, from the inputs of a tile to what the products take.

    Returns:
        ``(4, 4, n, h / 4, w / 4, D)``: row and column in the tile first.
    """
    tiles = padded.unfold(1, _IN, _OUT).unfold(2, _IN, _OUT)  # (n, h/4, w/4, C, 6, 6)
    num_images, rows, columns = tiles.shape[:3]
    tiles = tiles.permute(4, 5, 0, 1, 2, 3).reshape(_IN * _IN, -1)  # (36, T * C)
    inputs = (of_inputs @ tiles).view(_IN * _IN, -1, weight.shape[1])
    products = torch.bmm(inputs, weight)  # (36, T, D)
    result = of_outputs @ products.view(_IN * _IN, -1)  # (16, T * D)
    return result.view(_OUT, _OUT, num_images, rows, columns, -1)
