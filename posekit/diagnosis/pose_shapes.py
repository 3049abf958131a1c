"""Poses made comparable: instances of one split in frames where size and place do not matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.data.columns import InstanceColumns


@dataclass(frozen=True)
class PoseShapes:
    """n labelled instances of one split.

    Attributes:
        rows: int64 (n,), rows of the columns.
        points: float64 (n, K, 2), pixels of the image; 0 where not labelled.
        labelled: bool (n, K). visible: bool (n, K), labelled and not occluded.
        center, size: float64 (n, 2), of the box; long_side: float64 (n,), its long side.
    """

    rows: np.ndarray
    points: np.ndarray
    labelled: np.ndarray
    visible: np.ndarray
    center: np.ndarray
    size: np.ndarray
    long_side: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: np.ndarray) -> PoseShapes:
        """Return some of the instances."""
        return PoseShapes(**{name: value[which] for name, value in vars(self).items()})

    def in_box(self) -> np.ndarray:
        """float64 (n, K, 2): offset from the box's centre in long sides; NaN where not labelled."""
        offset = (self.points - self.center[:, None]) / self.long_side[:, None, None]
        return np.where(self.labelled[..., None], offset, np.nan)


def select_poses(
    columns: InstanceColumns, least: int | None = None, *, most: int = 50_000
) -> PoseShapes:
    """Return the instances that say something of poses.

    Left out are crowds, instances with fewer than `least` labelled keypoints, and those without a
    box of positive size. Of more than `most` an even selection is given.

    Args:
        columns: the split.
        least: labelled keypoints that an instance needs; by default half of them, at least two.
        most: bound on the number of instances, and so on memory (16 K bytes each).
    """
    visibility = np.asarray(columns.visibility)
    num = visibility.shape[1]
    least = max(2, -(-num // 2)) if least is None else least
    box = np.asarray(columns.box_xywh, dtype=np.float64)
    usable = np.isfinite(box).all(axis=1) & (box[:, 2:] > 0).any(axis=1)
    usable &= ~np.asarray(columns.is_crowd) & (columns.num_labelled >= least)
    rows = np.flatnonzero(usable)
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    box = box[rows]
    return PoseShapes(
        rows=rows,
        points=np.asarray(columns.keypoints)[rows].astype(np.float64),
        labelled=visibility[rows] > 0,
        visible=visibility[rows] == 2,
        center=box[:, :2] + box[:, 2:] / 2,
        size=box[:, 2:],
        long_side=box[:, 2:].max(axis=1, initial=0.0),
    )


def centred(poses: PoseShapes) -> np.ndarray:
    """float64 (n, K, 2): points about their own middle, with a root-mean-square distance of 1.

    Unlike `in_box` this needs no box; NaN where not labelled.
    """
    points = np.where(poses.labelled[..., None], poses.points, np.nan)
    points = points - np.nanmean(points, axis=1, keepdims=True)
    spread = np.sqrt(np.nanmean((points**2).sum(axis=2), axis=1))
    return points / np.maximum(spread, 1e-9)[:, None, None]


def middle_and_spread(relative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (K, 2): median of poses in a common frame; (K,): robust standard deviations."""
    low, mid, high = np.nanpercentile(relative, [16, 50, 84], axis=0)
    return mid, np.linalg.norm((high - low) / 2, axis=1)
