"""Points, boxes and images in different frames are named for what they are."""

from __future__ import annotations

from dataclasses import replace

import diagnosis_helpers as helpers
import numpy as np
import pytest

from posekit.diagnosis import frames


def everything(columns):
    size = columns.image_size
    return [
        *frames.outside_image(columns, size),
        *frames.box_format(columns, size),
        *frames.points_and_boxes(columns),
    ]


@pytest.mark.parametrize("cut", [False, True])
def test_clean_frames_are_silent_also_at_the_borders(cut: bool):
    columns = helpers.people(80, cut=cut)
    found = [f for f in everything(columns) if f.severity != "note"]
    assert helpers.names(found) == []


def test_points_outside_the_image_are_counted_and_the_farthest_comes_first():
    columns = helpers.people(300)
    points = columns.keypoints.copy()
    points[4, 0] = (-5, 10)
    points[9, 1:3] = (helpers.WIDTH + 30, 20)
    found = helpers.only(frames.outside_image(helpers.moved(columns, points), columns.image_size))
    assert (found.name, found.severity, helpers.rows_of(found)) == (
        "points_outside_image", "warning", [9, 4],
    )  # fmt: skip
    assert found.text.startswith("3 of 2100 labelled points")


def test_points_outside_count_nothing_where_the_image_size_is_unknown():
    columns = helpers.people()
    points = columns.keypoints + 1000
    assert not list(
        frames.outside_image(helpers.moved(columns, points), np.zeros_like(columns.image_size))
    )


def test_a_box_wholly_outside_its_image_is_an_error():
    columns = helpers.people()
    box = columns.box_xywh.copy()
    box[6, 0] = helpers.WIDTH + 3
    found = helpers.only(frames.outside_image(replace(columns, box_xywh=box), columns.image_size))
    assert (found.name, found.severity, helpers.rows_of(found)) == (
        "boxes_outside_image", "error", [6],
    )  # fmt: skip


@pytest.mark.parametrize(("over", "told"), [(1.9, False), (3.9, False), (4.1, True)])
def test_a_box_may_reach_beyond_the_border_by_two_hundredths_of_its_side(over, told):
    columns = helpers.people()
    box = columns.box_xywh.copy()
    box[6] = [-over, 10, 200, 50]
    found = list(frames.outside_image(replace(columns, box_xywh=box), columns.image_size))
    assert [f.name for f in found if f.name == "boxes_beyond_image"] == told * [
        "boxes_beyond_image"
    ]


WRONG = {
    "corners": lambda box: np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1),
    "centre": lambda box: np.concatenate([box[:, :2] + box[:, 2:] / 2, box[:, 2:]], axis=1),
    "swapped axes": lambda box: box[:, [1, 0, 3, 2]],
    "shares": lambda box: box / [helpers.WIDTH, helpers.HEIGHT, helpers.WIDTH, helpers.HEIGHT],
}


@pytest.mark.parametrize("kind", WRONG)
def test_boxes_in_another_format_are_named_with_it(kind: str):
    columns = helpers.people()
    spoiled = replace(columns, box_xywh=WRONG[kind](columns.box_xywh))
    found = helpers.only(frames.box_format(spoiled, columns.image_size))
    assert (found.name, found.severity) == ("boxes_in_wrong_format", "error")
    assert f"read as {kind}" in found.text


def test_a_few_boxes_given_as_corners_are_listed():
    columns = helpers.people(100)
    box = columns.box_xywh.copy()
    box[10:15] = WRONG["corners"](box[10:15])
    found = helpers.only(frames.box_format(replace(columns, box_xywh=box), columns.image_size))
    assert set(helpers.rows_of(found)) <= set(range(10, 15))
    assert found.count >= 4
    assert "only some" in found.fix


def crop_192(columns):
    box = columns.box_xywh
    center, side = box[:, :2] + box[:, 2:] / 2, 1.25 * box[:, 2:].max(axis=1)
    return (columns.keypoints - center[:, None]) / side[:, None, None] * 192 + 96


SPOILED = {
    "points_in_crop_frame": lambda c: c.keypoints - c.box_xywh[:, None, :2],
    "points_axes_swapped": lambda c: c.keypoints[..., ::-1],
    "points_of_other_scale": lambda c: c.keypoints * 2,
}


@pytest.mark.parametrize("name", SPOILED)
def test_points_of_another_frame_than_their_boxes_are_named(name: str):
    columns = helpers.people()
    found = helpers.only(frames.points_and_boxes(helpers.moved(columns, SPOILED[name](columns))))
    assert (found.name, found.severity) == (name, "error")


def test_points_in_pixels_of_a_scaled_crop_are_named():
    columns = helpers.people()
    found = helpers.only(frames.points_and_boxes(helpers.moved(columns, crop_192(columns))))
    assert found.name == "points_in_crop_frame"
    assert found.count > 0.8 * len(columns)


def test_single_points_and_boxes_of_different_instances_are_listed():
    columns = helpers.people(100)
    points = columns.keypoints.copy()
    points[[3, 8]] = points[[3, 8]] + 150
    found = helpers.only(frames.points_and_boxes(helpers.moved(columns, points)))
    assert (found.name, found.severity) == ("points_far_from_box", "warning")
    assert sorted(helpers.rows_of(found)) == [3, 8]


def test_boxes_made_from_the_points_prove_nothing():
    columns = helpers.people()
    columns = replace(columns, has_box=np.zeros(len(columns), bool))
    spoiled = helpers.moved(columns, columns.keypoints * 2)
    assert not list(frames.points_and_boxes(spoiled))
