"""Scoring a file without a model, verification by the references, and comparing runs."""

from __future__ import annotations

import json
from dataclasses import replace

import eval_helpers as helpers
import numpy as np
import pytest

from posekit.adapters.base import EmptyImage, Instance
from posekit.config.cards import dataset_card_from_dict
from posekit.data.index import build_index
from posekit.errors import ConfigError, PosekitError, PredictionError
from posekit.evaluation.base import Scores
from posekit.evaluation.compare import (
    compare_runs,
    compare_scores,
    protocol_differences,
    read_scores,
)
from posekit.evaluation.oks_reference import load_xtcocotools
from posekit.evaluation.registry import evaluate, protocol_of
from posekit.evaluation.runner import write_results
from posekit.evaluation.score import score_file
from posekit.poses.write import write_predictions

NUM = 4


def make_index(folder, evaluator="oks", protocol=None, extras=None):
    rng = np.random.default_rng(0)
    schema = helpers.make_schema(NUM)
    records = []
    for i in range(8):
        points = rng.uniform(0, 200, (NUM, 2)).astype(np.float32)
        low, high = points.min(axis=0), points.max(axis=0)
        box = np.concatenate([low, high - low]).astype(float)
        visibility = np.full(NUM, 2, np.uint8)
        records.append(
            Instance(
                f"{i}.jpg",
                i,
                i,
                points,
                visibility,
                box,
                float(box[2] * box[3]),
                extras=extras or {},
            )
        )
    records.append(EmptyImage("empty.jpg", 99, extras=extras or {}))
    data = {
        "name": "practice",
        "source": "made in the test",
        "licence": "none",
        "subject": "person",
        "schema": helpers.card_schema(schema),
        "adapter": "coco_json",
        "splits": {"val": {"annotations": "a.json"}},
        "evaluator": evaluator,
        "protocol": protocol or {},
    }
    (folder / "a.json").write_text("{}")
    card = dataset_card_from_dict(data, "practice.yaml")
    return build_index(card, folder, "val", folder / "cache", adapter=lambda *_: iter(records))


def predicted(index, noise=5.0):
    rng = np.random.default_rng(1)
    truth = index.columns
    points = truth.keypoints + rng.normal(size=truth.keypoints.shape) * noise
    return helpers.make_predictions(points, truth, scores=rng.random((len(truth), NUM)))


def test_a_file_scores_as_the_predictions_in_it(tmp_path):
    index = make_index(tmp_path)
    predictions = predicted(index)
    expected = evaluate(index.card, index.columns, predictions)
    file = write_predictions(tmp_path / "p.json", predictions)
    found = score_file(file, index)
    assert found.scores.metrics == expected.metrics
    assert found.scores.protocol["data_hash"] == index.data_hash
    assert found.notes == ()


@pytest.mark.parametrize(
    ("evaluator", "protocol"),
    [("pck", {"normalisers": {"PCK": "box_long_side"}}), ("nme", {"normaliser": "box_long_side"})],
)
def test_records_without_instance_ids_are_not_scored_instance_by_instance(
    tmp_path, evaluator, protocol
):
    """Their positions in the file equal ids of annotations only by chance."""
    index = make_index(tmp_path, evaluator, protocol)
    file = write_predictions(tmp_path / "p.json", predicted(index))
    assert np.isfinite(score_file(file, index).scores.value)
    records = json.loads(file.read_text())
    for record in records:
        del record["id"]
    file.write_text(json.dumps(records[::-1]))
    with pytest.raises(PredictionError, match=r"do not say which annotated instance .*'id'"):
        score_file(file, index)


def test_a_results_file_is_not_rescored_and_that_is_said(tmp_path):
    index = make_index(tmp_path)
    predictions = predicted(index)
    scores = evaluate(index.card, index.columns, predictions)
    write_results(tmp_path / "eval", scores, predictions, index)
    found = score_file(tmp_path / "eval" / "results.json", index)
    assert found.scores.metrics == scores.metrics
    assert found.scores.protocol["score"] == "bbox"
    assert "neither rescored nor suppressed" in found.text()


@pytest.mark.parametrize(
    ("evaluator", "protocol"),
    [
        ("oks", {}),
        ("crowdpose", {"labelled_by": "num_keypoints"}),
        ("wholebody", {"parts": {"left": ["left_0", "right_0"]}}),
    ],
)
def test_verification_shows_the_same_numbers_by_the_references(tmp_path, evaluator, protocol):
    extras = {"num_keypoints": 4.0, "crowd_index": 0.1}
    index = make_index(tmp_path, evaluator, protocol, extras)
    file = write_predictions(tmp_path / "p.json", predicted(index))
    found = score_file(file, index, verify=True)
    assert "pycocotools" in found.reference
    assert found.agrees
    for column in found.reference.values():
        for name, value in column.items():
            assert value == found.scores.metrics[name]
    try:
        load_xtcocotools()
    except PosekitError:
        assert any("xtcocotools cannot be imported" in note for note in found.notes)
    else:
        assert "xtcocotools" in found.reference
    assert "pycocotools" in found.text()


def test_point_metrics_have_no_reference_to_verify_with(tmp_path):
    index = make_index(tmp_path, "pck")
    file = write_predictions(tmp_path / "p.json", predicted(index))
    assert 0 < score_file(file, index).scores.value <= 1
    with pytest.raises(ConfigError, match="only OKS scores have a reference"):
        score_file(file, index, verify=True)


def test_a_disagreeing_reference_is_seen(tmp_path):
    index = make_index(tmp_path)
    file = write_predictions(tmp_path / "p.json", predicted(index))
    found = score_file(file, index)
    assert replace(found, reference={"other": {"AP": found.scores.value}}).agrees
    assert not replace(found, reference={"other": {"AP": found.scores.value + 1e-6}}).agrees


def two_runs(tmp_path, settings):
    index = make_index(tmp_path)
    for name, noise, changes in (("a", 3.0, {}), ("b", 9.0, settings)):
        predictions = predicted(index, noise)
        protocol = protocol_of(index.card, changes)
        scores = evaluate(index.card, index.columns, predictions, protocol)
        write_results(tmp_path / name / "eval" / "person", scores, predictions, index)
    return tmp_path / "a", tmp_path / "b"


def test_runs_of_one_protocol_stand_side_by_side_and_the_best_is_marked(tmp_path):
    a, b = two_runs(tmp_path, {})
    comparison = compare_runs([a, b])
    assert comparison.differences == {}
    line = next(line for line in comparison.text().splitlines() if line.startswith("AP "))
    best, other = line.split()[1:]
    assert best.endswith("*")
    assert not other.endswith("*")
    assert json.loads(json.dumps(comparison.to_dict()))["runs"] == ["a", "b"]


def test_the_engine_and_the_version_may_differ(tmp_path):
    a, b = two_runs(tmp_path, {"engine": "pycocotools"})
    assert compare_runs([a, b]).differences == {}


def test_numbers_of_different_protocols_are_refused_by_name_unless_told(tmp_path):
    a, b = two_runs(tmp_path, {"nms": "none", "flip_test": False})
    with pytest.raises(
        ConfigError,
        match=r"head 'person': .*'flip_test' a has true, b has false \(and 1 further",
    ):
        compare_runs([a, b])
    comparison = compare_runs([a, b], allow_differences=True)
    assert comparison.differences["person"]["nms"] == {"a": "oks_nms", "b": "none"}
    assert "protocols differ in nms (a:" in comparison.text()


def test_a_detectors_file_is_compared_by_what_it_held_not_by_where_it_lay():
    here = Scores({"AP": 0.5}, "AP", protocol={"boxes": "/a/d.json", "boxes_hash": "1f"})
    there = replace(here, protocol={"boxes": "/b/d.json", "boxes_hash": "1f"})
    assert protocol_differences({"a": here, "b": there}) == {}
    other = replace(here, protocol={"boxes": "/a/d.json", "boxes_hash": "2e"})
    assert protocol_differences({"a": here, "b": other}) == {"boxes_hash": {"a": "1f", "b": "2e"}}
    annotated = replace(here, protocol={"boxes": "annotation", "boxes_hash": ""})
    assert set(protocol_differences({"a": here, "b": annotated})) == {"boxes", "boxes_hash"}


def test_errors_are_compared_the_other_way_round():
    better, worse = (
        Scores({"NME": v}, "NME", lower_is_better=True, protocol={"flip_test": True})
        for v in (0.04, 0.05)
    )
    text = compare_scores({"x": {"face": worse}, "y": {"face": better}}).text()
    assert "0.0400*" in text
    assert "0.0500*" not in text


def test_a_folder_without_scores_says_what_to_do(tmp_path):
    with pytest.raises(PosekitError, match=r"found no eval/HEAD/metrics.json; evaluate the run"):
        read_scores(tmp_path)
    (tmp_path / "eval" / "h").mkdir(parents=True)
    (tmp_path / "eval" / "h" / "metrics.json").write_text("[]")
    with pytest.raises(PosekitError, match=r"metrics.json: expected the metrics.json of an eval"):
        read_scores(tmp_path)


@pytest.mark.parametrize("again", ["run", "./run", "run/"])
def test_a_run_beside_itself_has_two_names(tmp_path, monkeypatch, again):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("posekit.evaluation.compare.read_scores", lambda folder: {})
    found = compare_runs(["run", again])
    assert len(found.runs) == len(set(found.runs)) == 2
