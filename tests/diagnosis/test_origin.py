"""An origin that is a pixel off shows at the borders, and only there."""

from __future__ import annotations

import diagnosis_helpers as helpers
import numpy as np
import pytest

from posekit.diagnosis.origin import origin_findings


def judge(columns, shift: float = 0.0):
    shifted = helpers.moved(columns, columns.keypoints + np.float32(shift))
    return list(origin_findings(shifted, columns.image_size))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("shift", "name"), [(1, "counts_from_one"), (-1, "counts_from_minus_one")])
def test_coordinates_one_pixel_off_are_suspected(shift: int, name: str, whole: bool):
    found = helpers.only(judge(helpers.people(3000, cut=True, whole=whole), shift))
    assert (found.name, found.severity) == (name, "error")
    assert found.count >= 3


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_coordinates_from_0_are_not_suspected(seed: int, cut: bool, whole: bool):
    assert not judge(helpers.people(400, seed, cut=cut, whole=whole))


def test_nothing_is_said_where_nobody_comes_near_a_border():
    assert not judge(helpers.people(120), 1)


def test_careless_labels_far_outside_are_no_wrong_origin():
    columns = helpers.people(120)
    points = columns.keypoints.copy()
    points[:20, 0, 0] = helpers.WIDTH + np.arange(20)
    assert not list(origin_findings(helpers.moved(columns, points), columns.image_size))
