"""What a user gets is what was evaluated."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from inference_helpers import SCHEMA_A, head

from posekit.adapters.base import Instance
from posekit.config.cards import dataset_card_from_dict
from posekit.data.index import build_index
from posekit.evaluation.registry import protocol_of
from posekit.evaluation.runner import predict_split
from posekit.inference.predictor import Predictor


@pytest.mark.parametrize("kind", ["msra", "udp"])
@pytest.mark.parametrize("flip", [False, True])
def test_predictions_equal_the_evaluations(tmp_path, make_model, picture, kind, flip):
    (tmp_path / "list.txt").write_text("two")
    boxes = np.array([[20.0, 10, 60, 90], [70, 30, 50, 51]])
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture[:, :: 1 - 2 * i, ::-1])

    def read(root, split, schema):
        for i in range(2):
            points = np.array([[30, 20], [70, 40], [80, 60]], dtype=np.float32)
            flags = np.full(3, 2, dtype=np.uint8)
            yield Instance(f"{i}.png", i, i, points, flags, boxes[i])

    card = dataset_card_from_dict(
        {
            "name": "two", "source": "made here", "licence": "none", "subject": "figure",
            "schema": {"keypoints": list(SCHEMA_A.keypoints)},
            "adapter": "coco_json", "evaluator": "pck", "box": {"padding": 1.1},
            "splits": {"val": {"annotations": "list.txt"}},
        },
        "card",
    )  # fmt: skip
    index = build_index(card, tmp_path, "val", tmp_path / "cache", adapter=read)
    model = make_model({"a": head(SCHEMA_A, kind)})
    protocol = protocol_of(card, {"flip_test": flip})
    expected = predict_split(model, "a", index, protocol)
    predictor = Predictor(model, {"a": card.box}, device="cpu", flip_test=flip)
    files = [index.image_file(row) for row in range(2)]
    got = predictor.predict(files, [expected.box_xywh[:1], expected.box_xywh[1:]])
    assert np.abs(got.keypoints - expected.keypoints).max() < 1e-4
    assert np.abs(got.scores - expected.scores).max() < 1e-5
