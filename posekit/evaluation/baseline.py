"""The mean-pose baseline: the best constant pose inside the box, which sees no pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from posekit.data.index import PoseIndex
from posekit.poses.split import split_poses
from posekit.poses.table import Poses

_NEAR = 0.1


@dataclass(frozen=True)
class MeanPose:
    """One pose for every instance, placed in its box.

    Attributes:
        offsets: float64 (K, 2), offsets of the keypoints from the box's centre, in units of
            `unit`; 0 for a keypoint that the training split never labels.
        unit: 'sides' (width and height of the box) or 'long_side'.
        statistic: 'mean' or 'median' over the training split.
        training_pck: its PCK@0.1 of the box's long side on the training split, by which it was
            chosen among the four.
    """

    offsets: np.ndarray
    unit: str
    statistic: str
    training_pck: float

    @classmethod
    def fit(cls, index: PoseIndex) -> MeanPose:
        """Fit the constant pose on a training split: the best of unit x statistic.

        Raises:
            DatasetError: the split has nothing to fit on.
        """
        index.require_trainable()
        rows = np.asarray(index.trainable)
        center, size = index.crop_boxes(rows)
        points = np.asarray(index.columns.keypoints[rows], dtype=np.float64)
        labelled = np.asarray(index.columns.visibility[rows]) > 0
        candidates = [
            _fit_one(points, labelled, center, size, unit, statistic)
            for unit, statistic in product(("sides", "long_side"), ("mean", "median"))
        ]
        return max(candidates, key=lambda pose: pose.training_pck)

    def place(self, center: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Return the pose in boxes of centre and size (n, 2): float64 (n, K, 2) image pixels."""
        return center[:, None] + self.offsets[None] * _units(size, self.unit)[:, None]

    def predict(self, index: PoseIndex, like: Poses | None = None) -> Poses:
        """Predict for the boxes of `like`, or for all usable annotated boxes of `index`."""
        if like is None:
            like = annotated_boxes(index)
        box = like.box_xywh
        points = self.place(box[:, :2] + box[:, 2:] / 2, box[:, 2:])
        return replace(like, keypoints=points, scores=np.ones(points.shape[:2]))


def annotated_boxes(index: PoseIndex) -> Poses:
    """Return poses without points yet (all 0) for the usable annotated boxes of a split.

    `box_xywh` is the box that crops are made around; `left_out` names the labelled instances that
    have no usable box.
    """
    columns = index.columns
    rows = np.asarray(index.trainable)
    center, size = index.crop_boxes(rows)
    image = np.asarray(columns.image_index)
    left = np.ones(len(columns), bool)
    left[rows] = False
    left = np.flatnonzero(left & (columns.num_labelled > 0) & ~np.asarray(columns.is_crowd))
    return split_poses(
        columns,
        index.schema,
        image[rows],
        np.concatenate([center - size / 2, size], axis=1),
        instance_id=np.asarray(columns.instance_id)[rows],
        category_id=np.asarray(columns.category_id)[rows],
        input_area=size.prod(axis=1) * index.card.box.padding**2,
        left_out=frozenset(
            zip(
                np.asarray(columns.image_id)[image[left]].tolist(),
                np.asarray(columns.instance_id)[left].tolist(),
                strict=True,
            )
        ),
    )


def _fit_one(
    points: np.ndarray,
    labelled: np.ndarray,
    center: np.ndarray,
    size: np.ndarray,
    unit: str,
    statistic: str,
) -> MeanPose:
    relative = (points - center[:, None]) / _units(size, unit)[:, None]
    average = np.nanmean if statistic == "mean" else np.nanmedian
    offsets = np.zeros(points.shape[1:])
    for k in np.flatnonzero(labelled.any(axis=0)):
        offsets[k] = average(relative[labelled[:, k], k], axis=0)
    pose = MeanPose(offsets, unit, statistic, 0.0)
    error = np.linalg.norm(pose.place(center, size) - points, axis=-1)
    near = (error < _NEAR * size.max(axis=1)[:, None]) & labelled
    return replace(pose, training_pck=float(near.sum() / max(labelled.sum(), 1)))


def _units(size: np.ndarray, unit: str) -> np.ndarray:
    return size if unit == "sides" else np.repeat(size.max(axis=1, keepdims=True), 2, axis=1)
