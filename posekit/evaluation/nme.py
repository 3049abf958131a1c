"""Normalised mean error of face landmarks, failure rates, and the area under the error curve."""

from __future__ import annotations

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.evaluation import points as pts
from posekit.evaluation.base import Scores, protocol_dict
from posekit.evaluation.points import Points
from posekit.evaluation.protocol import NmeProtocol
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema


def evaluate_nme(
    truth: InstanceColumns, predictions: Poses, schema: KeypointSchema, protocol: NmeProtocol
) -> Scores:
    """Return NME over all labelled points, FR@t and AUC@t over instances, and NME of each subset.

    AUC is the exact area under the step function "share of instances with an NME of at most e",
    from 0 to t, divided by t.
    """
    points = pts.join(truth, predictions, schema, protocol)
    error = _errors(points, protocol)
    whole = _numbers(error, protocol)
    metrics = dict(whole)
    for suffix, name in protocol.subsets.items():
        part = error[pts.of_subset(points, name)]
        values = _numbers(part, protocol) if len(part) else dict.fromkeys(whole, float("nan"))
        metrics.update({f"{key} ({suffix})": value for key, value in values.items()})
    return Scores(
        metrics=metrics,
        headline="NME",
        per_keypoint=pts.keypoint_table(
            schema, NME=np.asarray([pts.mean(error[:, k]) for k in range(len(schema))])
        ),
        protocol=protocol_dict(protocol, schema),
        counts=pts.count(points),
        lower_is_better=True,
    )


def area_under_curve(values: np.ndarray, threshold: float) -> float:
    """Exact area under the cumulative distribution of `values` up to `threshold`, in 0..1."""
    return float(np.maximum(0.0, threshold - values).mean() / threshold)


def _errors(points: Points, protocol: NmeProtocol) -> np.ndarray:
    return pts.normalised(points, pts.lengths(points, protocol.normaliser))


def _numbers(error: np.ndarray, protocol: NmeProtocol) -> dict[str, float]:
    of_instances = _of_instances(error)
    metrics = {"NME": pts.mean(error)}
    for threshold in protocol.failure_thresholds:
        metrics[f"FR@{threshold:.2f}"] = float((of_instances > threshold).mean())
    label = f"AUC@{protocol.auc_threshold:.2f}"
    metrics[label] = area_under_curve(of_instances, protocol.auc_threshold)
    return metrics


def _of_instances(error: np.ndarray) -> np.ndarray:
    labelled = ~np.isnan(error)
    return np.where(labelled, error, 0.0).sum(axis=1) / labelled.sum(axis=1)
