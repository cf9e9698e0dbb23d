"""Deformable convolution, one output at a time; slow and obviously right."""

import math


def _sample(plane, y, x):
    """Interpolate ``(C, H, W)`` at (y, x) in cells, with zeros around it."""
    value = plane.new_zeros(plane.shape[0])
    for cell_y in (math.floor(y), math.floor(y) + 1):
        for cell_x in (math.floor(x), math.floor(x) + 1):
            if 0 <= cell_y < plane.shape[1] and 0 <= cell_x < plane.shape[2]:
                share = (1 - abs(y - cell_y)) * (1 - abs(x - cell_x))
                value += share * plane[:, cell_y, cell_x]
    return value


def deform_conv(x, offset, mask, weight, bias, stride, padding, dilation, groups, deformable):
    num_out, in_per_group, kh, kw = weight.shape
    per_deformable = x.shape[1] // deformable
    out = x.new_zeros(x.shape[0], num_out, *offset.shape[2:])
    for n in range(out.shape[0]):
        for p in range(out.shape[2]):
            for q in range(out.shape[3]):
                seen = x.new_zeros(x.shape[1], kh, kw)
                for g in range(deformable):
                    channels = slice(g * per_deformable, (g + 1) * per_deformable)
                    for i in range(kh):
                        for j in range(kw):
                            tap = (g * kh + i) * kw + j
                            dy, dx = offset[n, 2 * tap : 2 * tap + 2, p, q].tolist()
                            at_y = p * stride - padding + i * dilation + dy
                            at_x = q * stride - padding + j * dilation + dx
                            value = _sample(x[n, channels], at_y, at_x)
                            seen[channels, i, j] = value * mask[n, tap, p, q]
                for d in range(num_out):
                    first = d // (num_out // groups) * in_per_group
                    part = seen[first : first + in_per_group]
                    out[n, d, p, q] = (part * weight[d]).sum() + bias[d]
    return out
