"""Columns of annotated people made in the test, and ways to spoil them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.diagnosis.findings import Finding
from posekit.diagnosis.pose_shapes import PoseShapes

WIDTH, HEIGHT = 320, 240
POSE = np.array(
    [[0.5, 0.08], [0.62, 0.25], [0.38, 0.25], [0.7, 0.5], [0.3, 0.5], [0.58, 0.95], [0.42, 0.95]]
)
KEYPOINTS = ("nose", "left_shoulder", "right_shoulder", "left_hand", "right_hand",
             "left_foot", "right_foot")  # fmt: skip
SKELETON = ((0, 1), (0, 2), (1, 3), (2, 4), (1, 5), (2, 6))


def people(count: int = 60, seed: int = 0, *, cut: bool = False, whole: bool = True, **changes):
    """Columns of people, one an image; with `cut` they stand at the borders and are cut there."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(40, 90, count)[:, None] * np.array([0.6, 1.0])
    room = np.array([WIDTH - 1, HEIGHT - 1])
    low = -0.5 * size if cut else np.full((count, 2), 5.0)
    high = room - 0.5 * size if cut else room - size - 5
    corner = rng.uniform(low, high)
    points = corner[:, None] + (POSE + rng.normal(size=(count, 7, 2)) * 0.03) * size[:, None]
    if whole:
        points = np.round(points)
    if cut:
        points = np.clip(points, 0, room)
    low, high = (np.clip(end, 0, room) if cut else end for end in (corner, corner + size))
    box = np.concatenate([low, high - low], axis=1)
    visibility = np.full((count, 7), 2, np.uint8)
    values = {
        "keypoints": points.astype(np.float32),
        "visibility": visibility,
        "box_xywh": box,
        "has_box": np.ones(count, bool),
        "area": size.prod(axis=1),
        "category_id": np.ones(count, np.int64),
        "is_crowd": np.zeros(count, bool),
        "instance_id": np.arange(count) + 1,
        "image_index": np.arange(count),
        "crop_center": np.full((count, 2), np.nan),
        "crop_size": np.full((count, 2), np.nan),
        "image_path": np.array([f"images/{i}.jpg".encode() for i in range(count)]),
        "image_id": np.arange(count),
        "image_size": np.tile(np.array([HEIGHT, WIDTH], np.int32), (count, 1)),
    }
    return InstanceColumns(**{**values, **changes})


def moved(columns: InstanceColumns, points: np.ndarray) -> InstanceColumns:
    """The same columns with other points."""
    return replace(columns, keypoints=np.asarray(points, np.float32))


def permuted(poses: PoseShapes, rows: np.ndarray, order: np.ndarray) -> PoseShapes:
    """PoseShapes of which some have their keypoints in another order."""
    arrays = {name: getattr(poses, name).copy() for name in ("points", "labelled", "visible")}
    for values in arrays.values():
        values[rows] = values[rows][:, order]
    return replace(poses, **arrays)


def names(findings) -> list[str]:
    return [finding.name for finding in findings]


def only(findings) -> Finding:
    found = list(findings)
    assert len(found) == 1, names(found)
    return found[0]


def rows_of(finding: Finding) -> list[int]:
    return [example.row for example in finding.examples]
