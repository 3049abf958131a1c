"""PCKh in percent, with the columns of MPII's table."""

from __future__ import annotations

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.evaluation import points as pts
from posekit.evaluation.base import Scores, protocol_dict
from posekit.evaluation.protocol import PckhProtocol
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema


def evaluate_pckh(
    truth: InstanceColumns, predictions: Poses, schema: KeypointSchema, protocol: PckhProtocol
) -> Scores:
    """Return the columns at the first threshold, PCKh, and PCKh@t for the other thresholds.

    A column is the plain mean of its keypoints, or the share of their points; PCKh is the share of
    all labelled keypoints but those left out, so each keypoint weighs as much as it is labelled.
    `inclusive` is ViTPose's `<=`; mmpose 1.x takes `<`. Source: MPII evaluation in both, and for
    pooled columns mmpose 0.x's MPII-TRB evaluation.
    """
    points = pts.join(truth, predictions, schema, protocol)
    length = pts.lengths(points, protocol.normaliser) * protocol.normaliser_factor
    error = pts.normalised(points, length)
    counted = ~np.isnan(error)
    kept = np.ones(len(schema), dtype=bool)
    kept[[schema.index(name, "protocol's left_out") for name in protocol.left_out]] = False

    metrics: dict[str, float] = {}
    tables: dict[str, np.ndarray] = {}
    for threshold in protocol.thresholds:
        hit = pts.within(error, threshold, inclusive=protocol.inclusive) & counted
        share = 100 * pts.shares(hit, counted)
        is_main = threshold == protocol.thresholds[0]
        label = "PCKh" if is_main else f"PCKh@{threshold:g}"
        if is_main:
            for column, channels in pts.columns(schema, protocol.columns).items():
                pooled = _share(hit[:, channels], counted[:, channels])
                metrics[column] = pooled if protocol.pooled_columns else pts.mean(share[channels])
        metrics[label] = _share(hit[:, kept], counted[:, kept])
        tables[label] = share
    return Scores(
        metrics=metrics,
        headline="PCKh",
        per_keypoint=pts.keypoint_table(schema, **tables),
        protocol=protocol_dict(protocol, schema),
        counts=pts.count(points),
    )


def _share(hit: np.ndarray, counted: np.ndarray) -> float:
    """Percent of the counted points that are hits, NaN if none counts."""
    total = counted.sum()
    return 100 * float(hit.sum() / total) if total else float("nan")
