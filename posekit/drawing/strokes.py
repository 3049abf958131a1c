"""Anti-aliased strokes with a dark outline, and the colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[int, int, int]

LEFT: Colour = (86, 180, 233)
RIGHT: Colour = (230, 159, 0)
MIDDLE: Colour = (245, 245, 245)
TRUTH: Colour = (0, 190, 140)
ERROR: Colour = (213, 94, 0)
OUTLINE: Colour = (16, 18, 22)
PALETTE: tuple[Colour, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)
_SHIFT = 4  # fractional bits of cv2's sub-pixel coordinates


@dataclass(frozen=True)
class Brush:
    """Colour, width (of a line) or radius (of a dot) in pixels, opacity 0 to 1, dark outline."""

    colour: Colour
    width: float
    alpha: float = 1.0
    outline: bool = True


def draw_line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, brush: Brush) -> None:
    """Draw into `canvas` the part of a line that lies in it; points (2,) may be anywhere."""
    clipped = _clip(start, end, canvas.shape[:2], 2 * brush.width + 4)
    if clipped is None:
        return
    a, b = clipped
    strokes = [(brush.colour, max(1, round(brush.width)))]
    if brush.outline:
        strokes.insert(0, (OUTLINE, round(brush.width + max(2.0, 0.5 * brush.width))))

    def paint(layer: np.ndarray, origin: np.ndarray) -> None:
        ends = _fixed(a - origin), _fixed(b - origin)
        for colour, thick in strokes:
            cv2.line(layer, *ends, colour, thick, cv2.LINE_AA, _SHIFT)

    margin = brush.width + 4
    _blend(canvas, (np.minimum(a, b) - margin, np.maximum(a, b) + margin), brush.alpha, paint)


def draw_dot(canvas: np.ndarray, centre: np.ndarray, brush: Brush, ring: bool = False) -> None:
    """Draw into `canvas` a dot, or a hollow ring, around a point (2,)."""
    radius, unit = brush.width, 1 << _SHIFT
    if not _touches(centre, canvas.shape[:2], radius):
        return

    def paint(layer: np.ndarray, origin: np.ndarray) -> None:
        place = _fixed(centre - origin)
        if ring:
            thin = max(1, round(0.4 * radius))
            around = round(radius * unit)
            cv2.circle(layer, place, around, OUTLINE, thin + 2, cv2.LINE_AA, _SHIFT)
            cv2.circle(layer, place, around, brush.colour, thin, cv2.LINE_AA, _SHIFT)
        else:
            edge = round((radius + max(1.0, 0.25 * radius)) * unit)
            cv2.circle(layer, place, edge, OUTLINE, -1, cv2.LINE_AA, _SHIFT)
            cv2.circle(layer, place, round(radius * unit), brush.colour, -1, cv2.LINE_AA, _SHIFT)

    margin = 1.5 * radius + 4
    _blend(canvas, (centre - margin, centre + margin), brush.alpha, paint)


def _blend(
    canvas: np.ndarray,
    window_xy: tuple[np.ndarray, np.ndarray],
    alpha: float,
    paint: Callable[[np.ndarray, np.ndarray], None],
) -> None:
    """Let `paint(layer, origin)` draw into a window (low, high), laid on with opacity `alpha`."""
    size = np.array([canvas.shape[1], canvas.shape[0]])
    x0, y0 = np.clip(np.floor(window_xy[0]), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(window_xy[1]) + 1, 0, size).astype(int)
    if x0 >= x1 or y0 >= y1:
        return
    window = canvas[y0:y1, x0:x1]
    layer = window.copy()
    paint(layer, np.array([x0, y0], dtype=np.float64))
    window[:] = layer if alpha >= 0.995 else cv2.addWeighted(layer, alpha, window, 1 - alpha, 0)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0]) * (1 << _SHIFT)), round(float(point[1]) * (1 << _SHIFT))


def _touches(point: np.ndarray, size: tuple[int, ...], radius: float) -> bool:
    height, width = size
    x, y = point
    return bool(-radius <= x <= width + radius and -radius <= y <= height + radius)


def _clip(
    start: np.ndarray, end: np.ndarray, size: tuple[int, ...], margin: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cut a segment to the picture and a margin (Liang and Barsky); None if it lies outside."""
    step = end - start
    enter, leave = 0.0, 1.0
    for axis, extent in ((0, size[1]), (1, size[0])):
        for toward, room in (
            (-step[axis], start[axis] + margin),
            (step[axis], extent + margin - start[axis]),
        ):
            if toward == 0 and room < 0:
                return None
            if toward < 0:
                enter = max(enter, room / toward)
            elif toward > 0:
                leave = min(leave, room / toward)
    return (start + enter * step, start + leave * step) if enter <= leave else None
