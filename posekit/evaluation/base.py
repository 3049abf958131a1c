"""The numbers of an evaluation and how predictions meet the annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from posekit.adapters.fields import id_text
from posekit.data.columns import InstanceColumns
from posekit.errors import PredictionError
from posekit.evaluation.protocol import Protocol
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema


@dataclass(frozen=True)
class Scores:
    """The numbers of one head on one split, together with the protocol that made them.

    Attributes:
        metrics: name -> value, in the order in which the reference prints them; -1 stands for an
            empty range (COCO's convention), NaN for a number that nothing was labelled for.
        headline: name of the main metric.
        per_keypoint: keypoint name -> column -> value.
        per_category: category id as text -> metric -> value; empty with one category.
        protocol: every setting that made the numbers.
        counts: how many instances, images and detections took part.
        lower_is_better: True where the headline is an error.
    """

    metrics: dict[str, float]
    headline: str
    per_keypoint: dict[str, dict[str, float]] = field(default_factory=dict)
    per_category: dict[str, dict[str, float]] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    lower_is_better: bool = False

    @property
    def value(self) -> float:
        """The headline's value."""
        return self.metrics[self.headline]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; NaN becomes None."""
        return {f.name: plain_values(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scores:
        """Rebuild scores from `to_dict`'s form."""
        known = {f.name for f in fields(cls)}
        values = {key: data[key] for key in data if key in known}
        for name in ("metrics", "per_keypoint", "per_category"):
            values[name] = _with_nan(values.get(name) or {})
        return cls(**values)


def check_poses(poses: Poses, schema: KeypointSchema) -> None:
    """Raise PredictionError unless the points fit the schema and are finite numbers."""
    if poses.keypoints.shape[1:] != (len(schema), 2):
        raise PredictionError(
            f"predictions have {poses.keypoints.shape[1]} keypoints each, but schema "
            f"'{schema.name}' has {len(schema)}; are they of another head or dataset?"
        )
    for name in ("keypoints", "scores", "box_scores"):
        finite = np.isfinite(getattr(poses, name))
        bad = np.flatnonzero(~finite.all(axis=tuple(range(1, finite.ndim))))
        if bad.size:
            raise PredictionError(
                f"prediction {bad[0]} (instance id {id_text(poses.instance_id[bad[0]])}): field "
                f"'{name}' holds NaN or infinity, expected finite numbers; "
                f"{bad.size} of {len(poses)} predictions are affected"
            )


def evaluated_rows(truth: InstanceColumns) -> np.ndarray:
    """int64: rows of the truth that a point metric counts (labelled somewhere, no crowd region)."""
    return np.flatnonzero((truth.num_labelled > 0) & ~np.asarray(truth.is_crowd))


def join_by_instance(truth: InstanceColumns, predictions: Poses) -> tuple[np.ndarray, np.ndarray]:
    """Find for every evaluated instance its prediction.

    Returns:
        int64 (n,), int64 (n,): rows of the truth (`evaluated_rows` without those that the
        predictions list as left out) and the rows of `predictions` that belong to them.

    Raises:
        PredictionError: an instance has no prediction, or an id stands for several.
    """
    rows = evaluated_rows(truth)
    true_keys = _keys(truth.image_id[truth.image_index[rows]], truth.instance_id[rows])
    if predictions.left_out:
        kept = [i for i, key in enumerate(true_keys) if key not in predictions.left_out]
        rows, true_keys = rows[kept], [true_keys[i] for i in kept]
    _refuse_repeats(true_keys, "annotated instance", truth.instance_id[rows])
    keys = _keys(predictions.image_id, predictions.instance_id)
    _refuse_repeats(keys, "prediction", predictions.instance_id)
    position = {key: i for i, key in enumerate(keys)}
    found = np.asarray([position.get(key, -1) for key in true_keys], dtype=np.int64)
    missing = np.flatnonzero(found < 0)
    if missing.size:
        first = rows[missing[0]]
        raise PredictionError(
            f"{missing.size} of {len(rows)} annotated instances have no prediction, the first is "
            f"instance {id_text(truth.instance_id[first])} in image "
            f"{id_text(truth.image_id[truth.image_index[first]])}; is it the predictions file of "
            "this split?"
        )
    return rows, found


def protocol_dict(protocol: Protocol, schema: KeypointSchema) -> dict[str, Any]:
    """Return the protocol as plain values, with the schema's sigmas and their source filled in."""
    plain = protocol.model_dump(mode="json")
    if "sigmas" in plain and plain["sigmas"] is None and schema.sigmas is not None:
        plain["sigmas"] = list(schema.sigmas)
        plain["sigmas_source"] = schema.sigmas_source
    return plain


def plain_values(value: Any) -> Any:
    """Return what JSON can hold: arrays become lists, keys text, and NaN and infinity None."""
    if isinstance(value, dict):
        return {str(k): plain_values(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain_values(value.tolist())
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def _keys(images: np.ndarray, instances: np.ndarray) -> list[tuple[Any, Any]]:
    return list(zip(np.asarray(images).tolist(), np.asarray(instances).tolist(), strict=True))


def _refuse_repeats(keys: list[Any], what: str, ids: np.ndarray) -> None:
    seen: set[Any] = set()
    for i, key in enumerate(keys):
        if key in seen:
            raise PredictionError(
                f"{what} {i}: instance id {id_text(ids[i])} appears twice in image "
                f"{id_text(key[0])}, expected each once"
            )
        seen.add(key)


def _with_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _with_nan(v) for k, v in value.items()}
    return float("nan") if value is None else value
