"""Predictions paired with the annotations that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.evaluation.base import evaluated_rows
from posekit.poses.similarity import box_iou, exact_points
from posekit.poses.table import Poses

_LEAST_OVERLAP = 0.3


@dataclass(frozen=True)
class Pairs:
    """n predictions with their annotations.

    Attributes:
        rows: int64 (n,), rows of the predictions; truth_rows: rows of the annotations.
        true, found: float64 (n, K, 2); labelled: bool (n, K); scores: float64 (n, K).
        center, size: float64 (n, 2), long_side: float64 (n,): of the annotated box.
        by: 'instance id' or 'box overlap', how they were matched.
    """

    rows: np.ndarray
    truth_rows: np.ndarray
    true: np.ndarray
    found: np.ndarray
    labelled: np.ndarray
    scores: np.ndarray
    center: np.ndarray
    size: np.ndarray
    long_side: np.ndarray
    by: str

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray | slice) -> Pairs:
        """Return some of the pairs."""
        arrays = {name: value for name, value in vars(self).items() if name != "by"}
        return replace(self, **{name: value[rows] for name, value in arrays.items()})

    def errors(self, found: np.ndarray | None = None) -> np.ndarray:
        """float64 (n, K): distance as a share of the box's long side, NaN where not labelled."""
        offset = (self.found if found is None else found) - self.true
        distance = np.linalg.norm(offset, axis=-1) / self.long_side[:, None]
        return np.where(self.labelled, distance, np.nan)


def pair(truth: InstanceColumns, predictions: Poses, *, trust_ids: bool = False) -> Pairs:
    """Pair predictions and annotations by image and instance id, else by the overlap of boxes.

    Ids of detections are running numbers that fit annotations only by chance, so ids count only
    where the boxes fit too, or where they are to be trusted.

    Never raises: what belongs to nothing is left out, so a wrong file gives few or no pairs.
    Instances without a labelled keypoint, crowds and instances without a box are left out.
    """
    rows = evaluated_rows(truth)
    box = np.asarray(truth.box_xywh, dtype=np.float64)[rows]
    rows = rows[(np.isfinite(box) & (box[:, 2:] > 0).all(axis=1, keepdims=True)).all(axis=1)]
    found, truth_rows = _by_id(truth, predictions, rows)
    by = "instance id"
    few = len(found) < 0.5 * min(len(rows), len(predictions))
    if few or not (trust_ids or _boxes_fit(truth, predictions, found, truth_rows)):
        by_overlap = _by_overlap(truth, predictions, rows)
        if len(by_overlap[0]) > 0.5 * len(found):
            (found, truth_rows), by = by_overlap, "box overlap"
    if predictions.keypoints.shape[1] != np.asarray(truth.keypoints).shape[1]:
        found, truth_rows = found[:0], truth_rows[:0]
    points = np.asarray(predictions.keypoints)[found]
    usable = np.isfinite(points).all(axis=(1, 2))
    found, truth_rows, points = found[usable], truth_rows[usable], points[usable]
    box = np.asarray(truth.box_xywh, dtype=np.float64)[truth_rows]
    true = exact_points(np.asarray(truth.keypoints)[truth_rows])
    return Pairs(
        rows=found,
        truth_rows=truth_rows,
        true=true,
        found=points.reshape(len(found), *true.shape[1:]),
        labelled=np.asarray(truth.visibility)[truth_rows] > 0,
        scores=np.asarray(predictions.scores)[found].reshape(len(found), true.shape[1]),
        center=box[:, :2] + box[:, 2:] / 2,
        size=box[:, 2:],
        long_side=box[:, 2:].max(axis=1, initial=0.0),
        by=by,
    )


def _by_id(
    truth: InstanceColumns, predictions: Poses, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    images = np.asarray(truth.image_id)[np.asarray(truth.image_index)[rows]].tolist()
    ids = np.asarray(truth.instance_id)[rows].tolist()
    known = dict(zip(zip(images, ids, strict=True), rows.tolist(), strict=True))
    keys = zip(predictions.image_id.tolist(), predictions.instance_id.tolist(), strict=True)
    first: dict[int, int] = {}
    for i, key in enumerate(keys):
        if key in known:
            first.setdefault(known[key], i)
    return _arrays(list(first.values()), list(first))


def _by_overlap(
    truth: InstanceColumns, predictions: Poses, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each annotation the free prediction of its image whose box overlaps it most."""
    of_image: dict[object, list[int]] = {}
    for i, image in enumerate(predictions.image_id.tolist()):
        of_image.setdefault(image, []).append(i)
    images = np.asarray(truth.image_id)[np.asarray(truth.image_index)[rows]].tolist()
    found: list[int] = []
    truth_rows: list[int] = []
    taken: set[int] = set()
    for row, image in zip(rows.tolist(), images, strict=True):
        candidates = np.asarray([i for i in of_image.get(image, []) if i not in taken], np.int64)
        if not len(candidates):
            continue
        overlap = box_iou(truth.box_xywh[row][None], predictions.box_xywh[candidates])[0]
        best = int(np.argmax(overlap))
        if overlap[best] >= _LEAST_OVERLAP:
            taken.add(int(candidates[best]))
            found.append(int(candidates[best]))
            truth_rows.append(row)
    return _arrays(found, truth_rows)


def _boxes_fit(
    truth: InstanceColumns, predictions: Poses, found: np.ndarray, rows: np.ndarray
) -> bool:
    overlaps = [
        box_iou(truth.box_xywh[row][None], predictions.box_xywh[i : i + 1])[0, 0]
        for i, row in zip(found.tolist(), rows.tolist(), strict=True)
    ]
    return bool(overlaps) and float(np.quantile(overlaps, 0.1)) > _LEAST_OVERLAP


def _arrays(found: list[int], rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(found, dtype=np.int64), np.asarray(rows, dtype=np.int64)
