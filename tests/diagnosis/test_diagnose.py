"""Every planted fault is called by its name; clean runs stay silent."""

from __future__ import annotations

from dataclasses import replace

import eval_helpers as helpers
import numpy as np
import pytest

from posekit.diagnosis.diagnose import diagnose
from posekit.diagnosis.geometry import geometry_findings
from posekit.diagnosis.pairs import Pairs
from posekit.evaluation.nme import evaluate_nme
from posekit.evaluation.oks import evaluate_oks, evaluate_wholebody
from posekit.evaluation.protocol import (
    NmeProtocol,
    OksProtocol,
    PckProtocol,
    WholeBodyProtocol,
)
from posekit.schema import KeypointSchema

NUM = 6
SCHEMA = helpers.make_schema(NUM)
POSE = np.asarray([[0.2, 0.1], [0.8, 0.12], [0.1, 0.5], [0.9, 0.45], [0.3, 0.9], [0.7, 0.95]])


def clean(seed: int = 0, count: int = 60, noise: float = 0.02):
    """People of many sizes at many places, two to an image; scores fall with the error."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(40, 200, (count, 2))
    corner = rng.uniform(0, 800, (count, 2))
    pose = POSE + rng.normal(size=(count, NUM, 2)) * 0.1
    points = np.round(corner[:, None] + pose * size[:, None], 2)
    labelled = rng.random((count, NUM)) < 0.9
    labelled[:, 0] = True
    box = np.concatenate([corner, size], axis=1)
    images = count // 2
    truth = helpers.make_truth(
        points,
        labelled,
        box_xywh=box,
        area=size.prod(axis=1),
        image_index=np.arange(count) % images,
        image_id=np.arange(images) + 100,
        image_path=np.asarray([b"x"] * images),
        image_size=np.zeros((images, 2), np.int32),
    )
    spread = noise * rng.uniform(0.2, 2, (count, 1, 1)) * size.max(axis=1)[:, None, None]
    moved = points + rng.normal(size=points.shape) * spread
    scores = np.clip(1 - spread[:, :, 0] / 20 + rng.normal(size=(count, NUM)) * 0.05, 0.05, 1)
    return truth, helpers.make_predictions(moved, truth, scores=scores)


def with_points(change):
    def fault(truth, predictions):
        return truth, replace(predictions, keypoints=change(predictions.keypoints, truth))

    return fault


def change_predictions(**fields):
    def fault(truth, predictions):
        values = {name: value(predictions, truth) for name, value in fields.items()}
        return truth, helpers.changed(predictions, **values)

    return fault


def change_truth(**fields):
    def fault(truth, predictions):
        return replace(truth, **{n: value(truth) for n, value in fields.items()}), predictions

    return fault


def in_crop(points, truth):
    box = truth.box_xywh
    center, size = box[:, :2] + box[:, 2:] / 2, 1.25 * box[:, 2:].max(axis=1)
    return (points - center[:, None]) / size[:, None, None] * 192 + 96


def mirrored(points, truth):
    middle = truth.box_xywh[:, 0] + truth.box_xywh[:, 2] / 2
    turned = points.copy()
    turned[..., 0] = 2 * middle[:, None] - points[..., 0]
    return turned[:, SCHEMA.flip_indices]


def broken(points, truth):
    points = points.copy()
    points[3, 2] = np.nan
    return points


def one_off(points, truth):
    points = points.copy()
    points[:, 3] += truth.box_xywh[:, 2:] * 0.6
    return points


def random_poses(points, truth):
    rng = np.random.default_rng(9)
    return points + rng.normal(size=points.shape) * truth.box_xywh[:, 2:].max(1)[:, None, None]


FAULTS = {
    "no_common_images": lambda t, p: (t, helpers.of_images(p, p.image_id + 10_000)),
    "unknown_images": lambda t, p: (
        t,
        helpers.of_images(p, np.where(np.arange(len(p)) < 4, 9999, p.image_id)),
    ),
    "missing_images": lambda t, p: (t, p.take(np.flatnonzero(p.image_id % 2 == 0))),
    "wrong_category": change_predictions(category_id=lambda p, t: p.category_id + 4),
    "nan_predictions": with_points(broken),
    "zero_area": change_truth(area=lambda t: np.zeros(len(t))),
    "nothing_labelled": change_truth(visibility=lambda t: np.zeros_like(t.visibility)),
    "no_predictions": lambda t, p: (t, p.take(np.zeros(0, int))),
    "colliding_ids": change_predictions(instance_id=lambda p, t: np.zeros(len(p), np.int64)),
    "zero_scores": change_predictions(scores=lambda p, t: np.zeros_like(p.scores)),
    "constant_scores": change_predictions(scores=lambda p, t: np.ones_like(p.scores)),
    "scores_upside_down": change_predictions(scores=lambda p, t: 1.05 - p.scores),
    "too_good": with_points(lambda x, t: t.keypoints.astype(float)),
    "swapped_sides": with_points(lambda x, t: x[:, SCHEMA.flip_indices]),
    "mirrored": with_points(mirrored),
    "shifted_origin": with_points(lambda x, t: x + 2.0),
    "scaled_points": with_points(lambda x, t: x * 0.5),
    "swapped_axes": with_points(lambda x, t: x[..., ::-1]),
    "normalised_points": with_points(lambda x, t: x / 1000),
    "crop_frame": with_points(in_crop),
    "wrong_keypoint_order": with_points(lambda x, t: np.roll(x, 1, axis=1)),
    "shuffled_instances": with_points(lambda x, t: np.roll(x, 7, axis=0)),
    "same_pose_everywhere": with_points(
        lambda x, t: t.box_xywh[:, None, :2] + POSE * t.box_xywh[:, None, 2:]
    ),
    "unrelated_poses": with_points(random_poses),
    "bad_keypoint": with_points(one_off),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_fault_is_called_by_its_name(name, seed):
    truth, predictions = FAULTS[name](*clean(seed))
    found = diagnose(truth, predictions, SCHEMA, OksProtocol())
    assert name in found.names, found.text()
    assert found.names == (name,), found.text()
    assert f"{name}: " in found.text()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise", [0.005, 0.02, 0.06, 0.15])
def test_clean_runs_stay_silent(seed, noise):
    truth, predictions = clean(seed, noise=noise)
    for protocol in (OksProtocol(), PckProtocol()):
        found = diagnose(truth, predictions, SCHEMA, protocol)
        assert found.findings == (), found.text()
    assert found.text() == "Nothing looks wrong."


def test_sigmas_of_another_number_are_named():
    truth, predictions = clean()
    protocol = OksProtocol(sigmas=(0.1,) * 5, sigmas_source="test")
    assert diagnose(truth, predictions, SCHEMA, protocol).names == ("wrong_number_of_sigmas",)


def test_missing_sigmas_are_named():
    truth, predictions = clean()
    found = diagnose(truth, predictions, helpers.make_schema(NUM, None), OksProtocol())
    assert found.names == ("no_sigmas",)


def test_sigmas_ten_times_too_large_are_named():
    truth, predictions = clean()
    found = diagnose(truth, predictions, helpers.make_schema(NUM, 0.7), OksProtocol())
    assert found.names == ("sigmas_too_large",)


def test_another_number_of_keypoints_is_named():
    truth, predictions = clean()
    found = diagnose(truth, predictions, helpers.make_schema(NUM + 1), OksProtocol())
    assert found.names == ("wrong_keypoint_count",)


def test_an_area_range_without_people_explains_its_minus_one():
    truth, predictions = clean()
    keep = np.asarray(truth.area) > 96**2
    visibility = np.where(keep[:, None], truth.visibility, 0)
    truth = replace(truth, visibility=visibility)
    scores = evaluate_oks(truth, predictions, SCHEMA, OksProtocol())
    assert scores.metrics["AP (M)"] == -1
    found = diagnose(truth, predictions, SCHEMA, OksProtocol(), scores)
    assert found.names == ("empty_area_range",)
    assert "32^2 to 96^2" in found.text()


def test_an_empty_subset_or_part_explains_its_number():
    truth, predictions = clean()
    nobody = replace(truth, extras={"blur": np.zeros(len(truth))})
    protocol = NmeProtocol(subsets={"blur": "blur"})
    scores = evaluate_nme(nobody, predictions, SCHEMA, protocol)
    assert np.isnan(scores.metrics["NME (blur)"])
    found = diagnose(nobody, predictions, SCHEMA, protocol, scores)
    assert found.names == ("empty_bucket",)
    assert "NME (blur)" in found.text()
    assert diagnose(truth, predictions, SCHEMA, protocol).findings == ()
    visibility = truth.visibility.copy()
    visibility[:, 4:] = 0
    footless = replace(truth, visibility=visibility)
    names = SCHEMA.keypoints
    parts = WholeBodyProtocol(parts={"foot": (names[4], names[5])})
    scores = evaluate_wholebody(footless, predictions, SCHEMA, parts)
    assert scores.metrics["foot AP"] == -1
    found = diagnose(footless, predictions, SCHEMA, parts, scores)
    assert found.names == ("empty_bucket",)
    assert "foot AP" in found.text()


def test_detector_boxes_are_paired_by_overlap():
    truth, predictions = clean()
    detected = replace(predictions, instance_id=np.arange(len(predictions)) + 5000)
    assert diagnose(truth, detected, SCHEMA, OksProtocol()).findings == ()
    swapped = replace(detected, keypoints=detected.keypoints[:, SCHEMA.flip_indices])
    assert diagnose(truth, swapped, SCHEMA, OksProtocol()).names == ("swapped_sides",)


def test_a_schema_without_sides_is_never_called_swapped():
    truth, predictions = clean()
    plain = KeypointSchema("plain", tuple(f"k{i}" for i in range(NUM)))
    found = diagnose(truth, predictions, plain, PckProtocol())
    assert found.findings == ()


def test_findings_for_json_keep_the_keys_of_earlier_files():
    fatal = diagnose(*FAULTS["no_predictions"](*clean()), SCHEMA, OksProtocol())
    mild = diagnose(*FAULTS["shifted_origin"](*clean()), SCHEMA, OksProtocol())
    assert [(f["name"], f["is_fatal"]) for f in (*fatal.to_list(), *mild.to_list())] == [
        ("no_predictions", True),
        ("shifted_origin", False),
    ]
    assert set(mild.to_list()[0]) == {"name", "text", "is_fatal"}


def test_points_in_crop_pixels_need_to_leave_their_boxes_along_one_axis_only():
    rng = np.random.default_rng(0)
    n = 40
    relative = rng.uniform(-0.5, 0.5, (n, NUM, 2))
    center = np.tile([100.0, 900], (n, 1))
    side = np.full(n, 100.0)
    labelled, rows = np.ones((n, NUM), bool), np.arange(n)
    true = center[:, None] + 100 * relative
    found = 100 + 80 * relative  # inside the box along x, far above it along y
    pairs = Pairs(rows, rows, true, found, labelled, labelled * 1.0, center,
                  np.tile(side[:, None], 2), side, "instance id")  # fmt: skip
    assert [f.name for f in geometry_findings(pairs, helpers.make_schema(NUM))] == ["crop_frame"]
