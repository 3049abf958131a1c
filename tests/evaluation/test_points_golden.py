"""Golden PCK, PCKh, NME, AUC and EPE of mmpose 1.3.2 and ViTPose."""

from __future__ import annotations

import json
from dataclasses import replace

import eval_helpers as helpers
import numpy as np
import pytest
import scipy.io

from posekit.evaluation.nme import evaluate_nme
from posekit.evaluation.pck import evaluate_pck
from posekit.evaluation.pckh import evaluate_pckh
from posekit.evaluation.protocol import AucEpeProtocol, NmeProtocol, PckhProtocol, PckProtocol

pytestmark = pytest.mark.shared


def load(reference, name, extras=()):
    folder = reference / "evaluators"
    expected = json.loads((folder / f"{name}.expected.json").read_text())
    schema = helpers.golden_schema(reference, expected["schema"])
    truth = helpers.golden_truth(folder / expected["annotations"], extras)
    for level in expected["levels"].values():
        yield schema, truth, helpers.golden_predictions(folder / level["predictions"]), level


@pytest.mark.parametrize(
    ("name", "eyes"), [("wflw", (60, 72)), ("300w", (36, 45)), ("cofw", (8, 9))]
)
def test_nme_failure_rates_and_auc_equal_the_reference(reference, name, eyes):
    for schema, truth, predictions, level in load(reference, name):
        protocol = NmeProtocol(normaliser=tuple(schema.keypoints[i] for i in eyes))
        found = evaluate_nme(truth, predictions, schema, protocol).metrics
        assert found["NME"] == pytest.approx(level["metrics"]["NME"]["NME"], abs=1e-7)
        assert found["FR@0.10"] == pytest.approx(level["failure_rate_at_0.10"], abs=1e-12)
        assert found["FR@0.08"] == pytest.approx(level["failure_rate_at_0.08"], abs=1e-12)
        exact = level["auc_at_0.10"]["exact_step_function"]
        assert found["AUC@0.10"] == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(
    ("normaliser", "key"), [("box_size", "NME_box_size"), ("box_long_side", "NME_bbox_size")]
)
def test_aflw_has_two_normalisers(reference, normaliser, key):
    for schema, truth, predictions, level in load(reference, "aflw", ("box_size",)):
        found = evaluate_nme(truth, predictions, schema, NmeProtocol(normaliser=normaliser))
        assert found.value == pytest.approx(level["metrics"][key]["NME"], abs=1e-7)


@pytest.mark.parametrize("name", ["onehand10k", "freihand2d", "fly"])
def test_pck_auc_and_epe_equal_the_reference(reference, name):
    for schema, truth, predictions, level in load(reference, name):
        found = evaluate_pck(truth, predictions, schema, AucEpeProtocol()).metrics
        expected = level["metrics"]
        assert found["PCK@0.2"] == pytest.approx(expected["PCK_0p2"]["PCK"], abs=1e-12)
        assert found["AUC"] == pytest.approx(expected["AUC_30"]["AUC"], abs=1e-12)
        assert found["EPE"] == pytest.approx(expected["EPE"]["EPE"], abs=5e-6)


def test_jhmdb_has_pck_by_box_and_by_torso(reference):
    channels = {"Head": [2], "Sho": [3, 4], "Elb": [7, 8], "Wri": [11, 12]}
    channels |= {"Hip": [5, 6], "Knee": [9, 10], "Ank": [13, 14]}
    for schema, truth, predictions, level in load(reference, "jhmdb"):
        names = schema.keypoints
        protocol = PckProtocol(
            thresholds=(0.2,),
            normalisers={"PCK": "box_long_side", "tPCK": (names[4], names[5])},
            short_below_px=1.0,
            columns={c: tuple(names[i] for i in members) for c, members in channels.items()},
        )
        found = evaluate_pck(truth, predictions, schema, protocol).metrics
        expected = level["metrics"]["Jhmdb_0p2"]
        for key, value in expected.items():
            label = f"{key}@0.2" if key in {"PCK", "tPCK"} else key
            assert found[label] == pytest.approx(value, abs=1e-12), key


@pytest.mark.parametrize(
    ("inclusive", "key"), [(True, "vitpose_evaluate"), (False, "mmpose1_MpiiPCKAccuracy")]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pckh_equals_both_references_though_errors_are_exactly_at_the_threshold(
    reference, inclusive, key, dtype
):
    folder = reference / "evaluators"
    expected = json.loads((folder / "mpii.expected.json").read_text())
    matlab = scipy.io.loadmat(folder / "mpii_mpii_gt_val.mat")
    corners = matlab["headboxes_src"]
    points = matlab["pos_gt_src"].transpose(2, 0, 1) - 1
    schema = helpers.golden_schema(reference, "mpii")
    truth = helpers.make_truth(points, matlab["jnt_missing"].T == 0)
    truth = replace(
        truth,
        keypoints=points.astype(dtype),
        extras={"head_size": 0.6 * np.linalg.norm(corners[1] - corners[0], axis=0)},
    )
    channels = {"Head": [9], "Shoulder": [12, 13], "Elbow": [11, 14], "Wrist": [10, 15]}
    channels |= {"Hip": [2, 3], "Knee": [1, 4], "Ankle": [0, 5]}
    names = schema.keypoints
    protocol = PckhProtocol(
        inclusive=inclusive,
        columns={c: tuple(names[i] for i in members) for c, members in channels.items()},
        left_out=(names[6], names[7]),
    )
    for level in expected["levels"].values():
        predictions = helpers.golden_predictions(folder / level["predictions"])
        scores = evaluate_pckh(truth, predictions, schema, protocol)
        wanted = list(level[key].values())
        assert list(scores.metrics.values()) == pytest.approx(wanted, abs=1e-6)
        if inclusive:
            per_joint = [row["PCKh"] for row in scores.per_keypoint.values()]
            assert per_joint == pytest.approx(level["per_joint_pckh"], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "eyes"), [("wflw", (60, 72)), ("300w", (36, 45)), ("cofw", (8, 9))]
)
def test_the_nme_of_each_image_equals_the_reference(reference, name, eyes):
    schema, truth, predictions, level = next(load(reference, name))
    protocol = NmeProtocol(normaliser=tuple(schema.keypoints[i] for i in eyes))
    for number, expected in enumerate(level["per_image_nme"]):
        visibility = np.zeros_like(truth.visibility)
        visibility[number] = truth.visibility[number]
        one = replace(truth, visibility=visibility)
        found = evaluate_nme(one, predictions, schema, protocol).metrics
        assert found["NME"] == pytest.approx(expected, abs=1e-8)
        assert found["AUC@0.10"] == pytest.approx(max(0, 1 - expected / 0.1), abs=1e-7)
        assert found["FR@0.08"] == (expected > 0.08)
