"""A figure: how its parts are drawn, and where its keypoints ended up (visibility, mask, box)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from posekit.practice.canvas import Canvas, Color, FigurePart, capsule, tint

Task = tuple[float, Callable[[], None]]
"""How near to the camera a part lies, and what draws it."""


@dataclass
class Figure:
    """A drawn person, animal or face.

    Attributes:
        number: its number on the canvas, from 0.
        names: names of the keypoints, in the order of the rows below.
        points: float64 (K, 2), (x, y) pixels of the picture, 0-based.
        depths: float64 (K,), larger is nearer to the camera, in pixels.
        labelled: bool (K,): False where an annotator would not label the point (hidden behind
            the figure's own head).
        owners: keypoint -> parts on which it lies, each with a margin in the figure's unit: the
            keypoint is hidden behind such a part only if it lies deeper than its axis by more.
        scale: pixels for one such unit.
        category: the official name of its category: "person" or a species.
        extras: further facts (a head's box, attributes of a face).
    """

    number: int
    names: tuple[str, ...]
    points: np.ndarray
    depths: np.ndarray
    labelled: np.ndarray
    owners: Mapping[str, Mapping[str, float]]
    scale: float
    category: str = "person"
    extras: dict[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Label:
    """A figure's truth in the finished picture.

    Attributes:
        figure: the figure.
        visibility: uint8 (K,): 0 outside the picture or not labelled, 1 hidden behind something,
            2 visible.
        mask: bool (H, W): where the figure is on top.
        box_xyxy: int (4,): first and last column and row of the mask, x0, y0, x1, y1, inclusive.
    """

    figure: Figure
    visibility: np.ndarray
    mask: np.ndarray
    box_xyxy: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        """Visible pixels of the figure."""
        return int(np.count_nonzero(self.mask))

    def select(self, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return points (K, 2) and visibility (K,) of the named keypoints, in that order."""
        rows = [self.figure.names.index(name) for name in names]
        return self.figure.points[rows], self.visibility[rows]


@dataclass(frozen=True)
class Scene:
    """A finished picture and the truth of every labelled figure in it.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        labels: one for each figure of which anything can be seen.
        crowd_mask: bool (H, W) of a crowd that is marked as a region, or None.
    """

    image: np.ndarray
    labels: list[Label]
    crowd_mask: np.ndarray | None = None


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the first and last column and row of a mask that is not empty: x0, y0, x1, y1."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def label_figure(canvas: Canvas, figure: Figure) -> Label | None:
    """Read a figure's truth off the finished canvas; None if nothing of it can be seen."""
    mask = canvas.mask_of(figure.number)
    if not mask.any():
        return None
    visibility = [_visibility(canvas, figure, row) for row in range(len(figure.names))]
    return Label(figure, np.array(visibility, dtype=np.uint8), mask, tight_box(mask))


def _visibility(canvas: Canvas, figure: Figure, row: int) -> int:
    point = figure.points[row]
    column, line = (int(value) for value in np.rint(point))
    height, width = canvas.size
    inside = 0 <= column < width and 0 <= line < height
    if not inside or not figure.labelled[row]:
        return 0
    part = canvas.top_part(column, line)
    if part is None:
        return 2
    margins = figure.owners[figure.names[row]]
    if part.figure != figure.number or part.name not in margins:
        return 1
    behind = part.depth_at(point) - figure.depths[row]
    return 1 if behind > margins[part.name] * figure.scale else 2


class Painter:
    """Draws the parts of one articulated figure on a canvas.

    Attributes:
        canvas: drawn upon; number: the figure's number on it.
        points_3d: name -> float64 (3,), camera frame (x right, y up, z towards the camera).
        head: rotation of the head; its columns are the head's left, up and front.
        scale: pixels for one unit of points_3d.
        flat: name -> float64 (2,), (x, y) pixels; the figure's extent is centred on `center`.
    """

    def __init__(
        self,
        canvas: Canvas,
        number: int,
        skeleton: tuple[dict[str, np.ndarray], np.ndarray],
        scale: float,
        center: np.ndarray,
    ):
        self.canvas, self.number, self.scale = canvas, number, scale
        self.points_3d, self.head = skeleton
        everything = np.array(list(self.points_3d.values()))
        middle = 0.5 * (everything.min(axis=0) + everything.max(axis=0))[:2]
        self.flat: dict[str, np.ndarray] = {
            name: np.asarray(center) + scale * (point[:2] - middle) * (1, -1)
            for name, point in self.points_3d.items()
        }

    def depth(self, *names: str) -> float:
        """Return the mean depth of points, in units of points_3d."""
        return float(np.mean([self.points_3d[name][2] for name in names]))

    def place(self, origin: str, frame: np.ndarray, offset: tuple[float, ...]) -> np.ndarray:
        """Return where a point at `offset` from `origin` in a part's frame falls in the picture."""
        return self.flat[origin] + self.scale * (frame @ np.array(offset))[:2] * (1, -1)

    def begin(self, name: str, start: str, end: str) -> int:
        """Register a part whose axis runs between two points and return its id."""
        a, b = self.flat[start], self.flat[end]
        depths = (self.scale * float(self.points_3d[point][2]) for point in (start, end))
        return self.canvas.begin(FigurePart(self.number, name, (a[0], a[1]), (b[0], b[1]), *depths))

    def limb(
        self, name: str, start: str, end: str, radii: tuple[float, float], color: Color
    ) -> None:
        """Draw a tapered limb with a dark rim and a lit side; radii in units of points_3d."""
        part_id = self.begin(name, start, end)
        a, b = self.flat[start], self.flat[end]
        r = np.maximum(np.multiply(radii, self.scale), 1.0)
        lit = np.array([-0.3, -0.32]) * r[1]
        self.canvas.polygon(capsule(a, b, r), tint(color, 0.67), part_id)
        self.canvas.polygon(capsule(a, b, 0.81 * r), color)
        self.canvas.polygon(capsule(a + lit, b + lit, 0.3 * r), tint(color, 1.15))

    def paint(self, tasks: list[Task]) -> None:
        """Draw parts, the far ones first."""
        for _, task in sorted(tasks, key=lambda entry: entry[0]):
            task()

    def rimmed(self, outline: np.ndarray, color: Color, part_id: int, inner: float) -> None:
        """Fill a convex outline with a dark rim; `inner` is the share that is not rim."""
        middle = outline.mean(axis=0)
        self.canvas.polygon(outline, tint(color, 0.68), part_id)
        self.canvas.polygon(middle + inner * (outline - middle), color)

    def figure(
        self,
        owners: Mapping[str, Mapping[str, float]],
        unseen: set[str],
        category: str = "person",
        extras: Mapping[str, Sequence[float]] | None = None,
    ) -> Figure:
        """Return what was drawn, with the keypoints of `owners`."""
        names = tuple(owners)
        return Figure(
            number=self.number,
            names=names,
            points=np.array([self.flat[name] for name in names]),
            depths=self.scale * np.array([self.points_3d[name][2] for name in names]),
            labelled=np.array([name not in unseen for name in names]),
            owners=owners,
            scale=self.scale,
            category=category,
            extras=dict(extras or {}),
        )
