"""``adet._C``, AdelaiDet's extension, where it is not built: BezierAlign."""

import importlib
import math
import sys

import pytest
import torch

from retinue.compat import adet_native

MAPS = torch.linspace(-2, 3, 2 * 3 * 6 * 9, dtype=torch.float64).sin().view(2, 3, 6, 9)
# above from left to right, below from right to left: curved, and partly outside the map
CURVES = torch.tensor(
    [
        [0, 4, 4, 12, 1, 22, 1, 30, 6, 31, 18, 22, 14, 12, 13, 3, 17],
        [1, -6, 2, 9, -4, 25, -3, 44, 3, 40, 30, 25, 19, 9, 27, -3, 26],
        [1, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8],  # a point
    ],
    dtype=torch.float64,
)


@pytest.fixture
def extension(hook, monkeypatch, tmp_path):
    """``adet._C`` as a clone of AdelaiDet imports it."""
    (tmp_path / "adet").mkdir()
    (tmp_path / "adet" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    try:
        yield importlib.import_module("adet._C")
    finally:
        for name in ("adet", "adet._C"):
            sys.modules.pop(name, None)


def _curve(points, u):
    shares = [(1 - u) ** 3, 3 * u * (1 - u) ** 2, 3 * u**2 * (1 - u), u**3]
    return [sum(s * p[axis] for s, p in zip(shares, points, strict=True)) for axis in (0, 1)]


def _at(features, x, y):
    """Bilinear between the cells; nothing beyond one cell outside."""
    height, width = features.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = min(int(x), width - 1), min(int(y), height - 1)
    right, low = min(left + 1, width - 1), min(top + 1, height - 1)
    dx, dy = x - left, y - top
    upper = (1 - dx) * features[:, top, left] + dx * features[:, top, right]
    return (1 - dy) * upper + dy * (
        (1 - dx) * features[:, low, left] + dx * features[:, low, right]
    )


def _by_loops(maps, rois, scale, num_rows, num_columns, ratio, aligned):
    out = torch.zeros(len(rois), maps.shape[1], num_rows, num_columns, dtype=maps.dtype)
    for r, roi in enumerate(rois.tolist()):
        points = [(scale * roi[i], scale * roi[i + 1]) for i in range(1, 17, 2)]
        above, below = points[:4], points[:3:-1]
        sides = [
            max(abs(c[0][axis] - c[3][axis]) for c in (above, below)) for axis in (0, 1)
        ]  # width, height
        width, height = sides if aligned else (max(side, 1.0) for side in sides)
        bin_w, bin_h = width / num_columns, height / num_rows
        across = ratio if ratio > 0 else math.ceil(bin_w)
        down = ratio if ratio > 0 else math.ceil(bin_h)
        for p in range(num_rows):
            for q in range(num_columns):
                top, low = _curve(above, q / num_columns), _curve(below, q / num_columns)
                v = p / num_rows
                x, y = ((1 - v) * a + v * b - 0.5 * aligned for a, b in zip(top, low, strict=True))
                for i in range(down):
                    for j in range(across):
                        sample_x = x + ((j + 0.5) / across - 0.5) * bin_w
                        sample_y = y + ((i + 0.5) / down - 0.5) * bin_h
                        found = _at(maps[int(roi[0])], sample_x, sample_y)
                        out[r, :, p, q] += found / (across * down)
    return out


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_bezier_align_by_loops(ratio, aligned):
    options = (0.25, 2, 5, ratio, aligned)
    found = adet_native.bezier_align_forward(MAPS, CURVES, *options)

    torch.testing.assert_close(found, _by_loops(MAPS, CURVES, *options), rtol=1e-9, atol=1e-9)


def test_the_served_extension_and_its_gradient(extension):
    grad = torch.linspace(-1, 1, 3 * 3 * 2 * 5, dtype=torch.float64).view(3, 3, 2, 5)
    found = extension.bezier_align_backward(grad, CURVES, 0.25, 2, 5, 2, 3, 6, 9, 1, True)
    # pooling is linear in the features: <grad, pool(x)> == <gradient, x>
    pooled = extension.bezier_align_forward(MAPS, CURVES, 0.25, 2, 5, 1, True)

    assert extension is adet_native
    torch.testing.assert_close((found * MAPS).sum(), (grad * pooled).sum())


def test_no_regions():
    out = adet_native.bezier_align_forward(MAPS, CURVES[:0], 0.25, 2, 5, 0, True)

    assert out.shape == (0, 3, 2, 5)


def test_what_is_refused(extension):
    with pytest.raises(ValueError, match=r"rois must have shape \(R, 17\); got \(3, 6\)"):
        extension.bezier_align_forward(MAPS, CURVES[:, :6], 0.25, 2, 5, 1, True)
    with pytest.raises(ImportError, match=r"adet\._C\.ml_nms is of a compiled extension"):
        _ = extension.ml_nms
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = extension.other
