"""What all point metrics share: joined truth and predictions, errors, normalising lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from posekit.adapters.fields import id_text
from posekit.data.columns import InstanceColumns
from posekit.errors import ConfigError, PredictionError
from posekit.evaluation.base import check_poses, join_by_instance
from posekit.evaluation.protocol import Normaliser, Protocol
from posekit.poses.similarity import exact_points
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema

_SAME = 1e-9


@dataclass(frozen=True)
class Points:
    """Labelled instances beside their predictions, row by row.

    Attributes:
        truth: the annotations; rows: int64 (n,), the rows of them that count.
        true, found: float64 (n, K, 2) image pixels.
        labelled: bool (n, K).
        scores: float64 (n, K): scores of the predicted keypoints.
        error_px: float64 (n, K): distances.
    """

    schema: KeypointSchema
    truth: InstanceColumns
    rows: np.ndarray
    true: np.ndarray
    found: np.ndarray
    labelled: np.ndarray
    scores: np.ndarray

    @property
    def error_px(self) -> np.ndarray:
        """float64 (n, K): distance of each prediction from the annotated point."""
        return np.sqrt(((self.found - self.true) ** 2).sum(axis=-1))

    def take(self, chosen: np.ndarray) -> Points:
        """Return some of the rows."""
        names = ("rows", "true", "found", "labelled", "scores")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


def join(
    truth: InstanceColumns, predictions: Poses, schema: KeypointSchema, protocol: Protocol
) -> Points:
    """Set every labelled instance beside its prediction.

    Raises:
        PredictionError: an instance without prediction, repeated ids, NaN, wrong number of
            keypoints, or nothing labelled at all.
    """
    check_poses(predictions, schema)
    rows, found = join_by_instance(truth, predictions)
    points = Points(
        schema=schema,
        truth=truth,
        rows=rows,
        true=exact_points(np.asarray(truth.keypoints)[rows]),
        found=predictions.keypoints[found],
        labelled=np.asarray(truth.visibility)[rows] > 0,
        scores=predictions.scores[found],
    )
    if protocol.subset:
        points = points.take(of_subset(points, protocol.subset))
    if not len(points.rows):
        raise PredictionError(
            f"nothing to score: no annotated instance has a labelled keypoint"
            f"{f' and a non-zero {protocol.subset!r}' if protocol.subset else ''}"
        )
    return points


def of_subset(points: Points, name: str) -> np.ndarray:
    """Return bool (n,), the instances whose extra `name` is neither 0 nor missing."""
    return in_subset(points.truth, points.rows, name)


def in_subset(truth: InstanceColumns, rows: np.ndarray, name: str) -> np.ndarray:
    """Return bool (n,), the rows whose extra `name` is neither 0 nor missing."""
    values = extra_of(truth, rows, name)
    return np.isfinite(values) & (values != 0)


def extra_of(truth: InstanceColumns, rows: np.ndarray, name: str) -> np.ndarray:
    """Return float64 (n,), an extra of some rows; ConfigError lists the extras that there are."""
    extras = truth.extras
    if name not in extras:
        raise ConfigError(
            f"the protocol needs the annotations' '{name}', but these annotations have only "
            f"{sorted(extras) or 'no extras'}"
        )
    return np.asarray(extras[name], dtype=np.float64)[rows]


def lengths(points: Points, normaliser: Normaliser, short_below_px: float = 0.0) -> np.ndarray:
    """Return each instance's normalising length in pixels.

    Args:
        normaliser: see `protocol.Normaliser`.
        short_below_px: a distance of two annotated keypoints below it is replaced by that of the
            two predicted ones.

    Returns:
        float64 (n,): 0 or NaN where there is no such length (the instance cannot be normalised).
    """
    if isinstance(normaliser, (int, float)):
        return np.full(len(points.rows), float(normaliser))
    if isinstance(normaliser, str):
        return _named_lengths(points, normaliser)
    a, b = (points.schema.index(name, "protocol's normaliser") for name in normaliser)
    distance = np.linalg.norm(points.true[:, a] - points.true[:, b], axis=1)
    predicted = np.linalg.norm(points.found[:, a] - points.found[:, b], axis=1)
    known = points.labelled[:, a] & points.labelled[:, b]
    distance = np.where(known | (short_below_px > 0), distance, 0.0)
    return np.where(distance < short_below_px, predicted, distance)


def _named_lengths(points: Points, name: str) -> np.ndarray:
    box = np.asarray(points.truth.box_xywh, dtype=np.float64)[points.rows]
    named = {
        "box_long_side": lambda: box[:, 2:].max(axis=1),
        "box_diagonal": lambda: np.linalg.norm(box[:, 2:], axis=1),
        "box_geometric_mean": lambda: np.sqrt(box[:, 2:].prod(axis=1)),
    }
    return named[name]() if name in named else extra_of(points.truth, points.rows, name)


def normalised(points: Points, length: np.ndarray, *, needed: bool = True) -> np.ndarray:
    """Divide the errors by each instance's length.

    Returns:
        float64 (n, K): NaN where a keypoint is not labelled or the length is 0 or missing.

    Raises:
        PredictionError: if `needed`, an instance without a usable length.
    """
    usable = np.isfinite(length) & (length > 0)
    if needed and not usable.all():
        first = points.rows[np.flatnonzero(~usable)[0]]
        raise PredictionError(
            f"{(~usable).sum()} of {len(usable)} instances have no positive normalising length, "
            f"the first is instance {id_text(points.truth.instance_id[first])}; check the box, the "
            "two keypoints or the extra that the protocol normalises by"
        )
    error = points.error_px / np.where(usable, length, 1.0)[:, None]
    return np.where(points.labelled & usable[:, None], error, np.nan)


def within(error: np.ndarray, threshold: float, *, inclusive: bool = False) -> np.ndarray:
    """Mark errors below the threshold; errors equal to it (to 1e-9) only if inclusive.

    Without the margin, an error of exactly the threshold falls on either side by the rounding of
    its last bit.
    """
    bound = threshold * (1 + _SAME) if inclusive else threshold * (1 - _SAME)
    with np.errstate(invalid="ignore"):
        return error <= bound if inclusive else error < bound


def shares(hit: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return float64 (K,), each keypoint's share of hits; NaN where none counts."""
    count = counted.sum(axis=0)
    return np.where(count > 0, (hit & counted).sum(axis=0) / np.maximum(count, 1), np.nan)


def mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def columns(schema: KeypointSchema, names: Mapping[str, tuple[str, ...]]) -> dict[str, list[int]]:
    """Turn columns of keypoint names into columns of channels; ConfigError names a wrong one."""
    return {
        column: [schema.index(name, f"protocol's column '{column}'") for name in members]
        for column, members in names.items()
    }


def keypoint_table(schema: KeypointSchema, **values: np.ndarray) -> dict[str, dict[str, float]]:
    """Turn arrays over keypoints into a table: keypoint -> column -> value."""
    return {
        name: {column: float(array[k]) for column, array in values.items()}
        for k, name in enumerate(schema.keypoints)
    }


def count(points: Points) -> dict[str, int]:
    """Count the images, instances and points that took part."""
    return {
        "images": len(np.unique(np.asarray(points.truth.image_index)[points.rows])),
        "instances": len(points.rows),
        "points": int(points.labelled.sum()),
    }
