"""The picture of a schema: its keypoints by name, its links and sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posekit.drawing.picture_files import write_picture
from posekit.drawing.poses import draw_poses
from posekit.drawing.sheets import draw_label
from posekit.schema import KeypointSchema

_ROUNDS = 300
_APART = 1.6
_NAMED = 40


def draw_schema(
    schema: KeypointSchema, points: np.ndarray | None = None, size: int = 900
) -> np.ndarray:
    """Draw a schema's keypoints with their names (with their channels, if they are many).

    Args:
        schema: what to draw; blue is left, orange right, white the midline.
        points: (K, 2) of a pose to draw it in, on any scale; NaN where unknown. Without it a
            layout is made from links and flip pairs: a diagram, not a body.
        size: side of the picture in pixels.

    Returns:
        uint8 (size, size, 3) RGB.
    """
    shape = layout(schema) if points is None else np.asarray(points, dtype=np.float64)
    low, high = np.nanmin(shape, axis=0), np.nanmax(shape, axis=0)
    scale = 0.8 * size / max(float((high - low).max()), 1e-9)
    placed = (shape - (low + high) / 2) * scale + size / 2
    picture = np.full((size, size, 3), 70, dtype=np.uint8)
    picture = draw_poses(picture, placed, schema)
    letters = int(np.clip(size / 60, 9, 15))
    for k, name in enumerate(schema.keypoints):
        if not np.isfinite(placed[k]).all():
            continue
        text = name if len(schema) <= _NAMED else str(k)
        where = float(placed[k, 0]) + 6, float(placed[k, 1]) + 4
        picture = draw_label(picture, text, where, size=letters)
    return picture


def write_schema_picture(file: str | Path, schema: KeypointSchema) -> Path:
    """Write `draw_schema`'s picture as .png or .jpg; see `write_picture`."""
    return write_picture(file, draw_schema(schema))


def layout(schema: KeypointSchema) -> np.ndarray:
    """Return places (K, 2) at which linked keypoints are near and left and right mirror images.

    Source: stress majorisation (Gansner et al., 2004) of the distances along links, made
    symmetric after each round. The subject's left is to the viewer's right.
    """
    count = len(schema)
    wanted = _distances(schema)
    mirror = schema.flip_indices
    rng = np.random.default_rng(0)
    places = rng.normal(size=(count, 2))
    places[:, 1] += np.linspace(-2, 2, count)
    for a, b in schema.flip_pairs:
        side = 1.0 if a.startswith("left") else -1.0
        places[schema.index(a), 0], places[schema.index(b), 0] = side, -side
    weights = 1 / wanted**2
    np.fill_diagonal(weights, 0)
    for _ in range(_ROUNDS):
        difference = places[:, None] - places[None]
        distance = np.maximum(np.linalg.norm(difference, axis=2), 1e-6)
        target = places[None] + difference * (wanted / distance)[..., None]
        places = (weights[..., None] * target).sum(axis=1) / weights.sum(axis=1)[:, None].clip(1e-9)
        if schema.flip_pairs:
            places = (places + places[mirror] * [-1, 1]) / 2
        places -= [0, places[:, 1].mean()]
    return places


def _distances(schema: KeypointSchema) -> np.ndarray:
    """Return distances (K, K) along links; pairs are linked too, parts without links lie apart."""
    count = len(schema)
    steps = np.full((count, count), np.inf)
    np.fill_diagonal(steps, 0)
    for a, b in schema.flip_pairs:
        i, j = schema.index(a), schema.index(b)
        steps[i, j] = steps[j, i] = _APART
    for i, j in schema.skeleton_indices:
        steps[i, j] = steps[j, i] = 1.0
    for k in range(count):
        steps = np.minimum(steps, steps[:, k, None] + steps[None, k])
    finite = steps[np.isfinite(steps)]
    steps[~np.isfinite(steps)] = finite.max() + _APART
    np.fill_diagonal(steps, 1.0)
    return steps
