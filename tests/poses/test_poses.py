"""Poses print well and leave in every form without losing a number."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from inference_helpers import SCHEMA_A, SCHEMA_B

from posekit.errors import ConfigError, PredictionError
from posekit.poses.boxes import BoxFile
from posekit.poses.fusion import fuse, union_schema
from posekit.poses.read import read_poses
from posekit.poses.table import Poses, join


def poses(images: list[int], schema=SCHEMA_A, head: str = "a") -> Poses:
    n = len(images)
    rng = np.random.default_rng(len(schema))
    return Poses(
        head, schema, rng.uniform(0, 100, (n, len(schema), 2)),
        rng.uniform(0.1, 1, (n, len(schema))).astype(np.float32),
        np.tile([5.0, 6, 100, 50], (n, 1)), np.full(n, 0.5), np.array(images, dtype=np.int64),
        ("one.jpg", "two.jpg"), ((120, 160), (80, 90)),
    )  # fmt: skip


def test_a_keypoint_is_reached_by_name_and_a_wrong_name_is_corrected():
    found = poses([0, 1])
    assert found["left_hand"][:, :2] == pytest.approx(found.keypoints[:, 1])
    with pytest.raises(ConfigError, match="did you mean 'left_hand'"):
        found["left_hnd"]


def test_the_text_names_image_head_and_keypoints():
    text = str(poses([0, 0, 0, 1, 1]))
    assert "5 poses of 3 keypoints in 2 images by head 'a'" in text
    assert "one.jpg: score" in text
    assert "right_hand" in text
    assert "and 2 more poses" in text


def test_coco_json_holds_every_number_and_the_skeleton():
    found = poses([0, 1, 1])
    data = json.loads(json.dumps(found.to_coco()))
    assert [image["file_name"] for image in data["images"]] == ["one.jpg", "two.jpg"]
    assert data["images"][1]["height"] == 80
    assert data["categories"][0]["keypoints"] == list(SCHEMA_A.keypoints)
    assert data["categories"][0]["skeleton"] == [[1, 2], [1, 3]]
    assert [a["image_id"] for a in data["annotations"]] == [0, 1, 1]
    triples = np.array([a["keypoints"] for a in data["annotations"]]).reshape(3, 3, 3)
    assert np.abs(triples[..., :2] - found.keypoints).max() < 1e-3
    assert data["annotations"][0]["score"] == pytest.approx(found.instance_scores[0])


def test_csv_has_a_line_per_instance_with_named_columns(tmp_path: Path):
    found = poses([0, 1])
    with found.to_csv(tmp_path / "out" / "p.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows[1]["image"] == "two.jpg"
    assert float(rows[1]["right_hand_y"]) == pytest.approx(found.keypoints[1, 2, 1], abs=1e-3)


def test_deeplabcut_csv_has_its_three_header_lines_and_an_empty_line_for_no_pose(tmp_path: Path):
    found = poses([1])
    with found.to_deeplabcut(tmp_path / "p.csv", "me").open() as stream:
        rows = list(csv.reader(stream))
    assert [row[0] for row in rows[:3]] == ["scorer", "bodyparts", "coords"]
    assert rows[1][4] == "left_hand"
    assert rows[3][1:] == [""] * 9
    values = np.array(rows[4][1:], dtype=float).reshape(3, 3)
    assert values[:, :2] == pytest.approx(found.keypoints[0], abs=1e-3)


def test_deeplabcut_csv_of_several_instances_names_individuals(tmp_path: Path):
    with poses([0, 0, 1]).to_deeplabcut(tmp_path / "p.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert [row[0] for row in rows[:4]] == ["scorer", "individuals", "bodyparts", "coords"]
    assert set(rows[1][1:]) == {"individual1", "individual2"}
    assert rows[5][-1] == ""


def test_pandas_has_a_line_per_keypoint():
    pytest.importorskip("pandas", reason="pandas is not installed")
    found = poses([0, 1])
    table = found.to_pandas()
    assert list(table.columns)[:6] == ["image", "instance", "keypoint", "x", "y", "score"]
    row = table[(table.instance == 1) & (table.keypoint == "right_hand")].iloc[0]
    assert (row.image, row.x) == ("two.jpg", pytest.approx(found.keypoints[1, 2, 0]))
    assert len(table) == 6


@dataclass
class OldKeyPoints:
    """The fields of supervision's class before 0.29."""

    xy: np.ndarray
    class_id: np.ndarray
    confidence: np.ndarray
    data: dict


@dataclass
class NewKeyPoints:
    """The fields since."""

    xy: np.ndarray
    class_id: np.ndarray
    keypoint_confidence: np.ndarray
    detection_confidence: np.ndarray
    data: dict


@pytest.mark.parametrize("kind", [OldKeyPoints, NewKeyPoints, None])
def test_supervision_gets_points_and_confidences(monkeypatch, kind):
    """supervision brings another build of OpenCV; its own class is tried where it is there."""
    if kind is None:
        kind = pytest.importorskip("supervision", reason="supervision is not installed").KeyPoints
    else:
        monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(KeyPoints=kind))
    found = poses([0, 1])
    given = found.to_supervision()
    assert isinstance(given, kind)
    assert np.asarray(given.xy) == pytest.approx(found.keypoints, abs=1e-3)
    is_new = hasattr(given, "keypoint_confidence")
    name = "keypoint_confidence" if is_new else "confidence"
    assert getattr(given, name) == pytest.approx(found.scores)
    if is_new:
        assert given.detection_confidence == pytest.approx(found.instance_scores)


@pytest.mark.parametrize(
    ("method", "package"), [("to_pandas", "pandas"), ("to_supervision", "supervision")]
)
def test_a_missing_package_is_named(monkeypatch, method: str, package: str):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PredictionError, match=f"pip install {package}"):
        getattr(poses([0]), method)()


def test_joining_sets_of_images_keeps_each_instance_with_its_image():
    both = join([poses([0, 1]), poses([1])])
    assert both is not None
    assert both.image_index.tolist() == [0, 1, 3]
    assert [len(part) for _, part in both.by_image()] == [1, 1, 0, 1]


def test_the_union_skeleton_holds_every_name_and_link_once():
    union = union_schema([SCHEMA_A, SCHEMA_B])
    assert union.keypoints == ("nose", "left_hand", "right_hand", "tail", "neck")
    assert union.flip_pairs == (("left_hand", "right_hand"),)
    assert len(union.skeleton) == 4
    turned = union_schema(
        [SCHEMA_A, type(SCHEMA_A)("t", ("left_hand", "nose"), (), (("left_hand", "nose"),))]
    )
    assert len(turned.skeleton) == 2


def test_agreeing_heads_keep_their_confidence_and_contradiction_lowers_it():
    a, b = poses([0]), poses([0], SCHEMA_B, "b")
    a.scores[:] = b.scores[:] = 0.8
    b.keypoints[0, 0] = a.keypoints[0, 1]
    b.keypoints[0, 1] = a.keypoints[0, 2] + (30, 0)
    fused = fuse({"a": a, "b": b})
    assert fused.head == "a+b"
    assert fused["left_hand"][0] == pytest.approx([*a.keypoints[0, 1], 0.8])
    assert fused["right_hand"][0, :2] == pytest.approx(a.keypoints[0, 2] + (15, 0))
    assert fused["right_hand"][0, 2] < 0.1
    assert fused["nose"][0] == pytest.approx([*a.keypoints[0, 0], 0.8])
    assert fused["tail"][0] == pytest.approx([*b.keypoints[0, 2], 0.8])


def test_the_surer_head_weighs_more():
    a, b = poses([0]), poses([0], SCHEMA_B, "b")
    a.scores[:], b.scores[:] = 0.9, 0.1
    b.keypoints[0, 0] = a.keypoints[0, 1] + (1, 0)
    assert fuse({"a": a, "b": b})["left_hand"][0, 0] == pytest.approx(a.keypoints[0, 1, 0] + 0.1)


def test_poses_are_indexed_sliced_masked_and_iterated():
    found = poses([0, 1, 1])
    assert found[-1].keypoints == pytest.approx(found.keypoints[2:])
    assert found[1:].image_index.tolist() == [1, 1]
    assert len(found[found.image_index == 0]) == 1
    assert len(found[[]]) == 0
    assert found[[2, 0]].keypoints == pytest.approx(found.keypoints[[2, 0]])
    assert [one.image_index.tolist() for one in found] == [[0], [1], [1]]
    with pytest.raises(IndexError):
        found[3]


def test_saved_poses_come_back(tmp_path: Path):
    found = poses([0, 1, 1])
    again = read_poses(found.save(tmp_path / "p.json"))
    assert again.image_names == found.image_names
    assert again.image_sizes == found.image_sizes
    assert again.keypoints == pytest.approx(found.keypoints, abs=1e-3)
    assert again.scores == pytest.approx(found.scores, abs=1e-4)
    assert again.box_scores == pytest.approx(found.box_scores, abs=1e-4)
    csv_file = found.save(tmp_path / "p.csv")
    assert csv_file.read_text().startswith("image,")
    assert read_poses(csv_file).keypoints == pytest.approx(found.keypoints, abs=1e-3)
    with pytest.raises(PredictionError, match=r"saved as \.json or \.csv"):
        found.save(tmp_path / "p.xyz")


def test_a_poses_score_is_its_boxs_times_the_mean_of_its_keypoints():
    found = poses([0, 1])
    assert found.instance_scores == pytest.approx(0.5 * found.scores.mean(axis=1))


def test_boxes_by_name_are_those_of_frame_zero(tmp_path):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps({"a.jpg": [[1, 2, 3, 4]], "b.mp4": {"1": [[5, 6, 7, 8]]}}))
    boxes = BoxFile(file)
    assert boxes.of("a.jpg").tolist() == [[1, 2, 3, 4]]
    assert boxes.of("a.jpg", 1).tolist() == boxes.of("b.mp4").tolist() == []
    assert boxes.of("b.mp4", 1).tolist() == [[5, 6, 7, 8]]
