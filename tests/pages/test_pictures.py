"""Best and worst predictions: the right ones are chosen and drawn where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit.adapters.base import Instance
from posekit.config.cards import dataset_card_from_dict
from posekit.data.index import PoseIndex, build_index
from posekit.diagnosis.pairs import pair
from posekit.pages.pictures import write_best_worst
from posekit.poses.split import split_poses
from posekit.poses.table import Poses

POINTS = np.array([[30, 20], [70, 20], [50, 80]], dtype=np.float32)


@pytest.fixture
def index(tmp_path: Path) -> PoseIndex:
    """Six instances, each in its own image of its own grey; the last has one labelled keypoint."""
    (tmp_path / "list.txt").write_text("six")
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((100, 120, 3), 40 * i + 20, np.uint8))

    def read(root, split, schema):
        for i in range(6):
            flags = np.array([2, 2, 2] if i < 5 else [2, 0, 0], dtype=np.uint8)
            yield Instance(
                image=f"{i}.png", image_id=i, instance_id=100 + i, keypoints=POINTS,
                visibility=flags, box_xywh=np.array([25.0, 15, 50, 70]), image_size=(100, 120),
            )  # fmt: skip

    card = dataset_card_from_dict(
        {
            "name": "six", "source": "made here", "licence": "none", "subject": "figure",
            "schema": {"keypoints": ["left_a", "right_a", "b"]},
            "adapter": "coco_json", "evaluator": "pck",
            "splits": {"val": {"annotations": "list.txt"}},
        },
        "card",
    )  # fmt: skip
    return build_index(card, tmp_path, "val", tmp_path / "cache", adapter=read)


def predict(index: PoseIndex, shifts: list[float]) -> Poses:
    columns = index.columns
    keypoints = np.asarray(columns.keypoints, dtype=np.float64) + np.array(shifts)[:, None, None]
    count = len(keypoints)
    predictions = split_poses(
        columns, index.schema, np.asarray(columns.image_index), np.array(columns.box_xywh),
        keypoints=keypoints, scores=np.full(keypoints.shape[:2], 0.5),
        instance_id=np.array(columns.instance_id),
    )  # fmt: skip
    return predictions.take(np.arange(count)[::-1])


def test_detections_that_belong_to_no_annotation_are_not_shown(index: PoseIndex):
    predictions = predict(index, [0.0] * 6)
    predictions.instance_id[:] = 7
    predictions.box_xywh[:, 0] += 1000
    pairs = pair(index.columns, predictions)
    assert write_best_worst(index.root / "out", index, pairs) == {}


def test_the_best_and_the_worst_are_shown_and_one_lucky_keypoint_is_no_best(index: PoseIndex):
    predictions = predict(index, [8.0, 2.0, 9.0, 4.0, 6.0, 0.0])
    pairs = pair(index.columns, predictions)
    written = write_best_worst(index.root / "out", index, pairs, count=2)
    assert written == {kind: index.root / "out" / f"{kind}.png" for kind in ("best", "worst")}
    best, worst = (cv2.imread(str(file)) for file in written.values())

    def grounds(sheet):
        greys = (20, 60, 100, 140, 180, 220)
        return [g for g in greys if (sheet == g).all(axis=2).sum() > 2000]

    assert grounds(best) == [60, 140]
    assert grounds(worst) == [20, 100]


def test_an_unreadable_image_is_passed_over(index: PoseIndex):
    (index.root / "1.png").write_bytes(b"")
    predictions = predict(index, [8.0, 2.0, 9.0, 4.0, 6.0, 0.0])
    pairs = pair(index.columns, predictions)
    written = write_best_worst(index.root / "out", index, pairs, count=1)
    assert (cv2.imread(str(written["best"])) == 140).all(axis=2).sum() > 2000
