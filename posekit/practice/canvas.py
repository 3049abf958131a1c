"""A picture under construction: pixels beside a buffer that knows which part covers each pixel."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_SHIFT = 4
_FIXED = float(1 << _SHIFT)
_TURN = np.linspace(0.0, 2.0 * np.pi, 20, endpoint=False)
_TURN_XY = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)

Color = tuple[float, float, float]
"""Red, green, blue from 0 to 255; values outside are clipped when drawn."""


@dataclass(frozen=True)
class FigurePart:
    """A drawn piece of a figure or object: who owns it, and how deep its axis lies.

    Attributes:
        figure: number of the figure; negative for objects, which belong to nobody.
        name: the part's name inside its figure.
        start, end: ends of the axis, (x, y) in pixels.
        start_depth, end_depth: depth there, larger is nearer to the camera.
    """

    figure: int
    name: str
    start: tuple[float, float] = (0.0, 0.0)
    end: tuple[float, float] = (0.0, 0.0)
    start_depth: float = 0.0
    end_depth: float = 0.0

    def depth_at(self, point: np.ndarray) -> float:
        """Return the depth of the axis where it passes nearest to `point`."""
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        length = dx * dx + dy * dy
        along = (point[0] - self.start[0]) * dx + (point[1] - self.start[1]) * dy
        share = min(max(along / length, 0.0), 1.0) if length > 0 else 0.5
        return self.start_depth + share * (self.end_depth - self.start_depth)


class Canvas:
    """RGB pixels and the part on top of each; what is drawn later lies in front.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        part_ids: uint16 (H, W): 1 + the position in `parts` of what is on top, 0 for background.
        parts: every part drawn so far.
    """

    def __init__(self, height: int, width: int):
        self.image: np.ndarray = np.zeros((height, width, 3), dtype=np.uint8)
        self.part_ids = np.zeros((height, width), dtype=np.uint16)
        self.parts: list[FigurePart] = []

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]

    def begin(self, part: FigurePart) -> int:
        """Register a part and give the id that its shapes are drawn with."""
        self.parts.append(part)
        return len(self.parts)

    def polygon(self, points: np.ndarray, color: Color, part_id: int = 0) -> None:
        """Fill a polygon, float (n, 2) pixels; with an id it also covers what is behind."""
        fixed = [np.rint(points * _FIXED).astype(np.int32)]
        cv2.fillPoly(self.image, fixed, color, cv2.LINE_AA, _SHIFT)
        if part_id:
            cv2.fillPoly(self.part_ids, fixed, part_id, cv2.LINE_8, _SHIFT)

    def line(self, points: np.ndarray, color: Color, thickness: int = 1) -> None:
        """Draw an open polyline, float (n, 2) pixels, as a mark on whatever is there."""
        fixed = np.rint(points * _FIXED).astype(np.int32)
        cv2.polylines(self.image, [fixed], False, color, thickness, cv2.LINE_AA, _SHIFT)

    def disc(self, center: np.ndarray, radius: float, color: Color, part_id: int = 0) -> None:
        """Fill a circle."""
        self.polygon(ellipse(center, (max(radius, 0.3),) * 2), color, part_id)

    def top_part(self, column: int, row: int) -> FigurePart | None:
        """Return the part on top at a pixel, or None for the background."""
        part_id = int(self.part_ids[row, column])
        return self.parts[part_id - 1] if part_id else None

    def mask_of(self, figure: int) -> np.ndarray:
        """Return bool (H, W): the pixels where the figure is on top."""
        mine = np.array([False, *(part.figure == figure for part in self.parts)])
        return mine[self.part_ids]


def ellipse(center: np.ndarray, radii: tuple[float, float], angle_deg: float = 0.0) -> np.ndarray:
    """Return the outline, float (20, 2), of a turned ellipse."""
    turn = np.radians(angle_deg)
    c, s = np.cos(turn), np.sin(turn)
    return (_TURN_XY * radii) @ np.array([[c, s], [-s, c]]) + center


def hull(*outlines: np.ndarray) -> np.ndarray:
    """Return the convex hull, float (n, 2), of the points of some outlines."""
    points = np.concatenate(outlines).astype(np.float32)
    return cv2.convexHull(points)[:, 0].astype(np.float64)


def capsule(start: np.ndarray, end: np.ndarray, radii: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the outline of a limb with round ends of two radii."""
    return hull(ellipse(start, (radii[0],) * 2), ellipse(end, (radii[1],) * 2))


def tint(color: Color, factor: float) -> Color:
    """Lighten (factor above 1) or darken a colour."""
    red, green, blue = (min(channel * factor, 255.0) for channel in color)
    return red, green, blue


def random_color(
    rng: np.random.Generator,
    saturation: tuple[float, float] = (0.3, 0.9),
    value: tuple[float, float] = (0.3, 0.95),
    hue: tuple[float, float] = (0.0, 1.0),
) -> Color:
    """Draw a colour with saturation, value and hue (red 0, green 1/3, blue 2/3) in the ranges."""
    turn, s, v = rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value)
    red, green, blue = colorsys.hsv_to_rgb(turn % 1.0, s, v)
    return red * 255, green * 255, blue * 255
