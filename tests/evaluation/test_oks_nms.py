"""Rescoring and OKS-NMS against slow loops."""

from __future__ import annotations

from dataclasses import replace

import eval_helpers as helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.evaluation.oks_nms import instance_scores, rank, suppress, without_repeats
from posekit.evaluation.protocol import OksProtocol

NUM = 3
SIGMAS = np.full(NUM, 0.1)


def crowd(seed: int, count: int):
    """`count` detections of a few people in two images."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 60, (3, NUM, 2))
    points = centers[rng.integers(0, 3, count)] + rng.normal(size=(count, NUM, 2)) * 4
    truth = helpers.make_truth(points, np.ones((count, NUM), bool))
    return helpers.make_predictions(
        points,
        truth,
        image_id=np.sort(rng.integers(0, 2, count)),
        box_scores=rng.permutation(count) / count,
        input_area=rng.uniform(500, 4000, count),
    )


def slow_similarity(a, b, area_a, area_b):
    total = 0.0
    for k in range(NUM):
        squared = sum((a[k, i] - b[k, i]) ** 2 for i in range(2))
        area = (area_a + area_b) / 2
        total += np.exp(-squared / (2 * area * (2 * SIGMAS[k]) ** 2))
    return total / NUM


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 12))
def test_hard_nms_drops_whatever_is_too_like_a_better_one(seed, count):
    predictions = crowd(seed, count)
    protocol = OksProtocol(nms="oks_nms", nms_threshold=0.5)
    kept: list[int] = []
    for i in np.argsort(-predictions.box_scores, kind="stable"):
        if all(
            predictions.image_id[i] != predictions.image_id[j]
            or slow_similarity(
                predictions.keypoints[i],
                predictions.keypoints[j],
                predictions.input_area[i],
                predictions.input_area[j],
            )
            <= 0.5
            for j in kept
        ):
            kept.append(int(i))
    found = suppress(predictions, predictions.box_scores, SIGMAS, protocol)
    assert found.tolist() == sorted(kept)


def test_soft_nms_changes_neither_scores_nor_the_first_twenty():
    predictions = crowd(0, 15)
    soft = rank(predictions, SIGMAS, OksProtocol(nms="soft_oks_nms", score="bbox"))
    plain = rank(predictions, SIGMAS, OksProtocol(nms="none", score="bbox"))
    np.testing.assert_array_equal(soft.score, plain.score)


def test_soft_nms_keeps_so_many_an_image_and_prefers_unlike_ones():
    predictions = crowd(1, 30)
    protocol = OksProtocol(nms="soft_oks_nms", score="bbox", nms_max_detections=4)
    ranked = rank(predictions, SIGMAS, protocol)
    _, counts = np.unique(ranked.predictions.image_id, return_counts=True)
    assert counts.tolist() == [4, 4]


def test_repeated_instances_of_an_image_are_kept_once():
    predictions = crowd(2, 6)
    predictions = helpers.changed(
        predictions,
        image_id=np.asarray([3, 1, 1, 1, 3, 3]),
        instance_id=np.asarray([9, 5, 5, 2, 9, 5]),
    )
    single = without_repeats(predictions)
    assert single.image_id.tolist() == [1, 1, 3, 3]
    assert single.instance_id.tolist() == [2, 5, 5, 9]
    np.testing.assert_array_equal(single.keypoints[1], predictions.keypoints[1])


@pytest.mark.parametrize(
    ("score", "expected"),
    [("bbox", 0.5), ("keypoint", 0.4), ("bbox_rle", 1.8), ("bbox_keypoint", 0.5 * 0.9)],
)
def test_scores_are_made_as_their_names_say(score, expected):
    predictions = crowd(3, 1)
    predictions = replace(
        predictions, scores=np.asarray([[0.9, 0.2, 0.1]]), box_scores=np.asarray([0.5])
    )
    assert instance_scores(predictions, OksProtocol(score=score)) == pytest.approx(expected)


def test_an_instance_without_a_good_keypoint_scores_zero():
    predictions = replace(crowd(4, 1), scores=np.full((1, NUM), 0.2))
    assert instance_scores(predictions, OksProtocol())[0] == 0
