"""Boxes: clipping rules against the reference code's arithmetic, crop boxes of a card."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toy_data import make_card, make_instance

from posekit.data.boxes import clip_boxes, keypoint_boxes


def vitpose_box(box, width, height):
    """The 0.x arithmetic, one box at a time."""
    x, y, w, h = box
    x1, y1 = max(0, x), max(0, y)
    x2 = min(width - 1, x1 + max(0, w - 1))
    y2 = min(height - 1, y1 + max(0, h - 1))
    return [x1, y1, x2 - x1, y2 - y1]


def test_vitpose_clipping_equals_the_plain_arithmetic():
    random = np.random.default_rng(0)
    boxes = random.uniform(-50, 150, (200, 4))
    expected = [vitpose_box(box, 100, 80) for box in boxes]
    np.testing.assert_allclose(clip_boxes(boxes, np.tile([80, 100], (200, 1)), "vitpose"), expected)


def test_a_box_inside_becomes_one_pixel_smaller_only_in_vitpose():
    box = np.array([[10.0, 20.0, 30.0, 40.0]])
    size = np.array([[100, 100]])
    assert clip_boxes(box, size, "vitpose").tolist() == [[10, 20, 29, 39]]
    assert clip_boxes(box, size, "image").tolist() == [[10, 20, 30, 40]]
    assert clip_boxes(box, size, "none").tolist() == [[10, 20, 30, 40]]


def test_boxes_in_images_of_unknown_size_stay_as_they_are():
    box = np.array([[-10.0, 20.0, 300.0, 40.0]])
    for rule in ("vitpose", "image", "none"):
        assert clip_boxes(box, np.zeros((1, 2)), rule).tolist() == box.tolist()


def test_extent_of_no_keypoint_is_nan():
    points = np.arange(12, dtype=float).reshape(2, 3, 2)
    boxes = keypoint_boxes(points, np.array([[True, False, True], [False] * 3]))
    np.testing.assert_array_equal(boxes, [[0, 1, 4, 4], [np.nan] * 4])


def test_own_centre_wins_over_box_and_is_never_clipped(make_index):
    own = {"crop_center": np.array([500.0, 4.0]), "crop_size": np.array([50.0, 50.0])}
    center, size = make_index(instances=[make_instance(0, **own)]).crop_boxes(np.array([0]))
    assert center.tolist() == [[500, 4]]
    assert size.tolist() == [[50, 50]]


def test_card_can_ask_for_boxes_from_keypoints(make_index):
    card = make_card(box={"source": "keypoints"})
    center, size = make_index(1, card=card).crop_boxes(np.array([0]))
    np.testing.assert_allclose(size, [[16, 34]])
    np.testing.assert_allclose(center, [[30, 31]])


@pytest.mark.shared
def test_image_clipping_equals_the_boxes_that_mmpose_reads(reference):
    parsed = json.loads((reference / "samples" / "coco.parsed.json").read_text())
    parsed = parsed["train_and_test"]
    raw = json.loads((reference / "samples" / "test_coco.json").read_text())
    annotations = {one["id"]: one for one in raw["annotations"]}
    images = {one["id"]: one for one in raw["images"]}
    assert parsed
    for one in parsed:
        image = images[one["img_id"]]
        box = clip_boxes(
            annotations[one["id"]]["bbox"], [[image["height"], image["width"]]], "image"
        )
        corners = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
        np.testing.assert_allclose(corners, np.asarray(one["bbox"]).reshape(1, 4), atol=1e-3)
