"""Faults of the labels themselves are each named; clean labels are not."""

from __future__ import annotations

from dataclasses import replace

import diagnosis_helpers as helpers
import numpy as np
import pytest

from posekit.diagnosis import labels
from posekit.schema import KeypointSchema

SCHEMA = KeypointSchema.from_dict({"name": "toy", "keypoints": list(helpers.KEYPOINTS)})


def everything(columns):
    return [
        *labels.repeated_ids(columns),
        *labels.duplicate_annotations(columns),
        *labels.area_findings(columns),
        *labels.keypoint_findings(columns, SCHEMA),
    ]


def test_clean_labels_are_silent():
    assert helpers.names(everything(helpers.people())) == []


def test_two_people_of_one_image_are_no_repeat():
    columns = helpers.people()
    columns = replace(columns, image_index=np.arange(len(columns)) // 2)
    assert helpers.names(everything(columns)) == []


@pytest.mark.parametrize("apart", [0.0, 0.2])
def test_an_instance_annotated_twice_is_named_with_its_twin(apart: float):
    columns = helpers.people()
    points = columns.keypoints.copy()
    points[7] = points[3] + apart
    images, boxes = columns.image_index.copy(), columns.box_xywh.copy()
    images[7], boxes[7] = images[3], boxes[3]
    found = helpers.only(
        everything(replace(columns, keypoints=points, image_index=images, box_xywh=boxes))
    )
    assert (found.name, found.count, helpers.rows_of(found)) == ("annotations_repeated", 1, [7])
    assert "like instance 4" in found.examples[0].note


def test_ids_repeat_only_within_an_image():
    columns = helpers.people()
    ids = columns.instance_id.copy()
    ids[5] = ids[4]
    assert helpers.names(labels.repeated_ids(replace(columns, instance_id=ids))) == []
    images = columns.image_index.copy()
    images[5] = images[4]
    found = helpers.only(labels.repeated_ids(replace(columns, instance_id=ids, image_index=images)))
    assert (found.name, found.severity) == ("ids_repeated", "error")
    assert helpers.rows_of(found) == [5]


@pytest.mark.parametrize(("share", "severity"), [(0.05, "warning"), (0.5, "error")])
def test_an_area_of_0_is_named_and_many_are_an_error(share: float, severity: str):
    columns = helpers.people(40)
    area = columns.area.copy()
    area[: int(40 * share)] = 0
    found = helpers.only(labels.area_findings(replace(columns, area=area)))
    assert (found.name, found.severity, found.count) == ("area_zero", severity, int(40 * share))


def test_a_missing_area_is_no_area_of_0():
    columns = helpers.people()
    assert not list(labels.area_findings(replace(columns, area=np.full(len(columns), np.nan))))


def test_a_box_without_width_is_named():
    columns = helpers.people()
    box = columns.box_xywh.copy()
    box[2, 2] = 0
    found = helpers.only(labels.area_findings(replace(columns, box_xywh=box)))
    assert (found.name, helpers.rows_of(found)) == ("boxes_empty", [2])


def test_points_labelled_in_the_corner_are_taken_for_missing_ones():
    columns = helpers.people()
    points = columns.keypoints.copy()
    points[:4, 5] = 0
    found = helpers.only(labels.keypoint_findings(helpers.moved(columns, points), SCHEMA))
    assert (found.name, found.severity) == ("missing_points_labelled", "error")
    assert helpers.rows_of(found) == [0, 1, 2, 3]


def test_a_keypoint_that_nobody_labelled_is_named():
    columns = helpers.people()
    flags = columns.visibility.copy()
    flags[:, 3] = 0
    found = helpers.only(labels.keypoint_findings(replace(columns, visibility=flags), SCHEMA))
    assert found.name == "keypoints_never_labelled"
    assert "left_hand" in found.text


def test_a_split_without_labels_is_an_error():
    columns = helpers.people()
    found = helpers.only(
        labels.keypoint_findings(replace(columns, visibility=columns.visibility * 0), SCHEMA)
    )
    assert (found.name, found.severity) == ("nothing_labelled", "error")


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((0, 0, 9), "always 2"),
        ((3, 7, 0), "always 1"),
        ((1, 1, 3), "25.0% of the labelled points are occluded"),
        ((0, 1, 3), "every point is labelled"),
        ((5, 0, 0), "no point is labelled"),
    ],
)
def test_it_is_said_whether_visibility_tells_anything(counts: tuple[int, int, int], words: str):
    assert words in labels.visibility_says(counts)
