"""The contract of every registered evaluator, and the protocols of the cards that ship."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import eval_helpers as helpers
import example_plug_ins
import numpy as np
import pytest

from posekit.config.cards import available, dataset_card_from_dict, load_dataset_card
from posekit.config.plug_ins import code_allowed
from posekit.errors import ConfigError
from posekit.evaluation.base import Scores
from posekit.evaluation.registry import EVALUATORS, evaluate, get_evaluator, protocol_of

NUM = 4
NAMES = [*EVALUATORS.built_in, example_plug_ins.named("MEDIAN")]


@pytest.fixture(autouse=True)
def _plug_ins_may_run():
    with code_allowed():
        yield


def card(evaluator: str, **protocol):
    schema = helpers.make_schema(NUM)
    data = {
        "name": "practice",
        "source": "made in the test",
        "licence": "none",
        "subject": "person",
        "schema": helpers.card_schema(schema),
        "adapter": "coco_json",
        "splits": {"val": {"annotations": "a.json"}},
        "evaluator": evaluator,
        "protocol": protocol,
    }
    return dataset_card_from_dict(data, "practice.yaml")


def problem():
    rng = np.random.default_rng(0)
    points = np.round(rng.uniform(0, 200, (9, NUM, 2)), 1)
    truth = helpers.make_truth(points, np.ones((9, NUM), bool))
    extras = {"head_size": np.full(9, 30.0), "num_keypoints": np.full(9, 4.0)}
    truth = replace(truth, extras={**extras, "crowd_index": np.arange(9) / 9})
    predictions = helpers.make_predictions(points + rng.normal(size=points.shape) * 4, truth)
    return truth, predictions


@pytest.mark.parametrize("name", NAMES)
def test_every_evaluator_scores_and_its_scores_survive_json(name):
    truth, predictions = problem()
    names = helpers.make_schema(NUM).keypoints
    settings = {"parts": {"head": (names[0], names[1])}} if name == "wholebody" else {}
    scores = evaluate(card(name, **settings), truth, predictions)
    assert np.isfinite(scores.value)
    assert scores.headline in scores.metrics
    assert set(scores.per_keypoint) == set(names)
    assert scores.protocol["dataset"] == "practice"
    again = Scores.from_dict(json.loads(json.dumps(scores.to_dict(), allow_nan=False)))
    assert again.metrics == pytest.approx(scores.metrics, nan_ok=True)
    assert list(again.metrics) == list(scores.metrics)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_predictions_does_not_matter(name):
    truth, predictions = problem()
    expected = evaluate(card(name), truth, predictions).metrics
    turned = predictions.take(np.arange(len(predictions))[::-1])
    assert evaluate(card(name), truth, turned).metrics == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_better_predictions_never_score_worse(name):
    truth, predictions = problem()
    scores = evaluate(card(name), truth, predictions)
    exact = replace(predictions, keypoints=truth.keypoints.astype(np.float64))
    best = evaluate(card(name), truth, exact)
    assert (best.value <= scores.value) if scores.lower_is_better else best.value >= scores.value


@pytest.mark.parametrize("name", available("datasets"))
def test_every_card_that_ships_names_an_evaluator_and_valid_settings(name):
    shipped = load_dataset_card(name)
    protocol = protocol_of(shipped)
    assert protocol.padding == shipped.box.padding
    schema = shipped.keypoint_schema
    for members in getattr(protocol, "columns", {}).values():
        assert all(schema.index(member) >= 0 for member in members)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ConfigError, match=r"practice.yaml.*'use_aera'.*did you mean 'use_area'"):
        protocol_of(replace_file(card("oks", use_aera=False)))


def replace_file(loaded):
    return loaded.model_copy(update={"file": Path("practice.yaml")})


def test_an_unknown_evaluator_names_the_nearest():
    with pytest.raises(ConfigError, match="there is no evaluator 'okss'; did you mean 'oks'"):
        get_evaluator(card("okss"))


def test_settings_of_the_user_lie_over_the_card():
    loaded = card("oks", nms="none", nms_threshold=0.5)
    protocol = protocol_of(loaded, {"nms": "soft_oks_nms"})
    assert (protocol.nms, protocol.nms_threshold) == ("soft_oks_nms", 0.5)
    with pytest.raises(ConfigError, match="protocol settings: key 'nms'"):
        protocol_of(loaded, {"nms": "hard"})


def test_sigmas_need_a_source():
    with pytest.raises(ConfigError, match="sigmas without sigmas_source"):
        protocol_of(card("oks", sigmas=[0.1] * NUM))


@pytest.mark.parametrize("name", NAMES)
def test_the_headline_can_be_chosen(name):
    truth, predictions = problem()
    last = list(evaluate(card(name), truth, predictions).metrics)[-1]
    scores = evaluate(card(name, headline=last), truth, predictions)
    assert scores.headline == last
    with pytest.raises(ConfigError, match=r"headline 'APP' is none of its metrics"):
        evaluate(card(name, headline="APP"), truth, predictions)


def test_a_headline_that_is_an_error_is_better_when_lower():
    truth, predictions = problem()
    assert evaluate(card("auc_epe", headline="EPE"), truth, predictions).lower_is_better
    assert not evaluate(card("nme", headline="AUC@0.10"), truth, predictions).lower_is_better


@pytest.mark.parametrize("name", NAMES)
def test_a_subset_is_scored_alone(name):
    truth, predictions = problem()
    chosen = np.arange(9) < 5
    truth = replace(truth, extras={**truth.extras, "blur": chosen.astype(float)})
    points = np.where(chosen[:, None, None], truth.keypoints, predictions.keypoints + 40)
    predictions = replace(predictions, keypoints=points.astype(np.float64))
    whole = evaluate(card(name), truth, predictions)
    part = evaluate(card(name, subset="blur"), truth, predictions)
    assert part.counts["instances"] == 5
    assert part.value < whole.value if part.lower_is_better else part.value > whole.value


def test_instances_without_a_length_are_counted():
    truth, predictions = problem()
    box = np.array(truth.box_xywh)
    box[2] = np.nan
    scores = evaluate(card("pck"), replace(truth, box_xywh=box), predictions)
    assert scores.counts["instances without a length for PCK"] == 1
