"""Poses far from all others are listed with the keypoint that is off."""

from __future__ import annotations

import diagnosis_helpers as helpers
import numpy as np
import pytest

from posekit.diagnosis.outliers import outlier_findings, pose_oddness
from posekit.diagnosis.pose_shapes import select_poses
from posekit.schema import KeypointSchema

SCHEMA = KeypointSchema.from_dict({"name": "toy", "keypoints": list(helpers.KEYPOINTS)})


@pytest.mark.parametrize("name", ["coco", "ap10k", "wflw"])
def test_clean_poses_are_silent(practice_index, name: str):
    index = practice_index(name)
    assert not list(outlier_findings(index.columns, select_poses(index.columns), index.schema))


def test_a_misplaced_point_is_listed_by_its_name():
    columns = helpers.people(120)
    points = columns.keypoints.copy()
    points[11, 4] = points[11, 5] + (40, 40)
    columns = helpers.moved(columns, points)
    found = helpers.only(outlier_findings(columns, select_poses(columns), SCHEMA))
    assert (found.name, helpers.rows_of(found)) == ("pose_outliers", [11])
    assert "above all right_hand" in found.examples[0].note


def test_the_distance_is_mahalanobis_of_the_labelled_points():
    columns = helpers.people(300)
    flags = columns.visibility.copy()
    flags[5, 2] = 0
    poses = select_poses(helpers.people(300, visibility=flags))
    found = pose_oddness(poses)
    flat = poses.in_box().reshape(len(poses), -1)
    known = ~np.isnan(flat)
    near = np.argsort(found.distance)[: round(0.95 * len(poses))]
    mean = np.nanmean(flat[near], axis=0)
    spread = np.ma.cov(np.ma.masked_invalid(flat[near]), rowvar=False, bias=True)
    covariance = np.asarray(spread) + np.eye(14) * 0.02 * np.trace(np.asarray(spread)) / 14
    for i in (0, 5, 17):
        offset = (flat[i] - mean)[known[i]]
        inverse = np.linalg.inv(covariance[np.ix_(known[i], known[i])])
        assert found.distance[i] == pytest.approx(
            np.sqrt(offset @ inverse @ offset / known[i].sum()), rel=0.1
        )
