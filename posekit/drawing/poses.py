"""Poses: colours by side, widths by size, opacity by confidence."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from posekit.drawing.strokes import ERROR, LEFT, MIDDLE, RIGHT, Brush, Colour, draw_dot, draw_line
from posekit.schema import KeypointSchema

_SIDE = re.compile(r"(?:^|_)(left|right|l|r)(?:_|$)")


@dataclass(frozen=True)
class PoseStyle:
    """How poses are drawn.

    Attributes:
        colour: one colour for all strokes; None takes the side colours of the schema.
        threshold: keypoints that score less are left out.
        width: line width in pixels; None follows each instance's size.
        ring: draw hollow rings instead of dots (ground truth under a prediction).
        links: draw the skeleton's lines.
        fade: let the score set thickness and opacity.
    """

    colour: Colour | None = None
    threshold: float = 0.0
    width: float | None = None
    ring: bool = False
    links: bool = True
    fade: bool = True


def keypoint_colours(schema: KeypointSchema) -> np.ndarray:
    """Return uint8 (K, 3): LEFT, RIGHT or MIDDLE for each keypoint.

    The side comes from a `left` or `right` in the name; in a flip pair whose names tell no side,
    the first counts as left.
    """
    side = {a: LEFT for a, _ in schema.flip_pairs} | {b: RIGHT for _, b in schema.flip_pairs}
    colours = []
    for name in schema.keypoints:
        word = _SIDE.search(name)
        if name in side and word:
            side[name] = LEFT if word[1][0] == "l" else RIGHT
        colours.append(side.get(name, MIDDLE))
    return np.array(colours, dtype=np.uint8).reshape(-1, 3)


def link_colours(schema: KeypointSchema) -> np.ndarray:
    """Return uint8 (L, 3): the side of each link; a link between the two sides is MIDDLE."""
    colours = keypoint_colours(schema)
    result = np.empty((len(schema.skeleton), 3), dtype=np.uint8)
    for row, (a, b) in enumerate(schema.skeleton_indices):
        ends = {tuple(colours[a]), tuple(colours[b])} - {MIDDLE}
        result[row] = ends.pop() if len(ends) == 1 else MIDDLE
    return result


def stroke_width(points: np.ndarray, box_xywh: np.ndarray | None = None) -> float:
    """Return the line width that suits an instance of this size and density of points.

    Args:
        points: (n, 2), the points that will be drawn.
        box_xywh: (4,), the instance's box, if known.

    Returns:
        1.5 % of the long side, at most 35 % of the usual distance between neighbours, between 1
        and 14 pixels.
    """
    sides = [np.ptp(points, axis=0).max()] if len(points) > 1 else []
    if box_xywh is not None and np.isfinite(box_xywh).all():
        sides.append(float(max(box_xywh[2:])))
    width = 0.015 * max(sides, default=150.0)
    if len(points) > 2:
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
        np.fill_diagonal(gaps, np.inf)
        width = min(width, 0.35 * float(np.median(gaps.min(axis=1))))
    return float(np.clip(width, 1.0, 14.0))


def draw_poses(
    image: np.ndarray,
    points: np.ndarray,
    schema: KeypointSchema,
    *,
    scores: np.ndarray | None = None,
    visibility: np.ndarray | None = None,
    box_xywh: np.ndarray | None = None,
    style: PoseStyle | None = None,
) -> np.ndarray:
    """Draw one or many poses of one schema.

    Args:
        image: uint8 (H, W, 3) RGB.
        points: (P, K, 2) or (K, 2) in pixels of the picture; points that are not finite are left
            out, as are points and links outside the picture.
        schema: names the links and the sides.
        scores: (P, K) or (K,), 0 to 1: fainter and thinner where the model is unsure.
        visibility: (P, K) or (K,): 0 is left out, 1 (occluded) becomes a hollow ring.
        box_xywh: (P, 4) or (4,): makes line widths follow the boxes' sizes.
        style: see PoseStyle.
    """
    style = style or PoseStyle()
    canvas = np.ascontiguousarray(image).copy()
    points = np.asarray(points, dtype=np.float64).reshape(-1, len(schema), 2)
    shape = points.shape[:2]
    sure = np.ones(shape) if scores is None else np.asarray(scores, float).reshape(shape)
    flags = np.full(shape, 2) if visibility is None else np.asarray(visibility).reshape(shape)
    shown = np.isfinite(points).all(axis=2) & (flags > 0) & ~(sure < style.threshold)
    sure = np.clip(np.nan_to_num(sure), 0.0, 1.0) if style.fade else np.ones(shape)
    boxes = [None] * len(points) if box_xywh is None else np.reshape(box_xywh, (-1, 4))
    for i, box in enumerate(boxes):
        width = style.width or stroke_width(points[i][shown[i]], box)
        pose = _Pose(points[i], shown[i], sure[i], np.asarray(flags[i]) == 1, width)
        if style.links:
            _draw_links(canvas, pose, schema, style)
        _draw_joints(canvas, pose, schema, style)
    return canvas


def draw_errors(
    image: np.ndarray, points: np.ndarray, truth: np.ndarray, visibility: np.ndarray
) -> np.ndarray:
    """Draw a thin line from each predicted point (K, 2) to its labelled truth (K, 2)."""
    canvas = np.ascontiguousarray(image).copy()
    points, truth = np.asarray(points, float), np.asarray(truth, float)
    shown = np.isfinite(points).all(axis=1) & np.isfinite(truth).all(axis=1)
    shown &= np.asarray(visibility) > 0
    width = max(1.0, 0.5 * stroke_width(truth[shown]))
    for a, b in zip(points[shown], truth[shown], strict=True):
        draw_line(canvas, a, b, Brush(ERROR, width))
    return canvas


@dataclass(frozen=True)
class _Pose:
    points: np.ndarray
    shown: np.ndarray
    sure: np.ndarray
    hollow: np.ndarray
    width: float


def _draw_links(canvas: np.ndarray, pose: _Pose, schema: KeypointSchema, style: PoseStyle) -> None:
    for (a, b), side in zip(schema.skeleton_indices, link_colours(schema), strict=True):
        if pose.shown[a] and pose.shown[b]:
            trust = min(pose.sure[a], pose.sure[b])
            width = max(1.0, pose.width * (0.5 + 0.5 * trust))
            brush = Brush(style.colour or tuple(side.tolist()), width, 0.35 + 0.65 * trust)
            draw_line(canvas, pose.points[a], pose.points[b], brush)


def _draw_joints(canvas: np.ndarray, pose: _Pose, schema: KeypointSchema, style: PoseStyle) -> None:
    colours = keypoint_colours(schema)
    for k in np.flatnonzero(pose.shown):
        radius = max(1.0, (0.6 + 0.4 * pose.sure[k]) * 1.15 * pose.width)
        brush = Brush(style.colour or tuple(colours[k].tolist()), radius, 0.4 + 0.6 * pose.sure[k])
        draw_dot(canvas, pose.points[k], brush, ring=style.ring or bool(pose.hollow[k]))
