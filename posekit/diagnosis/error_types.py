"""What kind of errors a head makes, and whether its scores mean what they say.

Source of the kinds: Ronchi and Perona, Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation, ICCV 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.diagnosis.pairs import Pairs, pair
from posekit.evaluation.tables import text_table
from posekit.poses.similarity import exact_points, keypoint_oks
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema

KINDS = ("good", "jitter", "inversion", "swap", "miss")
_GOOD, _NEAR = 0.85, 0.5
_NO_SIGMA = 0.1


@dataclass(frozen=True)
class ErrorTypes:
    """Shares of the labelled keypoints by kind.

    good: similarity of at least 0.85. jitter: 0.5 to 0.85, right place but imprecise. Below 0.5:
    inversion, if it lies on the mirror partner of the same instance; swap, if on the same keypoint
    or its partner of another instance of the image; else miss.

    Attributes:
        shares: kind -> share, adding up to 1.
        per_keypoint: keypoint -> kind -> share.
        count: labelled keypoints that were judged.
        scale: what similarity is measured by: 'OKS' with the schema's sigmas, or a distance.
    """

    shares: dict[str, float]
    per_keypoint: dict[str, dict[str, float]]
    count: int
    scale: str

    def text(self) -> str:
        """A table of all keypoints, the worst first."""
        ranked = sorted(self.per_keypoint.items(), key=lambda item: item[1]["good"])
        rows = [["all", *(f"{self.shares[kind]:.1%}" for kind in KINDS)]]
        rows += [[name, *(f"{row[kind]:.1%}" for kind in KINDS)] for name, row in ranked]
        head = f"{self.count} labelled keypoints, similarity by {self.scale}"
        return head + "\n" + text_table(["keypoint", *KINDS], rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Calibration:
    """Keypoint scores against the share of keypoints that are right (similarity at least 0.5).

    Attributes:
        bins: (lowest score, highest score, mean score, share right, count), without empty bins.
        expected_error: mean distance of score and share right, weighted by count (ECE).
        ranking: chance that a right keypoint has a higher score than a wrong one; 0.5 is blind,
            NaN if all are right or all wrong.
    """

    bins: tuple[tuple[float, float, float, float, int], ...]
    expected_error: float
    ranking: float

    def text(self) -> str:
        """A table of the bins and the two numbers."""
        rows = [
            [f"{low:.2f} to {high:.2f}", f"{mean:.3f}", f"{right:.3f}", str(count)]
            for low, high, mean, right, count in self.bins
        ]
        table = text_table(["scores", "mean score", "share right", "keypoints"], rows)
        return (
            f"{table}\nexpected calibration error {self.expected_error:.3f}, a right keypoint "
            f"scores higher than a wrong one in {self.ranking:.1%}"
        )


def error_types(
    truth: InstanceColumns,
    predictions: Poses,
    schema: KeypointSchema,
    *,
    trust_ids: bool = False,
) -> ErrorTypes:
    """Sort every labelled keypoint of the paired instances by kind of error.

    Without sigmas or areas, similarity is exp(-d^2 / 2) with d the distance in tenths of the box's
    long side; no OKS is made up. Cost: about 0.1 ms for each two instances of one image.
    """
    pairs = pair(truth, predictions, trust_ids=trust_ids)
    kind, scale = keypoint_kinds(pairs, truth, schema)
    per_keypoint = {
        name: _shares(kind[pairs.labelled[:, k], k]) for k, name in enumerate(schema.keypoints)
    }
    judged = kind[pairs.labelled]
    return ErrorTypes(_shares(judged), per_keypoint, int(judged.size), scale)


def keypoint_kinds(
    pairs: Pairs, truth: InstanceColumns, schema: KeypointSchema
) -> tuple[np.ndarray, str]:
    """Sort each keypoint of the pairs by kind of error; see `error_types`.

    Returns:
        int64 (n, K), places in KINDS (without meaning where not labelled), and what similarity is
        measured by.
    """
    similarity, scale = keypoint_similarity(pairs, truth, schema)
    kind = np.full(pairs.labelled.shape, KINDS.index("miss"))
    kind[similarity >= _NEAR] = KINDS.index("jitter")
    kind[similarity >= _GOOD] = KINDS.index("good")
    bad = similarity < _NEAR
    swap = np.array(schema.flip_indices)
    others = _nearest_other(pairs, truth, schema)
    kind[bad & (others >= _NEAR)] = KINDS.index("swap")
    partner_labelled = pairs.labelled[:, swap] & (swap != np.arange(len(swap)))
    mirror = _similarity(pairs.found, pairs.true[:, swap], pairs, truth, schema)[0]
    kind[bad & partner_labelled & (mirror >= _NEAR)] = KINDS.index("inversion")
    return kind, scale


def calibration(
    truth: InstanceColumns,
    predictions: Poses,
    schema: KeypointSchema,
    *,
    trust_ids: bool = False,
    num_bins: int = 10,
) -> Calibration:
    """Compare keypoint scores with how often the keypoints are right, in bins of equal count."""
    pairs = pair(truth, predictions, trust_ids=trust_ids)
    similarity, _ = keypoint_similarity(pairs, truth, schema)
    score, right = pairs.scores[pairs.labelled], similarity[pairs.labelled] >= _NEAR
    order = np.argsort(score, kind="stable")
    bins = []
    for part in np.array_split(order, num_bins):
        if len(part):
            s, r = score[part], right[part]
            mean, share = float(s.mean()), float(r.mean())
            bins.append((float(s.min()), float(s.max()), mean, share, len(part)))
    total = max(len(score), 1)
    expected = sum(count * abs(mean - share) for _, _, mean, share, count in bins) / total
    return Calibration(tuple(bins), float(expected), _ranking(score, right))


def keypoint_similarity(
    pairs: Pairs, truth: InstanceColumns, schema: KeypointSchema
) -> tuple[np.ndarray, str]:
    """float64 (n, K): similarity of each keypoint in 0..1, and what it is measured by."""
    return _similarity(pairs.found, pairs.true, pairs, truth, schema)


def _similarity(
    found: np.ndarray,
    true: np.ndarray,
    pairs: Pairs,
    truth: InstanceColumns,
    schema: KeypointSchema,
) -> tuple[np.ndarray, str]:
    squared = ((found - true) ** 2).sum(axis=-1)
    area = np.asarray(truth.area, dtype=np.float64)[pairs.truth_rows]
    if schema.sigmas is not None and len(pairs) and (area > 0).all():
        similarity = keypoint_oks(squared, area, np.asarray(schema.sigmas))
        return similarity, f"OKS (sigmas: {schema.sigmas_source})"
    spread = (_NO_SIGMA * pairs.long_side[:, None]) ** 2
    return np.exp(-squared / spread / 2), "distance in tenths of the box's long side"


def _nearest_other(pairs: Pairs, truth: InstanceColumns, schema: KeypointSchema) -> np.ndarray:
    """float64 (n, K): best similarity with the same or mirrored keypoint of other instances."""
    best = np.zeros(pairs.labelled.shape)
    image = np.asarray(truth.image_index)
    by_image: dict[int, np.ndarray] = {}
    order = np.argsort(image, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(image[order])) + 1):
        by_image[int(image[part[0]])] = part
    swap = np.array(schema.flip_indices)
    for i, row in enumerate(pairs.truth_rows.tolist()):
        for other in by_image[int(image[row])]:
            if other == row:
                continue
            points = exact_points(np.asarray(truth.keypoints[other]))
            labelled = np.asarray(truth.visibility[other]) > 0
            one = pairs.take(slice(i, i + 1))
            for channels in (np.arange(len(swap)), swap):
                like, _ = _similarity(one.found, points[None, channels], one, truth, schema)
                best[i] = np.maximum(best[i], np.where(labelled[channels], like[0], 0))
    return best


def _shares(kinds: np.ndarray) -> dict[str, float]:
    if not kinds.size:
        return dict.fromkeys(KINDS, float("nan"))
    return {kind: float((kinds == i).mean()) for i, kind in enumerate(KINDS)}


def _ranking(score: np.ndarray, right: np.ndarray) -> float:
    """Area under the ROC curve by ranks, equal scores counting half."""
    good, bad = int(right.sum()), int((~right).sum())
    if not good or not bad:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return float((mean_rank[inverse][right].sum() - good * (good + 1) / 2) / (good * bad))
