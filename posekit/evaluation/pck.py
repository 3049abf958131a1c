"""PCK, and with it the AUC and end-point error of hands."""

from __future__ import annotations

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.evaluation import points as pts
from posekit.evaluation.base import Scores, protocol_dict
from posekit.evaluation.points import Points
from posekit.evaluation.protocol import PckProtocol
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema

_AUC_STEPS = 20


def evaluate_pck(
    truth: InstanceColumns, predictions: Poses, schema: KeypointSchema, protocol: PckProtocol
) -> Scores:
    """Return the share of keypoints nearer than each threshold times the normalising length.

    The share is the mean over keypoints of each one's share among its labelled instances, or that
    of all labelled points, as the protocol says; strictly nearer. With `auc_px` the AUC is the mean
    of the shares at i/20 of so many pixels, i = 0..19, and with `epe` comes the mean error.
    Source: mmpose 1.3.2's PCKAccuracy, JhmdbPCKAccuracy, AUC, EPE.
    """
    points = pts.join(truth, predictions, schema, protocol)
    metrics: dict[str, float] = {}
    tables: dict[str, np.ndarray] = {}
    members = pts.columns(schema, protocol.columns)
    counts = pts.count(points)
    for name, normaliser in protocol.normalisers.items():
        length = pts.lengths(points, normaliser, protocol.short_below_px)
        error = pts.normalised(points, length, needed=False)
        if (without := int((~(length > 0)).sum())) > 0:
            counts[f"instances without a length for {name}"] = without
        for threshold in protocol.thresholds:
            share = pts.shares(pts.within(error, threshold), ~np.isnan(error))
            label = f"{name}@{threshold:g}"
            tables[label] = share
            metrics[label] = _average(share, pts.within(error, threshold), error, protocol)
            if threshold == protocol.thresholds[0]:
                for column, channels in members.items():
                    metrics[f"{column} {name}"] = pts.mean(share[channels])
    headline = next(iter(metrics))
    metrics.update(_pixel_metrics(points, protocol))
    return Scores(
        metrics=metrics,
        headline=headline,
        per_keypoint=pts.keypoint_table(schema, **tables),
        protocol=protocol_dict(protocol, schema),
        counts=counts,
    )


def _average(share: np.ndarray, hit: np.ndarray, error: np.ndarray, protocol: PckProtocol) -> float:
    if protocol.average == "keypoints":
        return pts.mean(share)
    counted = ~np.isnan(error)
    return float(hit.sum() / counted.sum()) if counted.any() else float("nan")


def _pixel_metrics(points: Points, protocol: PckProtocol) -> dict[str, float]:
    error = np.where(points.labelled, points.error_px, np.nan)
    metrics = {}
    if protocol.auc_px is not None:
        metrics["AUC"] = float(
            np.mean(
                [
                    pts.mean(pts.shares(pts.within(error / protocol.auc_px, t), points.labelled))
                    for t in np.arange(_AUC_STEPS) / _AUC_STEPS
                ]
            )
        )
    if protocol.epe:
        metrics["EPE"] = pts.mean(error)
    return metrics
