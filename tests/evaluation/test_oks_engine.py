"""The OKS engine against pycocotools and xtcocotools on drawn problems, and its guards."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import eval_helpers as helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.errors import ConfigError, PosekitError, PredictionError
from posekit.evaluation import oks_engine, oks_reference
from posekit.evaluation.oks import evaluate_crowdpose, evaluate_oks
from posekit.evaluation.oks_engine import OksDetections, OksTruth
from posekit.evaluation.protocol import CrowdPoseProtocol, OksProtocol


def draw_problem(seed: int, images: int, most_people: int, most_found: int, categories: int):
    """People with crowds and unlabelled ones, detections with equal scores, empty images."""
    rng = np.random.default_rng(seed)
    num = 4
    image = np.repeat(np.arange(images), rng.integers(0, most_people + 1, images))
    count = len(image)
    corner, size = rng.uniform(0, 100, (count, 2)), rng.uniform(20, 150, (count, 2))
    points = np.round(corner[:, None] + rng.random((count, num, 2)) * size[:, None])
    labelled = rng.random((count, num)) < rng.choice([0.0, 0.6, 1.0], (count, 1))
    is_crowd = rng.random(count) < 0.15
    truth = OksTruth(
        image=image,
        category=rng.integers(0, categories, count),
        keypoints=points,
        labelled=labelled,
        box_xywh=np.concatenate([corner, size], axis=1),
        area=size.prod(axis=1),
        is_ignored=is_crowd | ~labelled.any(axis=1),
        is_crowd=is_crowd,
    )
    found_image = np.repeat(np.arange(images), rng.integers(0, most_found + 1, images))
    total = len(found_image)
    moved = rng.uniform(0, 200, (total, num, 2))
    if count and total:
        of = rng.integers(0, count, total)
        near = rng.random(total) < 0.8
        noise = rng.normal(size=moved.shape) * rng.choice([0, 2, 8, 20], (total, 1, 1))
        moved = np.where(near[:, None, None], points[of] + noise, moved)
        found_image = np.where(near, image[of], found_image)
    found = OksDetections(
        image=found_image,
        category=rng.integers(0, categories, total),
        keypoints=moved,
        score=rng.integers(0, 6, total) / 5,
        area=np.ptp(moved, axis=1).prod(axis=1),
    )
    return truth, found, rng.uniform(0.02, 0.2, num)


def both(truth, found, sigmas, categories, reference=oks_reference.with_pycocotools):
    matches = oks_engine.match(truth, found, sigmas)
    result = oks_engine.accumulate(truth, found, matches, categories)
    with contextlib.redirect_stdout(io.StringIO()):
        return result, reference(truth, found, sigmas, categories)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 5),
    most_people=st.integers(0, 6),
    most_found=st.integers(0, 30),
    categories=st.integers(1, 3),
)
def test_precision_and_recall_equal_pycocotools_to_the_last_bit(
    seed, images, most_people, most_found, categories
):
    problem = draw_problem(seed, images, most_people, most_found, categories)
    found, expected = both(*problem, categories)
    np.testing.assert_array_equal(found.precision, expected.precision)
    np.testing.assert_array_equal(found.recall, expected.recall)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 6))
def test_the_numbers_of_some_images_equal_those_of_a_problem_with_only_them(seed, images):
    truth, found, sigmas = draw_problem(seed, images, 4, 12, 2)
    chosen = np.random.default_rng(seed).random(images) < 0.5
    matches = oks_engine.match(truth, found, sigmas)
    result = oks_engine.accumulate(truth, found, matches, 2, chosen)
    rows, detections = (np.flatnonzero(chosen[part.image]) for part in (truth, found))
    alone, _ = both(truth.take(rows), found.take(detections), sigmas, 2)
    np.testing.assert_array_equal(result.precision, alone.precision)
    np.testing.assert_array_equal(result.recall, alone.recall)


def test_xtcocotools_runs_on_the_other_mask_extension_and_agrees():
    problem = draw_problem(3, 4, 5, 10, 2)
    try:
        found, expected = both(*problem, 2, oks_reference.with_xtcocotools)
    except PosekitError as error:
        pytest.skip(str(error))
    np.testing.assert_array_equal(found.precision, expected.precision)
    np.testing.assert_array_equal(found.recall, expected.recall)


def test_many_people_in_one_image_compete_for_twenty_places():
    truth, found, sigmas = draw_problem(5, 1, 0, 0, 1)
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1000, (35, 4, 2))
    zeros = np.zeros(35, np.int64)
    box = np.concatenate([points.min(axis=1), np.ptp(points, axis=1)], axis=1)
    truth = OksTruth(
        image=zeros,
        category=zeros,
        keypoints=points,
        labelled=np.ones((35, 4), bool),
        box_xywh=box,
        area=box[:, 2] * box[:, 3],
        is_ignored=zeros > 0,
        is_crowd=zeros > 0,
    )
    found = OksDetections(zeros, zeros, points, rng.random(35), truth.area)
    result, expected = both(truth, found, sigmas, 1)
    np.testing.assert_array_equal(result.recall, expected.recall)
    assert result.average_recall() == pytest.approx(20 / 35)


def small(count: int = 6, num: int = 4):
    rng = np.random.default_rng(1)
    points = np.round(rng.uniform(0, 100, (count, num, 2)))
    truth = helpers.make_truth(points, np.ones((count, num), bool))
    return truth, helpers.make_predictions(points, truth), helpers.make_schema(num)


def test_perfect_predictions_score_one_also_with_annotation_id_zero():
    truth, predictions, schema = small()
    assert truth.instance_id[0] == 0
    for engine in ("posekit", "pycocotools"):
        scores = evaluate_oks(truth, predictions, schema, OksProtocol(engine=engine))
        assert scores.metrics["AP"] == pytest.approx(1.0)
        assert scores.metrics["AR"] == 1.0


def test_annotation_ids_play_no_part_even_if_they_repeat():
    truth, predictions, schema = small()
    same = replace(truth, instance_id=np.full(len(truth), 7))
    expected = evaluate_oks(truth, predictions, schema, OksProtocol()).metrics
    assert evaluate_oks(same, predictions, schema, OksProtocol()).metrics == expected


def test_what_is_found_on_an_empty_image_counts_as_wrong():
    truth, predictions, schema = small()
    truth = replace(truth, image_id=np.append(truth.image_id, 99))
    ghost = predictions.take(np.zeros(1, int))
    ghost = helpers.changed(ghost, image_id=np.asarray([99]), box_scores=np.asarray([2.0]))
    both_ = {
        name: np.concatenate([getattr(predictions, name), getattr(ghost, name)])
        for name in ("keypoints", "scores", "box_xywh", "box_scores", "image_id")
    }
    rest = {
        name: np.concatenate([getattr(predictions, name), getattr(ghost, name)])
        for name in ("instance_id", "category_id", "input_area")
    }
    scores = evaluate_oks(
        truth, helpers.changed(predictions, **both_, **rest), schema, OksProtocol()
    )
    assert scores.metrics["AP"] < 0.95
    assert scores.metrics["AR"] == 1.0


def test_predictions_whose_keypoint_scores_are_all_zero_are_dropped():
    truth, predictions, schema = small()
    scores = np.array(predictions.scores)
    scores[:3] = 0
    found = evaluate_oks(truth, replace(predictions, scores=scores), schema, OksProtocol())
    assert found.counts["detections"] == 3
    assert found.metrics["AR"] == pytest.approx(0.5)


def test_without_sigmas_there_is_no_ap():
    truth, predictions, _ = small()
    with pytest.raises(ConfigError, match=r"no OKS sigmas, so there is no AP.*'pck'"):
        evaluate_oks(truth, predictions, helpers.make_schema(4, None), OksProtocol())


def test_sigmas_of_the_wrong_number_are_refused():
    truth, predictions, schema = small()
    protocol = OksProtocol(sigmas=(0.1,) * 3, sigmas_source="test")
    with pytest.raises(ConfigError, match="3 sigmas for the 4 keypoints"):
        evaluate_oks(truth, predictions, schema, protocol)


def test_missing_areas_are_an_error_that_names_the_setting():
    truth, predictions, schema = small()
    truth = replace(truth, area=np.full(len(truth), np.nan))
    with pytest.raises(ConfigError, match="6 of 6 annotations have no area; set use_area: false"):
        evaluate_oks(truth, predictions, schema, OksProtocol())
    assert evaluate_oks(truth, predictions, schema, OksProtocol(use_area=False)).value > 0.99


def test_boxes_that_were_derived_from_keypoints_are_told():
    truth, predictions, schema = small()
    derived = replace(truth, has_box=np.arange(len(truth)) > 1)
    scores = evaluate_oks(derived, predictions, schema, OksProtocol(use_area=False))
    assert scores.counts["areas from keypoint extents (no annotated box)"] == 2


def test_predictions_of_unknown_images_are_refused():
    truth, predictions, schema = small()
    moved = helpers.changed(predictions, image_id=predictions.image_id + 3)
    with pytest.raises(PredictionError, match=r"3 of 6 predictions are of images .* image id 6"):
        evaluate_oks(truth, moved, schema, OksProtocol())


def test_nan_predictions_are_refused_by_record_and_field():
    truth, predictions, schema = small()
    points = np.array(predictions.keypoints)
    points[4, 1] = np.nan
    with pytest.raises(PredictionError, match=r"prediction 4 \(instance id 4\): field 'keypoints'"):
        evaluate_oks(truth, replace(predictions, keypoints=points), schema, OksProtocol())


def test_predictions_of_another_schema_are_refused():
    truth, predictions, _ = small()
    with pytest.raises(PredictionError, match="have 4 keypoints each, but schema 'small' has 5"):
        evaluate_oks(truth, predictions, helpers.make_schema(5), OksProtocol())


def test_the_crowd_index_is_needed_by_name():
    truth, predictions, schema = small()
    with pytest.raises(ConfigError, match="needs the annotations' 'num_keypoints'"):
        evaluate_crowdpose(truth, predictions, schema, CrowdPoseProtocol())


def test_the_per_keypoint_table_shows_which_keypoint_is_off():
    truth, predictions, schema = small()
    points = np.array(predictions.keypoints)
    points[:, 2] += 30
    table = evaluate_oks(truth, replace(predictions, keypoints=points), schema, OksProtocol())
    values = {name: row["similarity"] for name, row in table.per_keypoint.items()}
    assert min(values, key=values.__getitem__) == schema.keypoints[2]
    assert values[schema.keypoints[0]] == pytest.approx(1.0)


def test_each_category_has_its_own_row():
    truth, predictions, schema = small()
    categories = np.asarray([1, 1, 1, 5, 5, 5])
    truth = replace(truth, category_id=categories)
    points = np.array(predictions.keypoints)
    points[3:] += 500
    predictions = replace(predictions, category_id=categories, keypoints=points)
    scores = evaluate_oks(truth, predictions, schema, OksProtocol())
    assert scores.per_category["1"]["AP"] == pytest.approx(1.0)
    assert scores.per_category["5"]["AP"] == 0.0
    assert scores.metrics["AP"] == pytest.approx(0.5)
