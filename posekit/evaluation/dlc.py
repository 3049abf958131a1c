"""What DeepLabCut reports: RMSE in pixels, and mAP/mAR by OKS with one sigma."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.evaluation import oks, pck
from posekit.evaluation import points as pts
from posekit.evaluation.base import Scores, protocol_dict
from posekit.evaluation.protocol import DlcProtocol, OksProtocol, PckProtocol
from posekit.poses.similarity import exact_points
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema


def evaluate_dlc(
    truth: InstanceColumns, predictions: Poses, schema: KeypointSchema, protocol: DlcProtocol
) -> Scores:
    """Return RMSE over labelled points, RMSE over confident ones, OKS mAP and mAR, and PCK.

    RMSE is the mean distance in pixels, which DeepLabCut calls by that name. OKS takes one sigma
    for every keypoint and the area of the labelled keypoints' box; instances with fewer than two
    labelled keypoints have no such area and are left out of mAP.
    """
    points = pts.join(truth, predictions, schema, protocol)
    error = np.where(points.labelled, points.error_px, np.nan)
    sure = np.where(points.scores >= protocol.pcutoff, error, np.nan)
    metrics = {"RMSE": pts.mean(error), "RMSE (confident)": pts.mean(sure)}
    average = oks.evaluate_oks(
        _with_keypoint_areas(truth), predictions, schema, _oks_protocol(schema, protocol)
    )
    metrics |= {"mAP": average.metrics["AP"], "mAR": average.metrics["AR"]}
    shares = pck.evaluate_pck(
        truth,
        predictions,
        schema,
        PckProtocol(thresholds=protocol.pck_thresholds, subset=protocol.subset),
    )
    metrics |= shares.metrics
    rmse = np.asarray([pts.mean(error[:, k]) for k in range(len(schema))])
    table = pts.keypoint_table(schema, RMSE=rmse)
    return Scores(
        metrics=metrics,
        headline="RMSE",
        per_keypoint={name: {**row, **shares.per_keypoint[name]} for name, row in table.items()},
        protocol=protocol_dict(protocol, schema),
        counts=pts.count(points),
        lower_is_better=True,
    )


def _oks_protocol(schema: KeypointSchema, protocol: DlcProtocol) -> OksProtocol:
    return OksProtocol(
        sigmas=(protocol.sigma,) * len(schema),
        sigmas_source=protocol.sigmas_source,
        nms="none",
        score="keypoint",
        detection_area="keypoints",
        subset=protocol.subset,
    )


def _with_keypoint_areas(truth: InstanceColumns) -> InstanceColumns:
    labelled = (np.asarray(truth.visibility) > 0)[..., None]
    points = exact_points(truth.keypoints)
    low = np.where(labelled, points, np.inf).min(axis=1)
    high = np.where(labelled, points, -np.inf).max(axis=1)
    side = np.where(np.isfinite(high - low), high - low, 0.0)
    area = side.prod(axis=1)
    # Without an area nothing can be found, so the instance is ignored rather than missed.
    visibility = np.where(area[:, None] > 0, np.asarray(truth.visibility), 0)
    return replace(truth, area=area, visibility=visibility)
