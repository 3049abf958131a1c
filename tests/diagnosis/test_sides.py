"""Flip pairs are proved, and swapped instances found, on practice data whose sides are right."""

from __future__ import annotations

from dataclasses import replace

import diagnosis_helpers as helpers
import numpy as np
import pytest

from posekit.config.cards import available, load_dataset_card
from posekit.diagnosis import sides, swaps
from posekit.diagnosis.pose_shapes import select_poses
from posekit.diagnosis.swaps import find_side_swaps


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([["a", "b"], ["a", "c"]], "'a' is paired with 'b' and with 'c'"),
        ([["a", "a"]], "'a' is paired with itself"),
        ([["a", "x"]], "names 'x', which is no keypoint"),
        ([["a", "b"], ["b", "a"]], "is listed twice"),
        ([["a", "b", "c"]], "is not a pair"),
    ],
)
def test_pairs_that_are_no_involution_are_told_why(pairs: list[list[str]], words: str):
    assert any(words in problem for problem in sides.involution_problems("abcd", pairs))


def test_an_involution_has_no_problem():
    assert sides.involution_problems("abcde", [["a", "b"], ["d", "c"]]) == []


def test_the_cards_that_ship_pair_left_with_right():
    for name in available("datasets"):
        schema = load_dataset_card(name).keypoint_schema
        assert helpers.names(sides.pairs_by_name(schema)) == [], name


def test_a_left_and_right_that_are_no_pair_are_named():
    schema = load_dataset_card("coco").keypoint_schema
    fewer = replace(schema, flip_pairs=schema.flip_pairs[1:])
    found = helpers.only(sides.pairs_by_name(fewer))
    assert found.name == "flip_pairs_missing"
    assert "(left_eye, right_eye)" in found.text


def test_a_left_that_is_paired_with_another_right_is_named():
    schema = load_dataset_card("coco").keypoint_schema
    (a, b), (c, d), *rest = schema.flip_pairs
    found = helpers.only(sides.pairs_by_name(replace(schema, flip_pairs=((a, d), (c, b), *rest))))
    assert found.name == "flip_pairs_wrong"
    assert f"({a}, {b}), ({c}, {d})" in found.text


@pytest.mark.parametrize("name", ["coco", "ap10k", "wflw"])
def test_right_flip_pairs_agree_with_the_mirrored_mean_pose(practice_index, name: str):
    index = practice_index(name)
    poses = select_poses(index.columns)
    assert helpers.names(sides.pairs_by_geometry(poses, index.schema)) == []


def test_missing_flip_pairs_show_in_the_mirrored_mean_pose(practice_index):
    index = practice_index("wflw")
    left_out = (index.schema.flip_pairs[1], index.schema.flip_pairs[33])
    kept = tuple(pair for pair in index.schema.flip_pairs if pair not in left_out)
    found = helpers.only(
        sides.pairs_by_geometry(select_poses(index.columns), replace(index.schema, flip_pairs=kept))
    )
    assert (found.name, found.count) == ("flip_pairs_missing", 2)
    assert all(f"({a}, {b})" in found.text for a, b in left_out)


def test_wrong_flip_pairs_show_in_the_mirrored_mean_pose(practice_index):
    index = practice_index("wflw")
    pairs = list(index.schema.flip_pairs)
    (a, b), (c, d) = pairs[0], pairs[40]
    pairs[0], pairs[40] = (a, d), (c, b)
    found = helpers.only(
        sides.pairs_by_geometry(
            select_poses(index.columns), replace(index.schema, flip_pairs=tuple(pairs))
        )
    )
    assert (found.name, found.count) == ("flip_pairs_wrong", 2)


@pytest.mark.parametrize("name", ["coco", "ap10k", "wflw"])
def test_nobody_is_listed_where_no_sides_are_swapped(practice_index, name: str):
    index = practice_index(name)
    poses = select_poses(index.columns)
    assert not list(swaps.swapped_sides(index.columns, poses, index.schema))


@pytest.mark.parametrize(("name", "recall"), [("ap10k", 0.9), ("wflw", 0.6)])
def test_sides_swapped_in_3_percent_are_found(practice_index, name: str, recall: float):
    index = practice_index(name)
    poses = select_poses(index.columns)
    planted = np.random.default_rng(5).choice(len(poses), round(0.03 * len(poses)), replace=False)
    poses = helpers.permuted(poses, planted, index.schema.flip_indices)
    found = helpers.only(swaps.swapped_sides(index.columns, poses, index.schema))
    rows = set(helpers.rows_of(found))
    hits = len(rows & set(poses.rows[planted].tolist()))
    assert found.name == "sides_swapped"
    assert hits / len(planted) >= recall
    assert hits == len(rows)
    assert "likelier" in found.examples[0].note


def test_the_likelihood_ratio_changes_its_sign_with_the_sides(practice_index):
    index = practice_index("wflw")
    poses = select_poses(index.columns)
    flip = index.schema.flip_indices
    before = find_side_swaps(poses, flip)
    after = find_side_swaps(helpers.permuted(poses, np.array([4]), flip), flip)
    assert before is not None
    assert after is not None
    assert before.log_ratio[4] < -3
    assert after.log_ratio[4] > 3


def test_unpaired_or_few_poses_are_not_judged():
    schema_flip = np.arange(7)
    poses = select_poses(helpers.people(60))
    assert find_side_swaps(poses, schema_flip) is None
    assert (
        find_side_swaps(select_poses(helpers.people(20)), np.array([0, 2, 1, 4, 3, 6, 5])) is None
    )
