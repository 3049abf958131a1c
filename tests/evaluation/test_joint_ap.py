"""AP of single keypoints against a slow second writing of poseval's protocol."""

from __future__ import annotations

import json
from dataclasses import replace

import eval_helpers as helpers
import numpy as np
import pytest

from posekit.config.cards import load_dataset_card
from posekit.data.index import build_index
from posekit.errors import ConfigError, DatasetError, PredictionError
from posekit.evaluation.joint_ap import evaluate_joint_ap
from posekit.evaluation.oks import evaluate_oks
from posekit.evaluation.protocol import JointApProtocol, OksProtocol
from posekit.evaluation.registry import evaluate
from posekit.evaluation.submission import write_submission

NUM = 4
SCHEMA = helpers.make_schema(NUM)
PLAIN = JointApProtocol(nms="none")


def frames(seed: int, images: int = 12):
    """Frames with up to four people, some of them unlabelled, and false, double and lost poses."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), rng.integers(0, 5, images))
    n = len(image)
    points = np.round(rng.uniform(0, 100, (n, NUM, 2)), 1)
    labelled = rng.random((n, NUM)) < 0.8
    labelled[rng.random(n) < 0.15] = False
    truth = helpers.make_truth(
        points,
        labelled,
        image_index=image,
        image_id=np.arange(images) + 7,
        image_path=np.asarray([f"v/{i // 5}/{i}.jpg".encode() for i in range(images)]),
        image_size=np.zeros((images, 2), np.int32),
        extras={"head_size": rng.uniform(10, 40, n)},
    )
    of = rng.integers(0, n, 2 * n)
    moved = points[of] + rng.normal(size=(2 * n, NUM, 2)) * rng.choice([2, 8, 40], (2 * n, 1, 1))
    where = np.where(rng.random(2 * n) < 0.2, rng.integers(0, images, 2 * n), image[of])
    box = np.concatenate([moved.min(axis=1), np.ptp(moved, axis=1)], axis=1)
    predictions = helpers.make_poses(
        keypoints=moved,
        scores=rng.permutation(2 * n * NUM).reshape(2 * n, NUM) / (2.0 * n * NUM),
        box_xywh=box,
        box_scores=np.ones(2 * n),
        image_id=truth.image_id[where],
        instance_id=np.arange(2 * n),
        category_id=np.ones(2 * n, np.int64),
        input_area=box[:, 2:].prod(axis=1),
    )
    return truth, predictions


def slow(truth, predictions) -> dict[str, float]:
    """Person by person, keypoint by keypoint, point of the curve by point of the curve."""
    found: dict[int, list[tuple[float, bool]]] = {k: [] for k in range(NUM)}
    for image in sorted(set(truth.image_index.tolist())):
        people = [i for i in np.flatnonzero(truth.image_index == image) if any(truth.visibility[i])]
        poses = np.flatnonzero(predictions.image_id == truth.image_id[image])
        hits = {(d, i): slow_hits(truth, predictions, i, d) for d in poses for i in people}
        chosen = {}
        for i in people:
            best, most = None, 0.0
            for d in poses:
                shares = [sum(hits[d, j]) / truth.num_labelled[j] for j in people]
                share = shares[people.index(i)]
                if shares.index(max(shares)) == people.index(i) and share > most:
                    best, most = d, share
            chosen[best] = i
        for d in poses:
            for k in range(NUM):
                hit = d in chosen and hits[d, chosen[d]][k]
                found[k].append((predictions.scores[d, k], bool(hit)))
    expected = (truth.visibility > 0).sum(axis=0)
    return {SCHEMA.keypoints[k]: slow_area(found[k], expected[k]) for k in range(NUM)}


def slow_hits(truth, predictions, i, d):
    x = np.round(truth.keypoints[i].astype(float), 1)
    error = [np.hypot(*(predictions.keypoints[d, k] - x[k])) for k in range(NUM)]
    limit = 0.5 * truth.extras["head_size"][i]
    return [truth.visibility[i, k] > 0 and error[k] <= limit for k in range(NUM)]


def slow_area(found, expected) -> float:
    curve, right = [(0.0, 0.0)], 0
    for number, (_, hit) in enumerate(sorted(found, reverse=True), start=1):
        right += hit
        curve.append((right / expected, right / number))
    steps = range(1, len(curve))
    highest = {j: max(precision for _, precision in curve[j:]) for j in steps}
    return 100 * sum((curve[j][0] - curve[j - 1][0]) * highest[j] for j in steps)


@pytest.mark.parametrize("seed", range(6))
def test_every_keypoints_ap_equals_the_slow_writing_of_the_protocol(seed):
    truth, predictions = frames(seed)
    scores = evaluate_joint_ap(truth, predictions, SCHEMA, PLAIN)
    expected = slow(truth, predictions)
    for name, value in expected.items():
        assert scores.per_keypoint[name]["AP"] == pytest.approx(value, abs=1e-9), name
    assert scores.metrics["AP"] == pytest.approx(np.mean(list(expected.values())), abs=1e-9)
    assert 5 < scores.metrics["AP"] < 95


def test_oks_ap_of_the_same_frames_stands_beside_it():
    truth, predictions = frames(0)
    scores = evaluate_joint_ap(truth, predictions, SCHEMA, JointApProtocol())
    expected = evaluate_oks(truth, predictions, SCHEMA, OksProtocol(use_area=False)).metrics
    assert {k: v for k, v in scores.metrics.items() if k.startswith("OKS")} == {
        f"OKS {name}": value for name, value in expected.items()
    }
    without = evaluate_joint_ap(truth, predictions, helpers.make_schema(NUM, None), PLAIN)
    assert not any(name.startswith("OKS") for name in without.metrics)


def test_frames_without_annotation_do_not_count_but_unlabelled_people_do():
    truth, predictions = frames(1)
    empty = np.setdiff1d(np.arange(len(truth.image_id)), truth.image_index)
    assert empty.size
    kept = predictions.take(np.flatnonzero(~np.isin(predictions.image_id, truth.image_id[empty])))
    assert len(kept) < len(predictions)
    all_of_them = evaluate_joint_ap(truth, predictions, SCHEMA, PLAIN)
    assert evaluate_joint_ap(truth, kept, SCHEMA, PLAIN).metrics["AP"] == all_of_them.metrics["AP"]
    exact = helpers.make_predictions(truth.keypoints.astype(float), truth)
    unlabelled = truth.num_labelled == 0
    right = evaluate_joint_ap(truth, exact, SCHEMA, PLAIN).metrics
    assert right["Recall"] == 100
    assert unlabelled.any()
    assert right["Precision"] < 100


def test_columns_are_means_and_a_keypoint_that_nobody_has_is_left_out():
    truth, predictions = frames(2)
    visibility = truth.visibility.copy()
    visibility[:, 3] = 0
    truth = replace(truth, visibility=visibility)
    names = SCHEMA.keypoints
    protocol = JointApProtocol(
        nms="none", columns={"one": (names[0], names[1]), "two": (names[3],)}
    )
    scores = evaluate_joint_ap(truth, predictions, SCHEMA, protocol)
    single = [scores.per_keypoint[name]["AP"] for name in names]
    assert scores.metrics["one"] == pytest.approx(np.mean(single[:2]))
    assert np.isnan(scores.metrics["two"])
    assert scores.metrics["AP"] == pytest.approx(np.mean(single[:3]))


def test_faults_are_one_sentence():
    truth, predictions = frames(3)
    with pytest.raises(ConfigError, match="needs the annotations' 'head_size'"):
        evaluate_joint_ap(replace(truth, extras={}), predictions, SCHEMA, PLAIN)
    with pytest.raises(ConfigError, match="has no OKS sigmas"):
        evaluate_joint_ap(truth, predictions, helpers.make_schema(NUM, None), JointApProtocol())
    lost = helpers.changed(predictions, image_id=predictions.image_id + 1000)
    with pytest.raises(PredictionError, match="images that the annotations do not list"):
        evaluate_joint_ap(truth, lost, SCHEMA, PLAIN)
    headless = replace(truth, extras={"head_size": np.full(len(truth), np.nan)})
    with pytest.raises(PredictionError, match="no positive normalising length"):
        evaluate_joint_ap(headless, predictions, SCHEMA, PLAIN)


def test_the_frames_of_each_video_go_to_a_file_of_their_own(tmp_path):
    truth, predictions = frames(4)
    files = write_submission(tmp_path, predictions, truth, SCHEMA, PLAIN)
    videos = sorted(file for file in files if file.parent.name == "frames")
    assert [file.name for file in videos] == ["0.json", "1.json", "2.json"]
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in videos]
    assert sum(len(content["images"]) for content in contents) == len(truth.image_id)
    assert sum(len(content["annotations"]) for content in contents) == len(predictions)
    for content in contents:
        ids = {image["id"] for image in content["images"]}
        assert {record["image_id"] for record in content["annotations"]} <= ids
    record = contents[0]["annotations"][0]
    assert len(record["keypoints"]) == 3 * NUM
    assert record["keypoints"][2::3] == record["scores"]


def head_box_file(folder, field, value, count):
    """A file in COCO's form with one person of `count` points and a head box."""
    points = [v for k in range(count) for v in (20.0 + k, 30.0 + 2 * k, 2)]
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points, "iscrowd": 0}
    person |= {"bbox": [10, 10, 90, 120], "center": [60, 70], "scale": 2.0, field: value}
    image = {"id": 1, "file_name": "images/a/1.jpg", "width": 200, "height": 200}
    image |= {"is_labeled": True}
    content = {"images": [image], "annotations": [person], "categories": [{"id": 1, "name": "p"}]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("card", "field", "value", "metrics"),
    [
        ("posetrack18", "bbox_head", [20, 20, 30, 40], ["Head", "Shou", "Ankl", "AP", "OKS AP"]),
        ("mpii_trb", "headbox", [20, 20, 50, 60], ["Skeleton", "Contour", "PCKh"]),
    ],
)
def test_cards_with_head_boxes_score_within_half_of_the_head(tmp_path, card, field, value, metrics):
    """The diagonal is 50 px, so head_size is 30 px, and points within 15 px are right."""
    loaded = load_dataset_card(card)
    split = loaded.split("val").model_copy(update={"annotations": "a.json"})
    loaded = loaded.model_copy(update={"splits": {"val": split}})
    head_box_file(tmp_path / "data", field, value, len(loaded.keypoint_schema))
    index = build_index(loaded, tmp_path / "data", "val", tmp_path / "cache")
    assert index.columns.extras["head_size"] == pytest.approx([30.0])
    true = np.asarray(index.columns.keypoints, dtype=float)
    for shift, expected in ((14.9, 100.0), (15.1, 0.0)):
        moved = helpers.make_predictions(true + np.asarray([shift, 0.0]), index.columns)
        scores = evaluate(loaded, index.columns, moved)
        assert set(metrics) <= set(scores.metrics)
        for name in metrics:
            if not name.startswith("OKS"):
                assert scores.metrics[name] == expected, name


def test_a_head_box_that_is_none_is_named(tmp_path):
    loaded = load_dataset_card("posetrack18")
    split = loaded.split("val").model_copy(update={"annotations": "a.json"})
    loaded = loaded.model_copy(update={"splits": {"val": split}})
    head_box_file(tmp_path / "data", "bbox_head", [1, 2, 3], len(loaded.keypoint_schema))
    with pytest.raises(
        DatasetError, match=r"annotation 1: bbox_head: found \[1, 2, 3\], expected four"
    ):
        build_index(loaded, tmp_path / "data", "val", tmp_path / "cache")
