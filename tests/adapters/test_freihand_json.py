"""FreiHAND's release: what is odd about it, and what is refused."""

import json

import numpy as np
import pytest
from format_writers import CAMERA, SCHEMA, write_freihand

from posekit.adapters.freihand_json import read
from posekit.config.cards import load_dataset_card
from posekit.errors import DatasetError


def test_further_versions_are_the_same_hands_in_other_images(tmp_path):
    split = write_freihand(tmp_path)
    split = split.model_copy(update={"options": {**split.options, "versions": 2}})
    items = list(read(tmp_path, split, SCHEMA))
    assert [i.image for i in items][2:5] == [f"img/0000000{n}.jpg" for n in (2, 3, 4)]
    np.testing.assert_array_equal(items[0].keypoints, items[3].keypoints)
    assert items[0].image_size == (224, 224)
    np.testing.assert_array_equal(items[0].crop_size, [224, 224])


@pytest.mark.parametrize(
    ("hands", "cameras", "message"),
    [
        ([[[0, 0, 1]] * 4], [], "found 1 hands and 0 cameras"),
        (
            [[[0, 0, 1]] * 3],
            [CAMERA],
            r"hand 0: found numbers of shape \(3, 3\), expected",
        ),
        ([[[0, 0, 1]] * 4], [[1, 2]], r"K\.json, hand 0: found numbers of shape \(2,\)"),
        ([[[0, 0, -1]] * 4], [CAMERA], "hand 0: a point lies behind the camera"),
        ([[[0, 0, "1"]] * 4], [CAMERA], "hand 0: hand: found .* expected a list of numbers"),
    ],
)
def test_faults_are_named(tmp_path, hands, cameras, message):
    split = write_freihand(tmp_path)
    (tmp_path / "xyz.json").write_text(json.dumps(hands))
    (tmp_path / "K.json").write_text(json.dumps(cameras))
    with pytest.raises(DatasetError, match=message):
        list(read(tmp_path, split, SCHEMA))


def test_the_card_of_the_release_has_no_options_of_the_other_form():
    card = load_dataset_card("freihand_release")
    assert set(card.splits) == {"train", "test"}
    assert card.split("train").options == {"cameras": "training_K.json", "versions": 4}
