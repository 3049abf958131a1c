"""Mapping one schema onto another: what is the same, what only near, and what must not match."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.config.cards import available, load_dataset_card
from posekit.errors import ConfigError
from posekit.schema import KeypointSchema, flip_pairs_from_names
from posekit.schema_map import NEAR, SYNONYMS, diff_schemas, map_schema, union_schema

CARDS = st.sampled_from(sorted(available("datasets")))


def schema(*names, name="toy", **more):
    more.setdefault("flip_pairs", flip_pairs_from_names(names))
    return KeypointSchema(name, names, **more)


@cache
def whole_card(name):
    return load_dataset_card(name)


def card(name):
    return whole_card(name).keypoint_schema


def test_coco_s_bodies_go_into_aic_s_order():
    found = map_schema(card("coco"), card("aic"))
    names = [card("coco").keypoints[i] if i >= 0 else None for i in found.indices]
    assert names == [*card("aic").keypoints[:12], None, None]
    assert found.relations[-2:] == ("missing", "missing")


def test_points_and_codes_follow_and_missing_ones_are_not_labelled():
    found = map_schema(schema("a", "b"), schema("b", "c", "a"))
    points = np.array([[[1.0, 2.0], [3.0, 4.0]]], np.float32)
    moved, codes = found.apply(points, np.array([[1, 2]], np.uint8))
    np.testing.assert_array_equal(moved, [[[3, 4], [0, 0], [1, 2]]])
    np.testing.assert_array_equal(codes, [[2, 0, 1]])
    assert (moved.dtype, codes.dtype) == (np.float32, np.uint8)
    with pytest.raises(ValueError, match="expected 2 keypoints of schema 'toy'"):
        found.apply(points[:, :1], codes)


def test_other_words_are_synonyms_and_sides_stand_anywhere():
    a = schema("top_head", "root_of_tail", "left_f_paw", "left_thumb_1", "mouth_end_left")
    b = schema("head_top", "tail_base", "left_front_paw", "left_thumb1", "left_mouth_end")
    assert map_schema(a, b).relations == ("synonym", "synonym", "synonym", "same", "same")


def test_a_left_point_never_stands_for_a_right_one():
    assert map_schema(schema("left_eye"), schema("right_eye")).relations == ("missing",)


def test_mpii_s_hip_is_near_coco_s_and_used_only_when_asked():
    coco, mpii = card("coco"), card("mpii")
    place = coco.index("left_hip")
    assert map_schema(mpii, coco).relations[place] == "missing"
    near = map_schema(mpii, coco, allow_near=True)
    assert near.relations[place] == "near"
    assert mpii.keypoints[near.indices[place]] == "left_hip"
    assert map_schema(mpii, card("lspet")).relations[card("lspet").index("left_hip")] == "same"


def test_the_same_point_goes_before_a_near_one():
    found = map_schema(schema("snout", "nose"), schema("nose"), allow_near=True)
    assert (found.indices.tolist(), found.relations) == ([1], ("same",))


def test_no_point_stands_for_two():
    found = map_schema(schema("neck"), schema("thorax", "upper_neck"), allow_near=True)
    assert sorted(found.indices.tolist()) == [-1, 0]


def test_a_mapping_by_hand_comes_first():
    a, b = schema("beak", "nose"), schema("nose")
    assert map_schema(a, b, by_hand={"nose": "beak"}).indices.tolist() == [0]
    with pytest.raises(ConfigError, match=r"unknown keypoint 'beek'; did you mean 'beak'"):
        map_schema(a, b, by_hand={"nose": "beek"})
    with pytest.raises(ConfigError, match=r"names 'beak' for two keypoints"):
        map_schema(a, schema("nose", "mouth"), by_hand={"nose": "beak", "mouth": "beak"})


@settings(deadline=None)
@given(CARDS)
def test_every_schema_is_itself(name):
    found = map_schema(card(name), card(name))
    np.testing.assert_array_equal(found.indices, np.arange(len(card(name))))
    assert set(found.relations) == {"same"}


@settings(deadline=None)
@given(CARDS, CARDS)
def test_mappings_keep_mirror_images_whatever_the_pair_of_cards(first, second):
    diff = diff_schemas(card(first), card(second))
    if {"hand", "face", "clothes"} & {whole_card(n).subject for n in (first, second)}:
        return  # one-sided hands and numbered landmarks have no sides to compare
    assert diff.flip_conflicts == ()


@settings(deadline=None)
@given(CARDS, CARDS)
def test_a_difference_accounts_for_every_keypoint_once(first, second):
    diff = diff_schemas(card(first), card(second))
    pairs = [*diff.same, *diff.synonyms, *diff.near]
    assert sorted([a for a, _ in pairs] + list(diff.only_a)) == sorted(card(first).keypoints)
    assert sorted([b for _, b in pairs] + list(diff.only_b)) == sorted(card(second).keypoints)


def test_wrong_flip_pairs_show_as_conflicts():
    right = schema("left_eye", "right_eye", "nose")
    wrong = schema("left_eye", "right_eye", "nose", flip_pairs=(("left_eye", "nose"),))
    assert "left_eye" in diff_schemas(right, wrong).flip_conflicts


def test_a_union_has_every_point_once_with_its_mirror_and_links():
    union = union_schema([card("coco"), card("aic"), card("crowdpose")])
    assert union.keypoints == (*card("coco").keypoints, "head_top", "neck")
    assert set(card("coco").flip_pairs) <= set(union.flip_pairs)
    assert ("head_top", "neck") in union.skeleton


def test_different_points_of_one_name_stay_apart_in_a_union():
    union = union_schema([card("coco"), card("mpii")])
    assert {"left_hip", "left_hip_joint"} <= set(union.keypoints)
    assert ("right_hip_joint", "left_hip_joint") in union.flip_pairs
    near = union_schema([card("coco"), card("mpii")], allow_near=True)
    assert "left_hip_joint" not in near.keypoints


@settings(deadline=None)
@given(st.lists(CARDS, min_size=1, max_size=4, unique=True))
def test_any_cards_have_a_union_that_holds_each_of_them(names):
    union = union_schema([card(name) for name in names])
    for name in names:
        assert "missing" not in map_schema(union, card(name)).relations


def test_a_union_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="at least one schema"):
        union_schema([])


def test_no_word_is_in_two_groups_and_no_synonyms_are_near():
    words = [word for group in SYNONYMS for word in group]
    assert len(words) == len(set(words))
    assert not any(pair <= group for pair in NEAR for group in SYNONYMS)
