"""What a user gets is what was evaluated."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_helpers import SCHEMA_A, EagerSession, head

from posekit.adapters.base import Instance
from posekit.config.cards import dataset_card_from_dict
from posekit.data.index import build_index
from posekit.evaluation.registry import protocol_of
from posekit.evaluation.runner import predict_split
from posekit.inference import parity
from posekit.inference.predictor import Predictor
from posekit.models import predict as road

BOXES = np.array([[20.0, 10, 60, 90], [70, 30, 50, 51]])


@pytest.fixture
def index(tmp_path, picture):
    (tmp_path / "list.txt").write_text("two")
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture[:, :: 1 - 2 * i, ::-1])

    def read(root, split, schema):
        for i in range(2):
            points = np.array([[30, 20], [70, 40], [80, 60]], dtype=np.float32)
            flags = np.full(3, 2, dtype=np.uint8)
            yield Instance(f"{i}.png", i, i, points, flags, BOXES[i])

    card = dataset_card_from_dict(
        {
            "name": "two", "source": "made here", "licence": "none", "subject": "figure",
            "schema": {"keypoints": list(SCHEMA_A.keypoints)},
            "adapter": "coco_json", "evaluator": "pck", "box": {"padding": 1.1},
            "splits": {"val": {"annotations": "list.txt"}},
        },
        "card",
    )  # fmt: skip
    return build_index(card, tmp_path, "val", tmp_path / "cache", adapter=read)


@pytest.mark.parametrize("kind", ["msra", "udp"])
@pytest.mark.parametrize("flip", [False, True])
def test_predictions_equal_the_evaluations(index, make_model, kind, flip):
    model = make_model({"a": head(SCHEMA_A, kind)})
    protocol = protocol_of(index.card, {"flip_test": flip})
    expected = predict_split(model, "a", index, protocol)
    predictor = Predictor(model, {"a": index.card.box}, device="cpu", flip_test=flip)
    files = [index.image_file(row) for row in range(2)]
    got = predictor.predict(files, [expected.box_xywh[:1], expected.box_xywh[1:]])
    assert np.abs(got.keypoints - expected.keypoints).max() < 1e-4
    assert np.abs(got.scores - expected.scores).max() < 1e-5


def shift_in_image(monkeypatch):
    original = road.transform_points
    monkeypatch.setattr(road, "transform_points", lambda *args: original(*args) + 5.0)


def shift_in_maps(monkeypatch):
    original = road._maps

    def rolled(*args):
        return {name: maps.roll(3, dims=-1) for name, maps in original(*args).items()}

    monkeypatch.setattr(road, "_maps", rolled)


@pytest.mark.parametrize("plant", [shift_in_image, shift_in_maps])
def test_a_change_of_the_one_road_is_seen_by_evaluation_prediction_and_the_exports_gate(
    index, make_model, picture, monkeypatch, plant
):
    predictor = Predictor(make_model({"a": head(SCHEMA_A, "msra")}), device="cpu")
    session = EagerSession(predictor, ["a"])
    monkeypatch.setattr(parity, "open_session", lambda _file: session)
    protocol = protocol_of(index.card, {"flip_test": False})

    def outcome():
        evaluated = predict_split(predictor.model, "a", index, protocol).keypoints
        predicted = predictor.predict(picture, BOXES).keypoints
        gate = parity.measure_parity(
            predictor, Path("a.onnx"), ["a"], [(picture, BOXES)], limit_px=0.1
        )
        return evaluated, predicted, gate.drift_px

    before = outcome()
    assert before[2] < 0.1
    plant(monkeypatch)
    after = outcome()
    assert np.abs(after[0] - before[0]).min(axis=(0, 1)).max() > 1
    assert np.abs(after[1] - before[1]).min(axis=(0, 1)).max() > 1
    assert after[2] > 1
