"""The picture of a schema: a layout that is its own mirror image, and every name on it."""

import numpy as np
import pytest

from posekit.config.cards import available, load_dataset_card
from posekit.drawing import draw_schema, write_schema_picture
from posekit.drawing.schemas import layout
from posekit.errors import ConfigError
from posekit.schema import KeypointSchema


@pytest.mark.parametrize("name", ["coco", "ap10k", "wflw", "freihand2d", "deepfashion_full"])
def test_left_and_right_are_mirror_images_and_no_two_points_coincide(name):
    schema = load_dataset_card(name).keypoint_schema
    places = layout(schema)
    if schema.flip_pairs:
        np.testing.assert_allclose(places[schema.flip_indices], places * [-1, 1], atol=1e-9)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert apart[~np.eye(len(schema), dtype=bool)].min() > 1e-3


def test_linked_points_are_nearer_than_others():
    schema = load_dataset_card("coco").keypoint_schema
    places = layout(schema)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    links = schema.skeleton_indices
    linked = apart[links[:, 0], links[:, 1]]
    assert linked.mean() < 0.6 * apart[~np.eye(len(schema), dtype=bool)].mean()


def test_the_picture_of_a_pose_leaves_unknown_points_out():
    schema = KeypointSchema("toy", ("a", "b", "c"), skeleton=(("a", "b"),))
    pose = np.array([[0.0, 0], [10, 10], [np.nan, np.nan]])
    picture = draw_schema(schema, pose, size=200)
    assert picture.shape == (200, 200, 3)
    assert (draw_schema(schema, pose[:, ::-1] * [1, -1], size=200) != picture).any()


@pytest.mark.slow
def test_every_schema_that_ships_can_be_drawn():
    for name in available("datasets"):
        assert draw_schema(load_dataset_card(name).keypoint_schema, size=300).std() > 1


def test_a_name_that_is_no_picture_s_is_refused(tmp_path):
    schema = load_dataset_card("openfield_mouse").keypoint_schema
    assert write_schema_picture(tmp_path / "a.png", schema).stat().st_size > 1000
    with pytest.raises(ConfigError, match=r"ending in \.png or \.jpg"):
        write_schema_picture(tmp_path / "a.txt", schema)
