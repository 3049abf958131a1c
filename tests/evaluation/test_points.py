"""PCK, PCKh, NME and DeepLabCut's numbers against slow loops, and their guards."""

from __future__ import annotations

from dataclasses import replace

import eval_helpers as helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.errors import ConfigError, PredictionError
from posekit.evaluation.dlc import evaluate_dlc
from posekit.evaluation.nme import area_under_curve, evaluate_nme
from posekit.evaluation.pck import evaluate_pck
from posekit.evaluation.pckh import evaluate_pckh
from posekit.evaluation.protocol import (
    AucEpeProtocol,
    DlcProtocol,
    NmeProtocol,
    PckhProtocol,
    PckProtocol,
)
from posekit.poses.similarity import exact_points

NUM = 4


def problem(seed: int, count: int = 8):
    rng = np.random.default_rng(seed)
    points = np.round(rng.uniform(0, 200, (count, NUM, 2)), 2)
    labelled = rng.random((count, NUM)) < 0.8
    labelled[0] = True
    truth = helpers.make_truth(points, labelled)
    truth = replace(truth, extras={"head_size": rng.uniform(20, 60, count)})
    moved = truth.keypoints + rng.normal(size=points.shape) * 20
    return truth, helpers.make_predictions(moved, truth), helpers.make_schema(NUM)


def slow_hits(truth, predictions, length, threshold):
    hits: list[list[bool]] = [[] for _ in range(NUM)]
    for i in range(len(truth)):
        for k in range(NUM):
            if truth.visibility[i, k] > 0:
                x, y = exact_points(truth.keypoints)[i, k]
                px, py = predictions.keypoints[i, k]
                error = ((px - x) ** 2 + (py - y) ** 2) ** 0.5
                hits[k].append(error / length(i) < threshold)
    return [h for h in hits if h]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.05, 0.1, 0.2, 0.5]))
def test_pck_equals_the_slow_loop_in_both_averages(seed, threshold):
    truth, predictions, schema = problem(seed)
    hits = slow_hits(truth, predictions, lambda i: max(truth.box_xywh[i, 2:]), threshold)
    for average, expected in (
        ("keypoints", np.mean([np.mean(h) for h in hits])),
        ("points", np.mean([v for h in hits for v in h])),
    ):
        protocol = PckProtocol(thresholds=(threshold,), average=average)
        scores = evaluate_pck(truth, predictions, schema, protocol)
        assert scores.value == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_pckh_is_the_share_of_all_points_but_those_left_out(seed):
    truth, predictions, schema = problem(seed)
    hits = slow_hits(truth, predictions, lambda i: truth.extras["head_size"][i], 0.5)
    protocol = PckhProtocol(left_out=(schema.keypoints[1],))
    scores = evaluate_pckh(truth, predictions, schema, protocol)
    if len(hits) == NUM:
        flat = [v for k, h in enumerate(hits) if k != 1 for v in h]
        assert scores.metrics["PCKh"] == pytest.approx(100 * np.mean(flat), abs=1e-9)


def test_pck_by_torso_and_by_head_equals_the_slow_loop():
    truth, predictions, schema = problem(8)
    truth = replace(truth, visibility=np.full_like(truth.visibility, 2))
    names, true = schema.keypoints, exact_points(truth.keypoints)
    normalisers = {"tPCK": (names[0], names[3]), "PCKh": "head_size"}
    protocol = PckProtocol(normalisers=normalisers, thresholds=(0.5,))
    found = evaluate_pck(truth, predictions, schema, protocol).metrics
    lengths = {
        "tPCK@0.5": lambda i: np.hypot(*(true[i, 0] - true[i, 3])),
        "PCKh@0.5": lambda i: truth.extras["head_size"][i],
    }
    for name, length in lengths.items():
        hits = slow_hits(truth, predictions, length, 0.5)
        assert found[name] == pytest.approx(np.mean([np.mean(h) for h in hits]))
    assert found["tPCK@0.5"] != found["PCKh@0.5"]


def test_pooled_columns_weigh_every_point_and_errors_at_the_threshold_may_be_wrong():
    """MPII-TRB: a column is the share of its points, strictly within the threshold."""
    truth, predictions, schema = problem(5)
    truth = replace(truth, extras={"head_size": np.full(len(truth), 20.0)})
    predictions = replace(
        predictions, keypoints=exact_points(truth.keypoints) + np.array([10.0, 0.0])
    )
    names = schema.keypoints
    protocol = PckhProtocol(pooled_columns=True, columns={"a": names[:3]}, thresholds=(0.5,))
    assert evaluate_pckh(truth, predictions, schema, protocol).metrics["a"] == 100
    strict = protocol.model_copy(update={"inclusive": False})
    assert evaluate_pckh(truth, predictions, schema, strict).metrics["a"] == 0
    near = np.arange(len(truth)) % 3 == 0
    points = np.where(near[:, None, None], exact_points(truth.keypoints), predictions.keypoints)
    half = replace(predictions, keypoints=points)
    labelled = truth.visibility[:, :3] > 0
    expected = 100 * labelled[near].sum() / labelled.sum()
    assert evaluate_pckh(truth, half, schema, strict).metrics["a"] == pytest.approx(expected)


def test_the_area_under_the_curve_equals_a_fine_integration():
    values = np.asarray([0.01, 0.03, 0.03, 0.08, 0.5])
    grid = (np.arange(10_000) + 0.5) / 10_000 * 0.1
    curve = [(values <= e).mean() for e in grid]
    assert area_under_curve(values, 0.1) == pytest.approx(np.mean(curve), abs=1e-3)


def test_nme_has_a_number_for_every_subset():
    truth, predictions, schema = problem(2)
    is_blurred = np.asarray([1.0, 0, 0, 1, 0, 0, 0, 0])
    truth = replace(truth, extras={"blur": is_blurred, "pose": np.zeros(8)})
    protocol = NmeProtocol(normaliser=100.0, subsets={"blur": "blur", "pose": "pose"})
    scores = evaluate_nme(truth, predictions, schema, protocol)
    alone = evaluate_nme(truth, predictions, schema, NmeProtocol(normaliser=100.0, subset="blur"))
    assert scores.metrics["NME (blur)"] == pytest.approx(alone.metrics["NME"])
    assert np.isnan(scores.metrics["NME (pose)"])
    assert scores.lower_is_better


def test_epe_and_rmse_are_the_mean_distance():
    truth, predictions, schema = problem(3)
    shifted = replace(predictions, keypoints=exact_points(truth.keypoints) + np.asarray((3, 4)))
    assert evaluate_pck(truth, shifted, schema, AucEpeProtocol()).metrics["EPE"] == pytest.approx(5)
    found = evaluate_dlc(truth, shifted, schema, DlcProtocol()).metrics
    assert found["RMSE"] == pytest.approx(5)
    assert found["RMSE (confident)"] == pytest.approx(5)
    assert 0 < found["mAP"] <= 1


def test_deeplabcuts_map_and_mar_equal_a_slow_writing_of_its_protocol():
    """OKS with one sigma of 0.1, s^2 the area of the labelled keypoints' box; AP by every recall.

    Written from the protocol's words, animal by animal, threshold by threshold.
    """
    truth, predictions, schema = problem(6, count=30)
    rng = np.random.default_rng(6)
    true = exact_points(truth.keypoints)
    moved = true + rng.normal(size=true.shape) * rng.choice([2, 12, 40], (30, 1, 1))
    scores = rng.permutation(30 * NUM).reshape(30, NUM) / 120
    predictions = replace(predictions, keypoints=moved, scores=scores)
    similarity = []
    for i in range(30):
        known = [k for k in range(NUM) if truth.visibility[i, k] > 0]
        x, y = true[i, known].T
        area = (x.max() - x.min()) * (y.max() - y.min())
        squared = ((predictions.keypoints[i, known] - true[i, known]) ** 2).sum(axis=1)
        similarity.append(np.mean(np.exp(-squared / (2 * area * (2 * 0.1) ** 2))))
    order = sorted(range(30), key=lambda i: -predictions.scores[i].mean())
    averages, recalls = [], []
    for threshold in np.arange(10) * 0.05 + 0.5:
        hits = [similarity[i] >= threshold for i in order]  # one animal an image
        precision = [sum(hits[: n + 1]) / (n + 1) for n in range(30)]
        recall = [sum(hits[: n + 1]) / 30 for n in range(30)]
        averages.append(
            np.mean(
                [
                    max((p for p, r in zip(precision, recall, strict=True) if r >= q), default=0)
                    for q in np.linspace(0, 1, 101)
                ]
            )
        )
        recalls.append(recall[-1])
    found = evaluate_dlc(truth, predictions, schema, DlcProtocol()).metrics
    assert 0.1 < found["mAP"] < 0.9
    assert found["mAP"] == pytest.approx(np.mean(averages), abs=1e-9)
    assert found["mAR"] == pytest.approx(np.mean(recalls), abs=1e-12)


def test_rmse_over_confident_points_leaves_out_the_others():
    truth, predictions, schema = problem(4)
    points = exact_points(truth.keypoints)
    points[:, 0] += 50
    scores = np.full(points.shape[:2], 0.9)
    scores[:, 0] = 0.1
    found = evaluate_dlc(
        truth, replace(predictions, keypoints=points, scores=scores), schema, DlcProtocol()
    )
    assert found.metrics["RMSE (confident)"] == pytest.approx(0, abs=1e-9)
    assert found.metrics["RMSE"] > 5


def test_a_missing_prediction_is_named():
    truth, predictions, schema = problem(5)
    with pytest.raises(PredictionError, match=r"1 of 8 annotated instances have no prediction.*3"):
        evaluate_pck(truth, predictions.take(np.arange(8) != 3), schema, PckProtocol())


def test_an_instance_that_could_not_be_cropped_is_left_out_and_not_missed():
    truth, predictions, schema = problem(5)
    few = replace(predictions.take(np.arange(8) != 3), left_out=frozenset({(3, 3)}))
    assert evaluate_pck(truth, few, schema, PckProtocol()).counts["instances"] == 7


def test_a_repeated_id_is_named():
    truth, predictions, schema = problem(6)
    ids = np.array(predictions.instance_id)
    images = np.array(predictions.image_id)
    ids[5], images[5] = ids[4], images[4]
    twice = helpers.changed(predictions, instance_id=ids, image_id=images)
    with pytest.raises(PredictionError, match="prediction 5: instance id 4 appears twice"):
        evaluate_pck(truth, twice, schema, PckProtocol())


def test_an_unknown_normaliser_lists_what_there_is():
    truth, predictions, schema = problem(7)
    with pytest.raises(ConfigError, match=r"'box_size', but these annotations have only \['head_s"):
        evaluate_nme(truth, predictions, schema, NmeProtocol(normaliser="box_size"))


def test_a_keypoint_that_the_schema_lacks_is_named():
    truth, predictions, schema = problem(7)
    protocol = PckProtocol(columns={"Head": ("left_zero",)})
    with pytest.raises(ConfigError, match="column 'Head' names the unknown keypoint 'left_zero'"):
        evaluate_pck(truth, predictions, schema, protocol)


def test_an_instance_without_a_normalising_length_is_named():
    truth, predictions, schema = problem(8)
    heads = np.array(truth.extras["head_size"])
    heads[2] = 0
    with pytest.raises(PredictionError, match=r"1 of 8 instances have no positive.*instance 2"):
        evaluate_pckh(
            replace(truth, extras={"head_size": heads}), predictions, schema, PckhProtocol()
        )


def test_nothing_labelled_is_an_error():
    truth, predictions, schema = problem(9)
    bare = replace(truth, visibility=np.zeros_like(truth.visibility))
    with pytest.raises(PredictionError, match="nothing to score"):
        evaluate_pck(bare, predictions, schema, PckProtocol())


@settings(max_examples=50, deadline=None)
@given(
    value=st.decimals(-3000, 9000, places=2, allow_nan=False, allow_infinity=False),
)
def test_float32_coordinates_come_back_as_the_decimals_of_the_file(value):
    assert exact_points(np.asarray([[float(value)]], np.float32))[0, 0] == float(value)


def test_coordinates_in_any_memory_order_come_back():
    points = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1) + np.float32(0.1)
    expected = np.round(points.astype(np.float64), 1)
    np.testing.assert_array_equal(exact_points(points), expected)
