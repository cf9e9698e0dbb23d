"""Mask pasting, pixel by pixel; slow and obviously right."""

import math

import torch


def paste_soft(mask, box, height, width):
    """The value of ``(M, M)`` at every pixel's centre, interpolated with zeros around the mask."""
    size = mask.shape[0]
    x0, y0, x1, y1 = box.tolist()
    out = torch.zeros(height, width, dtype=mask.dtype)
    for row in range(height):
        for column in range(width):
            y = (row + 0.5 - y0) / (y1 - y0) * size - 0.5
            x = (column + 0.5 - x0) / (x1 - x0) * size - 0.5
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    if 0 <= i < size and 0 <= j < size:
                        out[row, column] += mask[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return out
