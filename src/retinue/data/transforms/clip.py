"""Cutting polygons at a window, and tracing the outline of masks."""

import numpy as np

__all__ = ["clip_polygon", "mask_to_polygons"]


def clip_polygon(polygon: np.ndarray, window: tuple[float, float, float, float]) -> np.ndarray:
    """Return the part of a polygon inside a window.

    Sutherland and Hodgman (1974), "Reentrant polygon clipping": each side of the window in turn
    cuts off what lies beyond. Where a concave polygon falls into parts, they stay joined by edges
    along the side, which enclose nothing.

    Args:
        polygon: ``(N, 2)`` points x, y.
        window: x0, y0, x1, y1.

    Returns:
        ``(M, 2)`` float64 points, counterclockwise as seen in the image, whichever way the polygon
        went round; none if nothing is left.
    """
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    x0, y0, x1, y1 = window
    for axis, sign, bound in ((0, 1, x0), (0, -1, x1), (1, 1, y0), (1, -1, y1)):
        points = _cut(points, axis, sign * (points[:, axis] - bound), bound)
    area = _signed_area(points - points[:1]) if len(points) >= 3 else 0.0
    return points[:0] if area == 0 else points[::-1] if area > 0 else points


def _cut(points: np.ndarray, axis: int, depth: np.ndarray, bound: float) -> np.ndarray:
    """Keep where ``depth``, a point's distance into the window, is not negative."""
    if len(points) == 0 or (depth >= 0).all():
        return points
    following, next_depth = np.roll(points, -1, axis=0), np.roll(depth, -1)
    crosses = (depth >= 0) != (next_depth >= 0)
    along = np.divide(depth, depth - next_depth, out=np.zeros_like(depth), where=crosses)
    crossings = points + along[:, None] * (following - points)
    crossings[:, axis] = bound  # exactly
    both = np.stack([points, crossings], axis=1)  # each point, then the cut of the edge behind it
    kept: np.ndarray = both[np.stack([depth >= 0, crosses], axis=1)]
    return kept


def mask_to_polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Trace a mask along the edges of its pixels.

    Args:
        mask: ``(H, W)``, nonzero inside.

    Returns:
        One flat float64 array x0, y0, x1, y1, ... for each 4-connected part. A hole is reached
        over a cut that is walked in both directions, so the polygon has the area of its pixels.
    """
    loops = _boundary_loops(np.asarray(mask) != 0)
    outer = [loop for loop in loops if _signed_area(loop) > 0]
    joined = [[loop] for loop in outer]
    for hole in (loop for loop in loops if _signed_area(loop) < 0):
        around = [i for i, loop in enumerate(outer) if _contains(loop, _pixel_beside(hole))]
        owner = min(around, key=lambda i: _signed_area(outer[i]))
        joined[owner] += [outer[owner][:1], hole, hole[:1]]
    return [np.concatenate(parts).astype(np.float64).reshape(-1) for parts in joined]


def _boundary_loops(mask: np.ndarray) -> list[np.ndarray]:
    """Follow the pixel edges between inside and outside, inside to the right (y down)."""
    padded = np.pad(mask, 1).astype(np.int8)
    across, down = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for change, (dy0, dx0, dy1, dx1) in (
        (across == 1, (0, 0, 0, 1)),  # top edges, walked to the right
        (across == -1, (0, 1, 0, 0)),  # bottom edges, to the left
        (down == -1, (0, 0, 1, 0)),  # right edges, downward
        (down == 1, (1, 0, 0, 0)),  # left edges, upward
    ):
        for y, x in np.argwhere(change).tolist():
            steps.setdefault((x + dx0, y + dy0), []).append((x + dx1, y + dy1))
    loops = []
    while steps:
        start = here = next(iter(steps))
        heading = (0, 0)
        corners = []
        while True:
            there = _take_step(steps, here, heading)
            new_heading = (there[0] - here[0], there[1] - here[1])
            if new_heading != heading:
                corners.append(here)
            here, heading = there, new_heading
            if here == start:
                break
        loops.append(np.array(corners))
    return loops


def _take_step(
    steps: dict[tuple[int, int], list[tuple[int, int]]],
    here: tuple[int, int],
    heading: tuple[int, int],
) -> tuple[int, int]:
    """Remove and return the next corner; where two pixels touch at a corner, stay at the first."""
    choices = steps[here]
    right_turn = (here[0] - heading[1], here[1] + heading[0])
    there = right_turn if right_turn in choices else choices[0]
    choices.remove(there)
    if not choices:
        del steps[here]
    return there


def _signed_area(loop: np.ndarray) -> float:
    """Positive where the inside is to the right of the walk, with y pointing down."""
    x, y = loop.T.astype(np.float64)
    return float((np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _pixel_beside(loop: np.ndarray) -> np.ndarray:
    """Return the centre of a pixel of the mask that touches the first edge of the loop."""
    direction = np.sign(loop[1] - loop[0])
    right = np.array([-direction[1], direction[0]])
    center_xy: np.ndarray = loop[0] + 0.5 * direction + 0.5 * right
    return center_xy


def _contains(loop: np.ndarray, point_xy: np.ndarray) -> bool:
    """Whether a pixel centre lies in a loop, by counting the edges to the right of it."""
    x0, y0 = loop.T
    x1, y1 = np.roll(loop, -1, axis=0).T
    upright = (x0 == x1) & (x0 > point_xy[0]) & ((y0 > point_xy[1]) != (y1 > point_xy[1]))
    return bool(upright.sum() % 2)
