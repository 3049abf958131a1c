"""Identity holds while instances move, cross and vanish; smoothing calms and does not lag."""

from __future__ import annotations

import numpy as np
import pytest
from inference_helpers import SCHEMA_A

from posekit.poses.similarity import box_iou
from posekit.poses.table import Poses
from posekit.poses.tracking import Tracker
from posekit.schema import KeypointSchema

WITH_SIGMAS = KeypointSchema("s", SCHEMA_A.keypoints, sigmas=(0.05, 0.06, 0.06), sigmas_source="t")
SHAPE = np.array([[50.0, 20], [20, 80], [80, 80]])


def frame(places: list[float], schema: KeypointSchema = SCHEMA_A) -> Poses:
    """Instances of one frame, each shifted right by its place."""
    n = len(places)
    shift = np.array(places, dtype=float).reshape(-1, 1)
    boxes = np.concatenate([shift, np.zeros((n, 1)), np.full((n, 2), 100.0)], axis=1)
    points = SHAPE + shift[:, None] * [1, 0]
    return Poses(
        "a", schema, points, np.ones((n, 3), np.float32), boxes, np.ones(n),
        np.zeros(n, np.int64), ("f",), ((480, 640),),
    )  # fmt: skip


@pytest.mark.parametrize("schema", [SCHEMA_A, WITH_SIGMAS])
def test_moving_instances_keep_their_identity_in_any_order(schema):
    tracker = Tracker(schema)
    first = tracker.update(frame([0, 300], schema), 0, 25).track_id
    for step in range(1, 20):
        places = [5.0 * step, 300 - 5.0 * step]
        order = [1, 0] if step % 2 else [0, 1]
        ids = tracker.update(frame([places[i] for i in order], schema), step, 25).track_id
        assert ids.tolist() == [first[i] for i in order]


def test_a_new_instance_gets_a_new_identity_and_a_lost_one_returns_within_patience():
    tracker = Tracker(SCHEMA_A, patience=3)
    assert tracker.update(frame([0, 300]), 0, 25).track_id.tolist() == [1, 2]
    assert tracker.update(frame([0]), 1, 25).track_id.tolist() == [1]
    assert tracker.update(frame([300, 0]), 3, 25).track_id.tolist() == [2, 1]
    assert tracker.update(frame([]), 4, 25).track_id.tolist() == []
    assert tracker.update(frame([0]), 9, 25).track_id.tolist() == [3]


def test_smoothing_calms_a_resting_point_and_follows_a_fast_one():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (100, 1))
    tracker = Tracker(SCHEMA_A, smoothing=True)
    calm = [
        tracker.update(frame([float(n[0])]), i, 25).keypoints[0, 0, 0] for i, n in enumerate(noise)
    ]
    assert np.std(calm[20:]) < 0.6 * np.std(noise[20:])
    tracker = Tracker(SCHEMA_A, smoothing=True)
    for i in range(30):
        last = tracker.update(frame([20.0 * i]), i, 25).keypoints[0, 0, 0]
    assert abs(last - (50 + 20 * 29)) < 12


def test_the_iou_of_boxes_is_the_intersection_over_the_union():
    a = np.array([[0.0, 0, 10, 10], [20, 20, 5, 5]])
    b = np.array([[5.0, 0, 10, 10]])
    assert box_iou(a, b) == pytest.approx(np.array([[50 / 150], [0]]))
