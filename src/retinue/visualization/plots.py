"""Line charts as SVG text, for pages that open without a network.

Charts take their colours from the page (``--ink``, ``--muted``, ``--grid``, ``--series-0`` and so
on, ``currentColor`` where a page defines none), so that they follow its light or dark scheme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["NUM_SERIES_COLORS", "Series", "line_chart", "smooth", "ticks"]

NUM_SERIES_COLORS = 8
_MAX_POINTS = 600  # more can't be seen at a chart's size


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: for the legend.
        x: ``(P,)`` positions.
        y: ``(P,)`` values; those that are not finite interrupt the line.
        color: number of the page's series colour.
        is_faint: drawn pale and left out of the legend, as the noisy original of a smooth line.
    """

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    color: int = 0
    is_faint: bool = False


def ticks(low: float, high: float, num: int = 5) -> list[float]:
    """Choose about ``num`` round values that cover an interval's inside.

    Example:
        >>> ticks(0, 1)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / num
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = min((m * magnitude for m in (1, 2, 5, 10)), key=lambda s: abs(s - raw))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def smooth(values: Sequence[float] | np.ndarray, width: int) -> np.ndarray:
    """Return the running median of ``width`` values, shorter windows at the ends."""
    values = np.asarray(values, dtype=np.float64)
    half = max(width // 2, 0)
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return np.asarray([np.median(w) for w in windows])


def _short(value: float) -> str:
    if value and abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"


def _thin(series: Series) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(series.x, dtype=np.float64), np.asarray(series.y, dtype=np.float64)
    if len(x) > _MAX_POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, _MAX_POINTS).round().astype(int))
        x, y = x[kept], y[kept]
    return x, y


def _range(values: list[np.ndarray], fixed: tuple[float, float] | None) -> tuple[float, float]:
    if fixed is not None:
        return fixed
    joined = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.zeros(0)
    if len(joined) == 0:
        return 0.0, 1.0
    low, high = float(joined.min()), float(joined.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    width: int = 420,
    height: int = 260,
) -> str:
    """Draw lines over common axes.

    Args:
        series: the lines; any may be empty.
        title: what a screen reader says of the chart.
        x_label: name of the horizontal axis.
        y_label: name of the vertical one.
        x_range: ends of the axis; by default those of the data.
        y_range: likewise; by default from 0 or the smallest value to the largest.
        width: of the drawing's coordinates; the page decides its real size.
        height: likewise.

    Returns:
        An ``<svg>`` element.
    """
    lines = [(_thin(s), s) for s in series]
    x_low, x_high = _range([x for (x, _), _ in lines], x_range)
    y_low, y_high = _range([y for (_, y), _ in lines], y_range)
    if y_range is None and y_low > 0:
        y_low = 0.0
    left, right, top, bottom = 46, width - 10, 10, height - 36

    def px(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (right - left)

    def py(y: float) -> float:
        return bottom - (y - y_low) / (y_high - y_low) * (bottom - top)

    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{html.escape(title)}" preserveAspectRatio="xMidYMid meet">'
    ]
    for value in ticks(y_low, y_high):
        y = py(value)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text x="{left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_short(value)}</text>'
        )
    for value in ticks(x_low, x_high):
        x = px(value)
        parts.append(
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_short(value)}</text>'
        )
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(
        f'<text class="name" x="{(left + right) / 2:.0f}" y="{height - 4}"'
        f' text-anchor="middle">{html.escape(x_label)}</text>'
        f'<text class="name" transform="translate(11 {(top + bottom) / 2:.0f}) rotate(-90)"'
        f' text-anchor="middle">{html.escape(y_label)}</text>'
    )
    for (xs, ys), one in lines:
        kind = "line faint" if one.is_faint else "line"
        for path in _paths(xs, ys, px, py):
            parts.append(
                f'<path class="{kind}" d="{path}"'
                f' style="stroke:var(--series-{one.color % NUM_SERIES_COLORS}, currentColor)">'
                f"<title>{html.escape(one.name)}</title></path>"
            )
    parts.append("</svg>")
    return "".join(parts)


def _paths(xs: np.ndarray, ys: np.ndarray, px, py) -> list[str]:  # type: ignore[no-untyped-def]
    """Make a path of each stretch of finite values; a lone value becomes a dot."""
    finite = np.isfinite(xs) & np.isfinite(ys)
    paths = []
    for stretch in np.split(np.arange(len(xs)), np.nonzero(np.diff(finite))[0] + 1):
        if len(stretch) and finite[stretch[0]]:
            points = [
                f"{px(x):.1f} {py(y):.1f}" for x, y in zip(xs[stretch], ys[stretch], strict=True)
            ]
            paths.append("M" + "L".join(points) + ("h0.01" if len(points) == 1 else ""))
    return paths
