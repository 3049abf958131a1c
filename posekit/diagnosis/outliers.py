"""Poses and points that do not look like the rest of their split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.diagnosis.findings import Finding, instance_examples
from posekit.diagnosis.pose_shapes import PoseShapes
from posekit.schema import KeypointSchema

_ENOUGH = 50
_RIDGE = 0.02
_MOST = 20_000
_SPREADS = 6.0
_LEAST_DISTANCE = 3.0
_ROUNDS = 2
_MOST_JUDGED = 500


@dataclass(frozen=True)
class Oddness:
    """How far each pose is from the split's Gaussian.

    Attributes:
        distance: float64 (n,): Mahalanobis distance over the square root of its dimensions; about
            1 for an ordinary pose.
        worst: int64 (n,): the keypoint that fits the others of its pose least.
        worst_distance: float64 (n,): its distance from where the others expect it, in standard
            deviations.
    """

    distance: np.ndarray
    worst: np.ndarray
    worst_distance: np.ndarray


def pose_oddness(poses: PoseShapes) -> Oddness:
    """Measure each pose, in its box, against the Gaussian of all poses.

    Keypoints that are not labelled are left out of a pose's distance (the Gaussian's marginal).
    The Gaussian is fitted twice, the second time without the oddest twentieth. Cost: O(K^3) for
    each set of labelled keypoints that occurs.
    """
    relative = poses.in_box()
    count, num = relative.shape[:2]
    flat = relative.reshape(count, 2 * num)
    known = np.repeat(poses.labelled, 2, axis=1)
    keep = np.ones(count, bool)
    for _ in range(_ROUNDS):
        mean, covariance = _gaussian(flat[keep], known[keep])
        distance = _distances(flat, known, mean, covariance)
        keep = distance <= np.quantile(distance, 0.95)
    worst, worst_distance = _worst_keypoints(distance, flat, known, mean, covariance)
    return Oddness(distance, worst, worst_distance)


def outlier_findings(
    columns: InstanceColumns, poses: PoseShapes, schema: KeypointSchema
) -> Iterator[Finding]:
    """List the poses that are far from all others: misplaced points, wrong boxes, rare poses.

    Far is beyond three, and beyond six robust standard deviations of the logarithm of all
    distances.
    """
    if len(poses) < _ENOUGH or len(schema) < 2:
        return
    if len(poses) > _MOST:
        poses = poses.take(np.linspace(0, len(poses) - 1, _MOST).astype(np.int64))
    odd = pose_oddness(poses)
    logs = np.log(np.maximum(odd.distance, 1e-6))
    middle = float(np.median(logs))
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))), 0.05)
    far = np.flatnonzero((logs > middle + _SPREADS * spread) & (odd.distance > _LEAST_DISTANCE))
    if not len(far):
        return
    far = far[np.argsort(-odd.distance[far], kind="stable")]
    notes = [
        f"{odd.distance[i]:.1f}, above all {schema.keypoints[odd.worst[i]]}" for i in far.tolist()
    ]
    yield Finding(
        "pose_outliers",
        "warning" if len(far) < 0.02 * len(poses) else "error",
        f"{len(far)} of {len(poses)} poses are far from all others: usual is a distance of "
        f"{np.exp(middle):.1f}, theirs are {odd.distance[far[-1]]:.1f} to "
        f"{odd.distance[far[0]]:.1f}",
        "look at them: misplaced points, a wrong box, or a rare pose that is right",
        len(far),
        instance_examples(columns, poses.rows[far], notes),
    )


def _gaussian(flat: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of values that are partly missing, made safe to invert by a ridge."""
    weight = known.astype(np.float64)
    values = np.where(known, flat, 0.0)
    count = np.maximum(weight.sum(axis=0), 1)
    mean = values.sum(axis=0) / count
    offset = np.where(known, flat - mean, 0.0)
    pairs = weight.T @ weight
    covariance = (offset.T @ offset) / np.maximum(pairs, 1)
    covariance *= pairs / (pairs + 10)  # what few instances share counts less
    scale = float(np.mean(np.diag(covariance)))
    covariance += np.eye(len(mean)) * max(_RIDGE * scale, 1e-8)
    smallest = float(np.linalg.eigvalsh(covariance)[0])
    floor = max(0.5 * _RIDGE * scale, 1e-8)
    if smallest < floor:
        covariance += np.eye(len(mean)) * (floor - smallest)
    return mean, covariance


def _distances(
    flat: np.ndarray, known: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """float64 (n,): Mahalanobis distance over the root of the dimensions; known ones only."""
    distance = np.zeros(len(flat))
    masks, group = np.unique(known, axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(group.reshape(-1)))[:-1])
    for mask, rows in zip(masks, parts, strict=True):
        offset = (flat[rows] - mean)[:, mask]
        solved = np.linalg.solve(covariance[np.ix_(mask, mask)], offset.T)
        distance[rows] = np.sqrt(np.maximum((offset * solved.T).sum(axis=1), 0) / mask.sum())
    return distance


def _worst_keypoints(
    distance: np.ndarray,
    flat: np.ndarray,
    known: np.ndarray,
    mean: np.ndarray,
    covariance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Find, for the oddest poses, the keypoint that the others contradict most, and by how much."""
    worst, worst_distance = np.zeros(len(distance), np.int64), np.zeros(len(distance))
    for i in np.argsort(-distance)[:_MOST_JUDGED].tolist():
        places = np.flatnonzero(known[i])
        precision = np.linalg.inv(covariance[np.ix_(places, places)])
        pulled = precision @ (flat[i] - mean)[places]
        for j in range(0, len(places), 2):
            own = precision[j : j + 2, j : j + 2]
            far = float(pulled[j : j + 2] @ np.linalg.solve(own, pulled[j : j + 2]))
            if far > worst_distance[i] ** 2:
                worst[i], worst_distance[i] = places[j] // 2, np.sqrt(far)
    return worst, worst_distance
