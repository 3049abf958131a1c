"""KeypointSchema: flips are involutions by construction, and every mistake is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posekit.errors import ConfigError
from posekit.schema import KeypointSchema, flip_pairs_from_names

NAMES = ("nose", "left_eye", "right_eye", "right_ear", "left_ear")


def schema(**changes):
    return KeypointSchema(**{"name": "toy", "keypoints": NAMES, **changes})


def test_pairs_come_from_left_and_right_in_channel_order():
    assert flip_pairs_from_names(NAMES) == (("left_eye", "right_eye"), ("right_ear", "left_ear"))


def test_flip_indices_swap_the_pairs_and_keep_the_midline():
    np.testing.assert_array_equal(
        schema(flip_pairs=flip_pairs_from_names(NAMES)).flip_indices, [0, 2, 1, 4, 3]
    )


@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_flipping_twice_changes_nothing(count, rng):
    names = [f"k{i}" for i in range(count)]
    shuffled = rng.sample(names, count)
    pairs = tuple(zip(shuffled[0::2], shuffled[1::2], strict=False))
    kept = pairs[: rng.randint(0, len(pairs))]
    flip = KeypointSchema("toy", tuple(names), flip_pairs=kept).flip_indices
    np.testing.assert_array_equal(flip[flip], np.arange(count))


def test_masks_and_links_are_channel_numbers():
    toy = schema(skeleton=(("nose", "left_eye"),), upper_body=("nose", "left_ear"))
    np.testing.assert_array_equal(toy.skeleton_indices, [[0, 1]])
    np.testing.assert_array_equal(toy.is_upper_body, [True, False, False, False, True])
    assert schema().skeleton_indices.shape == (0, 2)


@pytest.mark.parametrize("array", ["flip_indices", "skeleton_indices", "is_upper_body"])
def test_arrays_of_a_schema_cannot_be_written(array):
    with pytest.raises(ValueError, match="read-only"):
        getattr(schema(skeleton=(("nose", "left_eye"),)), array)[0] = 0


def test_a_schema_survives_its_plain_form():
    toy = schema(
        flip_pairs=flip_pairs_from_names(NAMES),
        skeleton=(("nose", "left_eye"),),
        sigmas=(0.1,) * 5,
        sigmas_source="made up for the test",
        upper_body=("nose",),
        meanings=(("nose", "snout"),),
    )
    assert KeypointSchema.from_dict(toy.to_dict()) == toy


def test_no_flip_pairs_at_all_survive_the_plain_form():
    assert KeypointSchema.from_dict(schema().to_dict()).flip_pairs == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": ()}, r"has no keypoints"),
        ({"keypoints": ("Nose",)}, r"'Nose' is not lower_snake"),
        ({"keypoints": ("a__b",)}, r"not lower_snake"),
        ({"keypoints": (1,)}, r"keypoint name 1 is not lower_snake"),
        ({"keypoints": ("a", "b", "a")}, r"names repeat: a"),
        ({"flip_pairs": (("left_eye", "rigth_eye"),)}, r"'rigth_eye'; did you mean 'right_eye'"),
        ({"flip_pairs": (("nose", "nose"),)}, r"pairs a keypoint with itself.*leave midline"),
        (
            {"flip_pairs": (("left_eye", "right_eye"), ("right_eye", "left_ear"))},
            r"'right_eye' is in two flip pairs",
        ),
        ({"skeleton": (("nose", "tail"),)}, r"skeleton names the unknown keypoint 'tail'"),
        ({"upper_body": ("tail",)}, r"upper_body names the unknown keypoint 'tail'"),
        ({"meanings": (("tail", "tail_base"),)}, r"meanings names the unknown keypoint 'tail'"),
        ({"sigmas": (0.1,)}, r"1 sigmas for 5 keypoints"),
        ({"sigmas": (0.1,) * 4 + (0.0,), "sigmas_source": "x"}, r"positive and finite"),
        ({"sigmas": (0.1,) * 4 + (float("nan"),), "sigmas_source": "x"}, r"positive and finite"),
        ({"sigmas": (0.1,) * 5}, r"without sigmas_source; say where they come from"),
    ],
)
def test_a_wrong_schema_is_refused_with_the_reason(changes, message):
    with pytest.raises(ConfigError, match=message):
        schema(**changes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "toy"}, r"key 'keypoints' is missing"),
        ({"name": "toy", "keypoints": 5}, r"described wrongly"),
        ({"name": "toy", "keypoints": [3]}, r"expected names"),
        ({"name": "toy", "keypoints": ["a"], "sigmas": ["x"]}, r"described wrongly"),
        ({"name": "toy", "keypoints": ["a", "b"], "flip_pairs": [["a"]]}, r"described wrongly"),
        ({"name": "toy", "keypoints": [["a"]]}, r"expected names"),
    ],
)
def test_a_wrong_plain_form_is_a_config_error(data, message):
    with pytest.raises(ConfigError, match=message):
        KeypointSchema.from_dict(data)


def test_a_side_without_its_partner_is_refused_unless_pairs_are_listed():
    data = {"name": "toy", "keypoints": ["left_eye", "rigth_eye"]}
    with pytest.raises(ConfigError, match=r"'left_eye' has no partner 'right_eye'; did you mean"):
        KeypointSchema.from_dict(data)
    assert KeypointSchema.from_dict({**data, "flip_pairs": []}).flip_pairs == ()


def test_looking_up_an_unknown_keypoint_names_the_nearest():
    assert schema().index("left_ear") == 4
    with pytest.raises(ConfigError, match=r"unknown keypoint 'left_eer'; did you mean 'left_e"):
        schema().index("left_eer")
