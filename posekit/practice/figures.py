"""What was drawn and where its keypoints ended up: points, visibility, mask, box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from posekit.practice.canvas import Canvas


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
        owners: keypoint -> parts on which it lies, each with a margin in pixels: the keypoint is
            hidden behind such a part only if it lies deeper than the part's axis by more.
        category: species or the like; empty if there is only one.
        extras: further facts (a head's box, attributes of a face).
        points_3d: float64 (K, 3), camera frame before scaling (x right, y up, z to the camera).
    """

    number: int
    names: tuple[str, ...]
    points: np.ndarray
    depths: np.ndarray
    labelled: np.ndarray
    owners: Mapping[str, Mapping[str, float]]
    category: str = ""
    extras: dict[str, list[float]] = field(default_factory=dict)
    points_3d: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))

    def point(self, name: str) -> np.ndarray:
        """Return the (x, y) of a keypoint."""
        return self.points[self.names.index(name)]


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


def label_figure(canvas: Canvas, figure: Figure) -> Label | None:
    """Read a figure's truth off the finished canvas; None if nothing of it can be seen."""
    mask = canvas.mask_of(figure.number)
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    box = (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))
    visibility = np.array(
        [_visibility(canvas, figure, row) for row in range(len(figure.names))], dtype=np.uint8
    )
    return Label(figure, visibility, mask, box)


def _visibility(canvas: Canvas, figure: Figure, row: int) -> int:
    point = figure.points[row]
    if not figure.labelled[row] or not canvas.contains(point):
        return 0
    part = canvas.top_part(point)
    if part is None:
        return 2
    margins = figure.owners.get(figure.names[row], {})
    if part.figure != figure.number or part.name not in margins:
        return 1
    behind = part.depth_at(point) - figure.depths[row]
    return 1 if behind > margins[part.name] else 2
