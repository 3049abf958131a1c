"""Poses files: what is written comes back, and each fault is one sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import eval_helpers as helpers
import numpy as np
import pytest

from posekit.errors import PredictionError
from posekit.evaluation.oks import evaluate_oks
from posekit.evaluation.pck import evaluate_pck
from posekit.evaluation.protocol import OksProtocol, PckhProtocol, PckProtocol, WholeBodyProtocol
from posekit.evaluation.submission import write_submission
from posekit.poses import split
from posekit.poses.read import read_predictions
from posekit.poses.table import Poses
from posekit.poses.write import write_predictions
from posekit.schema import KeypointSchema

NUM = 4


def problem():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 200, (5, NUM, 2))
    truth = helpers.make_truth(points, np.ones((5, NUM), bool))
    moved = points + rng.normal(size=points.shape)
    predictions = helpers.make_predictions(moved, truth, scores=rng.random((5, NUM)))
    return truth, predictions, helpers.make_schema(NUM)


def assert_equal(a: Poses, b: Poses) -> None:
    for name in ("keypoints", "scores", "box_xywh", "box_scores", "image_id", "instance_id"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_array_equal(a.category_id, b.category_id)
    np.testing.assert_array_equal(a.input_area, b.input_area)


def test_the_neutral_file_gives_back_every_bit(tmp_path):
    truth, predictions, schema = problem()
    file = write_predictions(tmp_path / "deep" / "predictions.json", predictions)
    found = read_predictions(file, schema, truth)
    assert_equal(found.predictions, predictions)
    assert not found.is_final


def test_text_ids_come_back(tmp_path):
    truth, predictions, schema = problem()
    names = np.asarray([f"a{i}".encode() for i in range(5)])
    truth = replace(truth, image_id=names, instance_id=names)
    predictions = helpers.changed(predictions, image_id=names, instance_id=names)
    file = write_predictions(tmp_path / "p.json", predictions)
    assert_equal(read_predictions(file, schema, truth).predictions, predictions)


def test_a_results_file_scores_as_the_predictions_that_it_came_from(tmp_path):
    truth, predictions, schema = problem()
    protocol = OksProtocol()
    files = write_submission(tmp_path, predictions, truth, schema, protocol)
    assert [f.name for f in files] == ["predictions.json", "results.json"]
    found = read_predictions(files[1], schema, truth)
    assert found.is_final
    final = OksProtocol(score="bbox", nms="none")
    scores = evaluate_oks(truth, found.predictions, schema, final)
    assert scores.metrics == evaluate_oks(truth, predictions, schema, protocol).metrics


def test_whole_body_results_use_the_servers_fields(tmp_path):
    truth, predictions, schema = problem()
    names = schema.keypoints
    parts = {"body": (names[0], names[1]), "foot": (names[2], names[3])}
    protocol = WholeBodyProtocol(parts=parts, detection_area="body")
    _, results = write_submission(tmp_path, predictions, truth, schema, protocol)
    record = json.loads(results.read_text())[0]
    assert (len(record["keypoints"]), len(record["foot_kpts"])) == (6, 6)
    assert "bbox" not in record
    np.testing.assert_array_equal(
        np.sort(read_predictions(results, schema, truth).predictions.keypoints, axis=0),
        np.sort(predictions.keypoints, axis=0),
    )


def test_matlab_predictions_count_from_one_in_the_order_of_the_truth(tmp_path):
    truth, predictions, schema = problem()
    truth = replace(truth, extras={"head_size": np.ones(5)})
    turned = predictions.take(np.arange(5)[::-1])
    _, mat = write_submission(tmp_path, turned, truth, schema, PckhProtocol())
    found = read_predictions(mat, schema, truth).predictions
    np.testing.assert_allclose(found.keypoints, predictions.keypoints, atol=1e-12)
    with pytest.raises(PredictionError, match=r"'preds' has shape \(5, 4, 2\), expected \(5, 5, 2"):
        read_predictions(mat, helpers.make_schema(5), truth)


def test_a_damaged_matlab_file_is_named_and_never_crashes(tmp_path):
    truth, predictions, schema = problem()
    truth = replace(truth, extras={"head_size": np.ones(5)})
    _, mat = write_submission(tmp_path, predictions, truth, schema, PckhProtocol())
    content = bytearray(mat.read_bytes())
    content[128 + 16] = 200  # the type of the array's first element
    mat.write_bytes(bytes(content))
    with pytest.raises(PredictionError, match=r"pred\.mat: expected an array of numbers 'preds'"):
        read_predictions(mat, schema, truth)
    mat.unlink()
    with pytest.raises(PredictionError, match=r"pred\.mat: there is no such file"):
        read_predictions(mat, schema, truth)


def predicted(schema, truth) -> Poses:
    """What a head with more keypoints in another order predicts in the images of the truth."""
    names = ("tail", *reversed(schema.keypoints))
    n = len(truth)
    return Poses(
        "h", KeypointSchema("h", names), np.arange(n * len(names) * 2.0).reshape(n, len(names), 2),
        np.full((n, len(names)), 0.5, np.float32), np.tile([0.0, 0, 9, 9], (n, 1)), np.ones(n),
        np.arange(n), tuple(f"/elsewhere/{i}.jpg" for i in range(n)), ((9, 9),) * n,
    )  # fmt: skip


def test_keypoints_of_another_head_are_taken_by_name(tmp_path):
    truth, _, schema = problem()
    poses = predicted(schema, truth)
    file = tmp_path / "x.poses.json"
    file.write_text(json.dumps(poses.to_coco()))
    found = read_predictions(file, schema, truth).predictions
    assert found.schema == schema
    assert found.keypoints.tolist() == poses.keypoints[:, :0:-1].tolist()
    assert found.image_id.tolist() == truth.image_id.tolist()
    wanting = replace(schema, keypoints=("nose", *schema.keypoints[1:]), flip_pairs=())
    with pytest.raises(PredictionError, match=r"lack 1 of the 4 of schema 'small', .*'nose'"):
        read_predictions(file, wanting, truth)


def test_a_folder_of_predictions_is_read_as_one(tmp_path):
    truth, _, schema = problem()
    poses = predicted(schema, truth)
    for number, (_, part) in enumerate(poses.by_image()):
        (tmp_path / f"{number}.poses.json").write_text(json.dumps(part.to_coco()))
    found = read_predictions(tmp_path, schema, truth).predictions
    assert found.image_id.tolist() == truth.image_id.tolist()
    assert found.keypoints.tolist() == poses.keypoints[:, :0:-1].tolist()


def test_a_folder_of_several_heads_or_of_none_is_refused(tmp_path):
    truth, _, schema = problem()
    with pytest.raises(PredictionError, match=r"found no \*\.poses\.json of `posekit predict`"):
        read_predictions(tmp_path, schema, truth)
    poses = predicted(schema, truth)
    other = replace(poses, schema=replace(poses.schema, keypoints=("nose", *schema.keypoints)))
    (tmp_path / "1.poses.json").write_text(json.dumps(poses.to_coco()))
    (tmp_path / "2.poses.json").write_text(json.dumps(other.to_coco()))
    with pytest.raises(PredictionError, match=r"2\.poses\.json: its keypoints are not those of 1"):
        read_predictions(tmp_path, schema, truth)


def test_poses_that_name_no_images_of_a_dataset_are_not_scored():
    truth, predictions, schema = problem()
    with pytest.raises(PredictionError, match="do not say which images of a dataset they are of"):
        evaluate_pck(truth, replace(predictions, image_ids=None), schema, PckProtocol())


def test_arrays_of_different_lengths_are_refused():
    _, predictions, _ = problem()
    with pytest.raises(PredictionError, match=r"different lengths: .*'scores': 2"):
        replace(predictions, scores=predictions.scores[:2])


def edit(record: dict, **changes) -> dict:
    return {k: v for k, v in {**record, **changes}.items() if v is not ...}


FAULTS = {
    "no image": (lambda r: edit(r, image_id=...), r"record 2: key 'image_id' is missing"),
    "unknown image": (lambda r: edit(r, image_id=77), r"record 2: field 'image_id': found 77"),
    "text image": (lambda r: edit(r, image_id="2"), r"record 2: field 'image_id': found '2'"),
    "no keypoints": (
        lambda r: edit(r, keypoints=..., keypoint=[]),
        r"record 2: key 'keypoints' is missing; did you mean 'keypoint'",
    ),
    "short": (
        lambda r: edit(r, keypoints=r["keypoints"][:3]),
        r"record 2: field 'keypoints': found 3 points, expected 4 points",
    ),
    "flat and short": (
        lambda r: edit(r, keypoints=[1.0] * 11),
        r"record 2: field 'keypoints': found 11 numbers, expected 4 points .*\(12 numbers\)",
    ),
    "NaN": (
        lambda r: edit(r, keypoints=[*r["keypoints"][:3], [1.0, float("nan"), 0.5]]),
        r"record 2: field 'keypoints': keypoint 3 \(right_1\): found nan, expected a finite",
    ),
    "text point": (
        lambda r: edit(r, keypoints=[["x", 1, 1], *r["keypoints"][1:]]),
        r"record 2: field 'keypoints': keypoint 0 \(left_0\): found 'x'",
    ),
    "box": (lambda r: edit(r, bbox=[1, 2, 3]), r"record 2: field 'bbox': found \[1, 2, 3\]"),
    "box score": (
        lambda r: edit(r, bbox_score=None),
        r"record 2: field 'bbox_score': found None, expected a number",
    ),
    "ragged": (
        lambda r: edit(r, keypoints=[*r["keypoints"][:3], 7]),
        r"record 2: field 'keypoints': keypoint 3 \(right_1\) is 7, expected \[x, y, score\]",
    ),
    "one number": (
        lambda r: edit(r, keypoints=[*r["keypoints"][:3], [1]]),
        r"record 2: field 'keypoints': keypoint 3 \(right_1\) is \[1\]",
    ),
    "no list": (
        lambda r: edit(r, keypoints="1 2 3"),
        r"record 2: field 'keypoints': found '1 2 3'",
    ),
    "half a part": (lambda r: edit(r, foot_kpts=None), r"record 2: field 'foot_kpts': found None"),
    "infinity": (
        lambda r: edit(r, keypoints=[[float("inf"), 1, 1], *r["keypoints"][1:]]),
        r"record 2: field 'keypoints': keypoint 0 \(left_0\): found inf",
    ),
    "negative box": (
        lambda r: edit(r, bbox=[1, 2, -3, 4]),
        r"record 2: field 'bbox': found \[1, 2, -3, 4\], expected .* no negative sizes",
    ),
    "NaN box": (
        lambda r: edit(r, bbox=[1, 2, float("nan"), 4]),
        r"record 2: field 'bbox': found nan, expected a finite number",
    ),
    "id none": (lambda r: edit(r, id=None), r"record 2: field 'id': found None, expected a number"),
    "id list": (lambda r: edit(r, id=[1]), r"record 2: field 'id': found \[1\]"),
    "id half": (lambda r: edit(r, id=1.5), r"record 2: field 'id': found 1.5"),
    "id huge": (lambda r: edit(r, id=10**400), r"record 2: field 'id': found a huge integer"),
    "category": (
        lambda r: edit(r, category_id="cat"),
        r"record 2: field 'category_id': found 'cat', expected a number",
    ),
    "area": (
        lambda r: edit(r, input_area="big"),
        r"record 2: field 'input_area': found 'big', expected a number",
    ),
    "image list": (lambda r: edit(r, image_id=[1]), r"record 2: field 'image_id': found \[1\]"),
    "no object": (lambda r: 5, r"record 2: prediction: found 5, expected an object"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_record_and_field(tmp_path, fault):
    truth, predictions, schema = problem()
    file = write_predictions(tmp_path / "p.json", predictions)
    records = json.loads(file.read_text())
    change, message = FAULTS[fault]
    records[2] = change(records[2])
    file.write_text(json.dumps(records))
    with pytest.raises(PredictionError, match=message) as error:
        read_predictions(file, schema, truth)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": ...}, r"record 2: field 'score' is missing, expected one in every record"),
        ({"score": "high"}, r"record 2: field 'score': found 'high', expected a number"),
        ({"score": float("nan")}, r"record 2: field 'score': found nan, expected a finite number"),
    ],
)
def test_a_result_without_its_score_is_named(tmp_path, change, message):
    truth, predictions, schema = problem()
    write_submission(tmp_path, predictions, truth, schema, OksProtocol())
    file = tmp_path / "results.json"
    records = json.loads(file.read_text())
    records[2] = edit(records[2], **change)
    file.write_text(json.dumps(records))
    with pytest.raises(PredictionError, match=message):
        read_predictions(file, schema, truth)


def test_an_empty_list_of_predictions_is_read_and_finds_nothing(tmp_path):
    truth, _, schema = problem()
    file = tmp_path / "p.json"
    file.write_text("[]")
    read = read_predictions(file, schema, truth).predictions
    assert len(read) == 0
    assert evaluate_oks(truth, read, schema, OksProtocol()).metrics["AP"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"image_id": 1,', "not valid JSON.* may be cut short"),
        ('{"annotations": []}', "looks like an annotation file, expected a list of predictions"),
        ("3", "found int, expected a list of predictions"),
    ],
)
def test_a_file_that_is_no_list_of_predictions_is_refused(tmp_path, text, message):
    truth, _, schema = problem()
    file = tmp_path / "p.json"
    file.write_text(text)
    with pytest.raises(PredictionError, match=message):
        read_predictions(file, schema, truth)


def test_a_missing_file_is_refused(tmp_path):
    truth, _, schema = problem()
    with pytest.raises(PredictionError, match=r"p.json: there is no such file"):
        read_predictions(tmp_path / "p.json", schema, truth)


def test_frames_are_the_images_in_the_order_of_their_numbers():
    paths = ["v/img10.png", "v/img2.png", "v/img1.png"]
    ordered = sorted(paths, key=split._by_number)
    assert ordered == ["v/img1.png", "v/img2.png", "v/img10.png"]
