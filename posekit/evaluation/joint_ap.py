"""Average precision of every keypoint on its own, as for multi-person frames of videos.

Poses are given to people by the share of their keypoints that are near enough; then each keypoint
is a detection problem of its own, ranked by keypoint scores. Source: the protocol of PoseTrack's
poseval (assignment, precision-recall curve and VOC average precision), in percent as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.evaluation import oks
from posekit.evaluation import points as pts
from posekit.evaluation.base import Scores, check_poses, evaluated_rows, protocol_dict
from posekit.evaluation.oks_nms import rank, without_repeats
from posekit.evaluation.protocol import JointApProtocol
from posekit.poses.similarity import exact_points
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema


def evaluate_joint_ap(
    truth: InstanceColumns,
    predictions: Poses,
    schema: KeypointSchema,
    protocol: JointApProtocol,
) -> Scores:
    """Return the columns' AP, AP, precision and recall in percent; with sigmas also OKS AP and AR.

    Images without any annotation are not part of the evaluation; on images whose people are all
    unlabelled every prediction is wrong. AP is the mean over the keypoints that are labelled at
    all. Equal scores keep the order of image and instance id (the reference leaves it open).

    Raises:
        ConfigError: the annotations lack the normaliser, or suppression without sigmas.
        PredictionError: a person without a normalising length, NaN, unknown images.

    Cost: O(detections x people x K) for each image.
    """
    check_poses(predictions, schema)
    official = _official(truth, predictions, schema, protocol)
    average = np.asarray(
        [_average_precision(*official.of_keypoint(k)) for k in range(len(schema))]
    ).reshape(-1, 3)
    table = {name: 100 * average[:, i] for i, name in enumerate(("AP", "Precision", "Recall"))}
    metrics = {
        column: pts.mean(table["AP"][channels])
        for column, channels in pts.columns(schema, protocol.columns).items()
    }
    metrics |= {name: pts.mean(values) for name, values in table.items()}
    counts = {
        "images": official.images,
        "instances": official.people,
        "detections": len(official.score),
    }
    if protocol.sigmas is not None or schema.sigmas is not None:
        whole = oks.evaluate_oks(truth, predictions, schema, protocol)
        metrics |= {f"OKS {name}": value for name, value in whole.metrics.items()}
    return Scores(
        metrics=metrics,
        headline="AP",
        per_keypoint=pts.keypoint_table(schema, **table, labelled=official.expected),
        protocol=protocol_dict(protocol, schema),
        counts=counts,
    )


@dataclass(frozen=True)
class _Official:
    """All keypoint detections of the evaluated images.

    Attributes:
        score: float64 (D, K); is_hit: bool (D, K).
        expected: int64 (K,), labelled keypoints of each kind.
        images, people: how many took part.
    """

    score: np.ndarray
    is_hit: np.ndarray
    expected: np.ndarray
    images: int
    people: int

    def of_keypoint(self, k: int) -> tuple[np.ndarray, int]:
        """Return the hits of one keypoint by falling score, and how many there are to find."""
        order = np.argsort(-self.score[:, k], kind="stable")
        return self.is_hit[order, k], int(self.expected[k])


def _official(
    truth: InstanceColumns,
    predictions: Poses,
    schema: KeypointSchema,
    protocol: JointApProtocol,
) -> _Official:
    oks.refuse_unknown_images(truth.image_id, predictions)
    found = _suppressed(predictions, schema, protocol)
    people = evaluated_rows(truth)
    true = exact_points(np.asarray(truth.keypoints)[people])
    labelled = np.asarray(truth.visibility)[people] > 0
    length = _lengths(truth, people, true, labelled, schema, protocol)
    annotated = np.unique(np.asarray(truth.image_id)[np.unique(truth.image_index)])
    found = found.take(np.flatnonzero(np.isin(found.image_id, annotated)))
    of_people = np.asarray(truth.image_id)[np.asarray(truth.image_index)[people]]
    # The people that count; what is found on the others is neither right nor wrong.
    chosen = np.ones(len(people), bool)
    if protocol.subset:
        chosen = pts.in_subset(truth, people, protocol.subset)
    is_hit = np.zeros(found.scores.shape, bool)
    counts = np.ones(len(found), bool)
    for rows, mine in _images(found.image_id, of_people):
        near, partner = _assign(
            found.keypoints[rows], true[mine], labelled[mine], length[mine], protocol.threshold
        )
        has = np.flatnonzero(partner >= 0)
        is_hit[rows[has]] = near[has, partner[has]]
        counts[rows[has]] = chosen[mine[partner[has]]]
    return _Official(
        found.scores[counts],
        is_hit[counts],
        labelled[chosen].sum(axis=0),
        len(annotated),
        int(chosen.sum()),
    )


def _subset(truth: InstanceColumns, people: np.ndarray, protocol: JointApProtocol) -> np.ndarray:
    """bool (n,): the people that count; what is found on the others is neither right nor wrong."""
    if not protocol.subset:
        return np.ones(len(people), bool)
    values = pts.extra_of(truth, people, protocol.subset)
    return np.isfinite(values) & (values != 0)


def _suppressed(predictions: Poses, schema: KeypointSchema, protocol: JointApProtocol) -> Poses:
    if protocol.nms == "none":
        return without_repeats(predictions)
    return rank(predictions, oks.sigmas_of(schema, protocol), protocol).predictions


def _lengths(
    truth: InstanceColumns,
    rows: np.ndarray,
    true: np.ndarray,
    labelled: np.ndarray,
    schema: KeypointSchema,
    protocol: JointApProtocol,
) -> np.ndarray:
    points = pts.Points(schema, truth, rows, true, true, labelled, np.ones(labelled.shape))
    length = pts.lengths(points, protocol.normaliser) * protocol.normaliser_factor
    pts.normalised(points, length)  # names a person without a length
    return length


def _images(found: np.ndarray, people: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return the rows of detections and of people for each image that has detections."""
    by_person = np.argsort(people, kind="stable")
    sorted_people = people[by_person]
    by_image = np.argsort(found, kind="stable")
    values, starts = np.unique(found[by_image], return_index=True)
    for value, rows in zip(values, np.split(by_image, starts[1:]), strict=True):
        first, last = (np.searchsorted(sorted_people, value, side) for side in ("left", "right"))
        yield rows, by_person[first:last]


def _assign(
    found: np.ndarray, true: np.ndarray, labelled: np.ndarray, length: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the detections of one image their people.

    Every detection goes for the person most of whose keypoints it hits, and every person takes the
    best of those that go for it; the first wins among equals, in both.

    Returns:
        bool (D, G, K): keypoints near enough; int64 (D,): each detection's person, -1 for none.
    """
    partner = np.full(len(found), -1)
    distance = np.linalg.norm(found[:, None] - true[None], axis=-1) / length[None, :, None]
    near = pts.within(distance, threshold, inclusive=True) & labelled[None]
    if not len(true):
        return near, partner
    share = near.sum(axis=2) / labelled.sum(axis=1)
    favourite = share.argmax(axis=1)
    wanted = np.where(favourite[:, None] == np.arange(len(true)), share, 0.0)
    best = wanted.argmax(axis=0)
    taken = wanted.max(axis=0) > 0
    partner[best[taken]] = np.flatnonzero(taken)
    return near, partner


def _average_precision(is_hit: np.ndarray, expected: int) -> tuple[float, float, float]:
    """Return area under the falling envelope, precision and recall; NaN if none is labelled."""
    if not expected:
        return float("nan"), float("nan"), float("nan")
    if not len(is_hit):
        return 0.0, 0.0, 0.0
    hits = np.cumsum(is_hit)
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / expected
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    average = float((np.diff(recall, prepend=0.0) * envelope).sum())
    return average, float(precision[-1]), float(recall[-1])
