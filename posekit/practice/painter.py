"""What painters of articulated figures share: projection, parts with depth, shaded limbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from posekit.practice.canvas import Canvas, Color, Part, capsule, tint

Task = tuple[float, Callable[[], None]]
"""A depth and what to draw there."""


class Painter:
    """Draws the parts of one figure on a canvas.

    Attributes:
        canvas: drawn upon; number: the figure's number on it.
        points_3d: name -> float64 (3,), camera frame (x right, y up, z towards the camera).
        scale: pixels for one unit of points_3d.
        flat: name -> float64 (2,), (x, y) pixels; the figure's extent is centred on `center`.
    """

    def __init__(
        self,
        canvas: Canvas,
        number: int,
        points_3d: Mapping[str, np.ndarray],
        scale: float,
        center: np.ndarray,
    ):
        self.canvas, self.number, self.points_3d, self.scale = canvas, number, points_3d, scale
        everything = np.array(list(points_3d.values()))
        middle = 0.5 * (everything.min(axis=0) + everything.max(axis=0))[:2]
        self.flat: dict[str, np.ndarray] = {
            name: np.asarray(center) + scale * (point[:2] - middle) * (1, -1)
            for name, point in points_3d.items()
        }

    def depth(self, *names: str) -> float:
        """Return the mean depth of points, in units of points_3d."""
        return float(np.mean([self.points_3d[name][2] for name in names]))

    def begin(self, name: str, start: str, end: str) -> int:
        """Register a part whose axis runs between two points and give its id."""
        a, b = self.flat[start], self.flat[end]
        depths = (self.scale * float(self.points_3d[point][2]) for point in (start, end))
        return self.canvas.begin(Part(self.number, name, (a[0], a[1]), (b[0], b[1]), *depths))

    def limb(
        self, name: str, start: str, end: str, radii: tuple[float, float], color: Color
    ) -> None:
        """Draw a tapered limb with a dark rim and a lit side; radii in units of points_3d."""
        part_id = self.begin(name, start, end)
        a, b = self.flat[start], self.flat[end]
        r0, r1 = (max(radius * self.scale, 1.0) for radius in radii)
        self.canvas.polygon(capsule(a, b, r0, r1), tint(color, 0.67), part_id)
        self.canvas.polygon(capsule(a, b, 0.81 * r0, 0.81 * r1), color)
        lit = np.array([-0.3, -0.32]) * r1
        self.canvas.polygon(capsule(a + lit, b + lit, 0.3 * r0, 0.3 * r1), tint(color, 1.15))


def paint_far_to_near(tasks: list[Task]) -> None:
    """Run drawing tasks, the deepest first; equal depths keep their order."""
    for _, task in sorted(tasks, key=lambda entry: entry[0]):
        task()
