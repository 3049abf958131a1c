"""Kinds of errors and calibration on poses whose errors are planted; sigmas from known noise."""

from __future__ import annotations

from dataclasses import replace

import eval_helpers as helpers
import numpy as np
import pytest

from posekit.diagnosis.error_types import KINDS, calibration, error_types, keypoint_kinds
from posekit.diagnosis.pairs import pair
from posekit.diagnosis.sigmas import estimate_sigmas
from posekit.errors import DatasetError
from posekit.schema import KeypointSchema

NUM = 4
SCHEMA = helpers.make_schema(NUM, 0.05)
POSE = np.asarray([[0, 0], [100, 0], [0, 100], [100, 100]], float)


def two_people():
    """Two people in one image, one beside the other."""
    points = np.stack([POSE, POSE + np.asarray((400, 0))])
    return helpers.make_truth(
        points,
        np.ones((2, NUM), bool),
        image_index=np.zeros(2, np.int64),
        image_id=np.asarray([7]),
        image_path=np.asarray([b"a"]),
        image_size=np.zeros((1, 2), np.int32),
    )


def test_each_kind_of_error_is_told():
    truth = two_people()
    points = truth.keypoints.astype(float)
    points[0, 0] += [7, 0]  # similarity exp(-49 / (2 * 0.01 * 10000)) = 0.78
    points[0, 1] = truth.keypoints[0, 0]  # the mirror partner of the same person
    points[0, 2] = truth.keypoints[1, 2]  # the same keypoint of the other person
    points[0, 3] = [200, 300]  # nothing there
    found = error_types(truth, helpers.make_predictions(points, truth), SCHEMA)
    kinds = {name: max(row, key=row.__getitem__) for name, row in one_person(found).items()}
    assert kinds == {
        "left_0": "jitter",
        "right_0": "inversion",
        "left_1": "swap",
        "right_1": "miss",
    }
    assert found.shares == pytest.approx(
        {"good": 0.5, "jitter": 0.125, "inversion": 0.125, "swap": 0.125, "miss": 0.125}
    )
    assert found.count == 8
    assert "OKS (sigmas: made in the test)" in found.text()


def one_person(found):
    """The other person is all good, so the kind of the first has the other half."""
    return {
        name: {kind: share for kind, share in row.items() if kind != "good"}
        for name, row in found.per_keypoint.items()
    }


def test_without_sigmas_a_distance_is_used_and_said():
    truth = two_people()
    plain = KeypointSchema("plain", SCHEMA.keypoints, SCHEMA.flip_pairs)
    found = error_types(
        truth, helpers.make_predictions(truth.keypoints.astype(float), truth), plain
    )
    assert found.shares["good"] == 1
    assert found.scale == "distance in tenths of the box's long side"


def test_scores_that_are_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    count = 500
    truth = helpers.make_truth(
        np.tile(POSE, (count, 1, 1)) + rng.uniform(0, 500, (count, 1, 2)),
        np.ones((count, NUM), bool),
    )
    chance = rng.uniform(0, 1, (count, NUM))
    is_right = rng.random((count, NUM)) < chance
    points = truth.keypoints + np.where(is_right, 0.0, 300.0)[..., None]
    honest = helpers.make_predictions(points, truth, scores=chance)
    boastful = replace(honest, scores=np.full((count, NUM), 0.99))
    good, bad = (calibration(truth, p, SCHEMA) for p in (honest, boastful))
    assert good.expected_error < 0.06
    assert good.ranking > 0.8
    assert bad.expected_error == pytest.approx(0.99 - is_right.mean(), abs=1e-9)
    assert bad.ranking == pytest.approx(0.5)
    slow = np.mean(
        [(a > b) + 0.5 * (a == b) for a in chance[is_right][:200] for b in chance[~is_right][:200]]
    )
    assert good.ranking == pytest.approx(slow, abs=0.06)
    assert "expected calibration error" in good.text()


def annotators(sigma: float, number: int, count: int = 400, seed: int = 0):
    rng = np.random.default_rng(seed)
    side = rng.uniform(50, 300, (count, 1, 1))
    points = rng.uniform(0, 1, (count, NUM, 2)) * side
    sigmas = sigma * np.asarray([1, 2, 3, 4])
    area = np.square(side[:, 0, 0])
    for _ in range(number):
        # d^2 = dx^2 + dy^2 has the mean sigma^2 x area
        noise = rng.normal(size=points.shape) * sigmas[:, None] / np.sqrt(2) * side
        yield helpers.make_truth(points + noise, np.ones((count, NUM), bool), area=area)


@pytest.mark.parametrize("number", [2, 3])
def test_known_sigmas_are_found_inside_their_intervals(number):
    estimate = estimate_sigmas(list(annotators(0.02, number)), SCHEMA)
    expected = 0.02 * np.asarray([1, 2, 3, 4])
    np.testing.assert_allclose(estimate.sigmas, expected, rtol=0.08)
    assert ((estimate.low < expected) & (expected < estimate.high)).all()
    assert (estimate.high - estimate.low < 0.3 * expected).all()
    assert f"from {number} annotations of 400 instances" in estimate.text()


def test_a_keypoint_that_one_annotator_left_out_has_no_sigma():
    one, two = annotators(0.02, 2, count=20)
    visibility = np.array(two.visibility)
    visibility[:, 1] = 0
    estimate = estimate_sigmas([one, replace(two, visibility=visibility)], SCHEMA)
    assert np.isnan([estimate.sigmas[1], estimate.low[1], estimate.high[1]]).all()
    assert estimate.counts.tolist() == [20, 0, 20, 20]


def test_sigmas_need_two_annotations_that_share_instances():
    one, two = annotators(0.02, 2, count=5)
    with pytest.raises(DatasetError, match="found 1, expected two or more annotations"):
        estimate_sigmas([one], SCHEMA)
    apart = replace(two, instance_id=two.instance_id + 100)
    with pytest.raises(DatasetError, match="no instance has the same image and instance id"):
        estimate_sigmas([one, apart], SCHEMA)


def test_a_keypoint_that_was_not_found_is_a_miss():
    truth = two_people()
    points = truth.keypoints.astype(float)
    points[1, 2] = np.nan
    matched = pair(truth, helpers.make_predictions(truth.keypoints.astype(float), truth))
    pairs = replace(matched, found=points)
    kind, _ = keypoint_kinds(pairs, truth, SCHEMA)
    expected = np.full((2, NUM), KINDS.index("good"))
    expected[1, 2] = KINDS.index("miss")
    assert kind.tolist() == expected.tolist()
