"""Region pooling, bin by bin and sample by sample; slow and obviously right."""

import math

import torch


def bilinear(plane: torch.Tensor, y: float, x: float) -> torch.Tensor:
    """Interpolate ``(C, H, W)`` at (y, x) in cells; 0 further than a cell outside."""
    height, width = plane.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return plane.new_zeros(plane.shape[0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = y - y0, x - x0
    return (
        plane[:, y0, x0] * (1 - dy) * (1 - dx)
        + plane[:, y0, x1] * (1 - dy) * dx
        + plane[:, y1, x0] * dy * (1 - dx)
        + plane[:, y1, x1] * dy * dx
    )


def _pool(x, image, centre, size, angle, output_size, sampling_ratio):
    """Pool one region; centre and size are (x, y) in cells, the angle in radians."""
    num_rows, num_columns = output_size
    bin_w, bin_h = size[0] / num_columns, size[1] / num_rows
    num_x = sampling_ratio if sampling_ratio > 0 else max(math.ceil(bin_w), 0)
    num_y = sampling_ratio if sampling_ratio > 0 else max(math.ceil(bin_h), 0)
    out = x.new_zeros(x.shape[1], num_rows, num_columns)
    for p in range(num_rows):
        for q in range(num_columns):
            for i in range(num_y):
                for j in range(num_x):
                    v = -size[1] / 2 + p * bin_h + (i + 0.5) * bin_h / num_y
                    u = -size[0] / 2 + q * bin_w + (j + 0.5) * bin_w / num_x
                    at_y = v * math.cos(angle) - u * math.sin(angle) + centre[1]
                    at_x = v * math.sin(angle) + u * math.cos(angle) + centre[0]
                    out[:, p, q] += bilinear(x[image], at_y, at_x) / (num_x * num_y)
    return out


def roi_align(x, rois, output_size, spatial_scale, sampling_ratio, aligned):
    out = []
    for image, *corners in rois.tolist():
        offset = 0.5 if aligned else 0.0
        x0, y0, x1, y1 = (c * spatial_scale - offset for c in corners)
        size = (x1 - x0, y1 - y0) if aligned else (max(x1 - x0, 1), max(y1 - y0, 1))
        centre = (x0 + size[0] / 2, y0 + size[1] / 2)
        out.append(_pool(x, int(image), centre, size, 0.0, output_size, sampling_ratio))
    return torch.stack(out)


def roi_align_rotated(x, rois, output_size, spatial_scale, sampling_ratio):
    out = []
    for image, cx, cy, w, h, angle in rois.tolist():
        centre = (cx * spatial_scale - 0.5, cy * spatial_scale - 0.5)
        size = (w * spatial_scale, h * spatial_scale)
        turn = math.radians(angle)
        out.append(_pool(x, int(image), centre, size, turn, output_size, sampling_ratio))
    return torch.stack(out)


def roi_pool(x, rois, output_size, spatial_scale):
    def to_cell(c):
        return int(math.copysign(math.floor(abs(c * spatial_scale) + 0.5), c))

    num_rows, num_columns = output_size
    height, width = x.shape[2:]
    out = x.new_zeros(len(rois), x.shape[1], num_rows, num_columns)
    for r, (image, *corners) in enumerate(rois.tolist()):
        x0, y0, x1, y1 = map(to_cell, corners)
        bin_h, bin_w = max(y1 - y0 + 1, 1) / num_rows, max(x1 - x0 + 1, 1) / num_columns
        for p in range(num_rows):
            for q in range(num_columns):
                top = max(math.floor(p * bin_h) + y0, 0)
                left = max(math.floor(q * bin_w) + x0, 0)
                bottom = min(math.ceil((p + 1) * bin_h) + y0, height)
                right = min(math.ceil((q + 1) * bin_w) + x0, width)
                if top < bottom and left < right:
                    cells = x[int(image), :, top:bottom, left:right]
                    out[r, :, p, q] = cells.amax(dim=(1, 2))
    return out
