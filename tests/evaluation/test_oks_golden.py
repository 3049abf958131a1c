"""Golden AP and AR of mmpose 1.3.2 with xtcocotools, on every set, noise level and setting."""

from __future__ import annotations

import json
from pathlib import Path

import eval_helpers as helpers
import numpy as np
import pytest

from posekit.evaluation import oks
from posekit.evaluation.oks_nms import rank
from posekit.evaluation.protocol import CrowdPoseProtocol, OksProtocol, WholeBodyProtocol

SETS = [
    "aic_real",
    "aic_synth",
    "animalpose_real",
    "ap10k_synth",
    "coco_many",
    "coco_real",
    "coco_synth",
    "crowdpose_real",
    "crowdpose_synth",
    "ochuman_real",
    "wholebody_real",
    "wholebody_synth",
]
PARTS = {"body": (0, 16), "foot": (17, 22), "face": (23, 90)}
PARTS |= {"lefthand": (91, 111), "righthand": (112, 132)}

pytestmark = pytest.mark.shared


def setting(name: str) -> dict:
    """Read 'oks_nms_0.9_bbox_keypoint_kptthr0.5' as protocol settings."""
    name, _, threshold = name.partition("_kptthr")
    mode = next(m for m in ("soft_oks_nms", "oks_nms", "none") if name.startswith(m))
    rest = name[len(mode) + 1 :]
    settings: dict = {"nms": mode, "keypoint_score_threshold": float(threshold or 0.2)}
    if mode != "none":
        number, _, rest = rest.partition("_")
        settings["nms_threshold"] = float(number)
    return settings | {"score": rest}


def load(reference: Path, name: str):
    folder = reference / "evaluators"
    expected = json.loads((folder / f"{name}.expected.json").read_text())
    schema = helpers.golden_schema(reference, expected["schema"])
    truth = helpers.golden_truth(folder / expected["annotations"])
    for level in expected["levels"].values():
        predictions = helpers.golden_predictions(folder / level["predictions"])
        yield schema, truth, predictions, level, expected["options"]


def protocol_for(name: str, schema, options: dict, settings: dict) -> OksProtocol:
    settings = settings | {k: v for k, v in options.items() if k == "use_area"}
    if name.startswith("crowdpose"):
        return CrowdPoseProtocol(**settings)
    if name.startswith("wholebody"):
        parts = {p: (schema.keypoints[a], schema.keypoints[b]) for p, (a, b) in PARTS.items()}
        return WholeBodyProtocol(**settings, parts=parts, detection_area="body")
    return OksProtocol(**settings)


def evaluate(truth, predictions, schema, protocol):
    for kind, function in (
        (CrowdPoseProtocol, oks.evaluate_crowdpose),
        (WholeBodyProtocol, oks.evaluate_wholebody),
        (OksProtocol, oks.evaluate_oks),
    ):
        if isinstance(protocol, kind):
            return function(truth, predictions, schema, protocol)
    raise AssertionError(protocol)


@pytest.mark.parametrize("engine", ["posekit", "pycocotools"])
@pytest.mark.parametrize("name", SETS)
def test_every_setting_gives_the_golden_numbers(reference, name, engine):
    compared = 0
    for schema, truth, predictions, level, options in load(reference, name):
        for key, expected in level["metrics"].items():
            protocol = protocol_for(name, schema, options, setting(key) | {"engine": engine})
            found = evaluate(truth, predictions, schema, protocol).metrics
            assert {m: found[m] for m in expected} == pytest.approx(expected, abs=1e-9), key
            compared += len(expected)
    assert compared >= 36


@pytest.mark.parametrize("name", SETS)
def test_nms_keeps_the_golden_number_of_detections_and_scores(reference, name):
    for schema, _, predictions, level, options in load(reference, name):
        for key in ("oks_nms_0.9", "soft_oks_nms_0.9", "oks_nms_0.3"):
            protocol = protocol_for(name, schema, options, setting(f"{key}_bbox_keypoint"))
            ranked = rank(predictions, oks.sigmas_of(schema, protocol), protocol)
            assert len(ranked.score) == level[f"num_detections_after_{key}"], key
            if key == "oks_nms_0.9":
                best = np.sort(ranked.score)[::-1][:10]
                assert best == pytest.approx(level["final_scores_first10_sorted"], abs=1e-6)


@pytest.mark.parametrize("name", ["wholebody_real", "wholebody_synth"])
def test_the_parts_of_the_whole_body_equal_xtcocotools(reference, name):
    for schema, truth, predictions, level, options in load(reference, name):
        protocol = protocol_for(name, schema, options, setting("oks_nms_0.9_bbox_keypoint"))
        found = evaluate(truth, predictions, schema, protocol).metrics
        for key, expected in level["per_part_xtcocotools_oks_nms_0.9"].items():
            part = key.removeprefix("keypoints_")
            prefix = "" if part == "wholebody" else f"{part} "
            part_found = {m: found[prefix + m] for m in expected}
            assert part_found == pytest.approx(expected, abs=1e-9), part


def test_pycocotools_itself_agrees_where_areas_exist(reference):
    compared = 0
    for name in SETS:
        for schema, truth, predictions, level, options in load(reference, name):
            expected = level.get("pycocotools_stats_oks_nms_0.9")
            if expected is not None:
                protocol = protocol_for(name, schema, options, setting("oks_nms_0.9_bbox_keypoint"))
                found = evaluate(truth, predictions, schema, protocol).metrics
                assert {m: found[m] for m in expected} == pytest.approx(expected, abs=1e-9)
                compared += 1
    assert compared >= 5


def test_similarities_equal_the_golden_matrices(reference):
    folder = reference / "evaluators"
    expected = json.loads((folder / "oks_pairs_coco.expected.json").read_text())
    schema = helpers.golden_schema(reference, expected["schema"])
    truth = helpers.golden_truth(folder / "oks_pairs_coco.annotations.json")
    detections = json.loads((folder / "oks_pairs_coco.detections.json").read_text())
    for pair in expected["pairs"]:
        protocol = OksProtocol(use_area=pair["use_area"])
        images = np.unique(truth.image_id)
        engine_truth = oks._engine_truth(truth, images, np.unique(truth.category_id), protocol)
        rows = [d for d in detections if d["image_id"] == pair["image_id"]]
        rows.sort(key=lambda d: -d["score"])
        points = np.asarray([d["keypoints"] for d in rows]).reshape(len(rows), -1, 3)[..., :2]
        instances = np.flatnonzero(np.isin(truth.instance_id, pair["gt_ids"]))
        d, g = np.meshgrid(np.arange(len(rows)), instances, indexing="ij")
        found = oks.oks_engine.similarities(
            engine_truth, points, g.ravel(), d.ravel(), np.asarray(schema.sigmas)
        )
        assert found.reshape(d.shape) == pytest.approx(
            np.asarray(pair["oks_rows_are_detections_by_score"]), abs=1e-6
        )
