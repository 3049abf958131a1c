"""Keypoints in another order are found in some records, in a whole split, and everywhere."""

from __future__ import annotations

import diagnosis_helpers as helpers
import numpy as np
import pytest

from posekit.diagnosis import order
from posekit.diagnosis.pose_shapes import select_poses


def shuffled_order(num: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).permutation(num)


@pytest.mark.parametrize("name", ["coco", "ap10k", "wflw"])
def test_one_order_throughout_is_silent(practice_index, name: str):
    index, held_out = practice_index(name), practice_index(name, split_for_evaluation(name))
    poses, others = select_poses(index.columns), select_poses(held_out.columns)
    assert not list(order.shuffled_records(index.columns, poses, index.schema))
    assert not list(order.order_against(others, poses, index.schema, "train"))
    assert not list(order.skeleton_fits(poses, index.schema))


def split_for_evaluation(name: str) -> str:
    return "test" if name == "wflw" else "val"


@pytest.mark.parametrize("name", ["coco", "wflw"])
@pytest.mark.parametrize("share", [0.1, 0.35])
def test_records_in_another_order_are_found(practice_index, name: str, share: float):
    index = practice_index(name)
    poses = select_poses(index.columns)
    planted = np.random.default_rng(2).choice(len(poses), round(share * len(poses)), replace=False)
    spoiled = helpers.permuted(poses, planted, shuffled_order(len(index.schema)))
    found = helpers.only(order.shuffled_records(index.columns, spoiled, index.schema))
    rows, wanted = set(helpers.rows_of(found)), set(poses.rows[planted].tolist())
    assert (found.name, found.severity) == ("keypoint_order_shuffled", "error")
    # eleven faces are few: a permutation of contour points may still look like a face
    assert len(rows & wanted) >= (0.8 if len(wanted) > 20 else 0.5) * len(wanted)
    assert rows <= wanted


def test_exchanged_sides_are_no_shuffled_order(practice_index):
    index = practice_index("wflw")
    poses = select_poses(index.columns)
    spoiled = helpers.permuted(poses, np.arange(30), index.schema.flip_indices)
    assert not list(order.shuffled_records(index.columns, spoiled, index.schema))


def test_a_split_in_another_order_than_train_is_named(practice_index):
    index = practice_index("coco")
    poses, held_out = (
        select_poses(index.columns),
        select_poses(practice_index("coco", "val").columns),
    )
    everyone = np.arange(len(held_out))
    spoiled = helpers.permuted(held_out, everyone, shuffled_order(len(index.schema)))
    found = helpers.only(order.order_against(spoiled, poses, index.schema, "train"))
    assert found.name == "keypoint_order_differs"
    assert "the place of" in found.text


def test_a_split_with_its_sides_exchanged_is_named(practice_index):
    index = practice_index("wflw")
    poses, held_out = (select_poses(practice_index("wflw", s).columns) for s in ("train", "test"))
    spoiled = helpers.permuted(held_out, np.arange(len(held_out)), index.schema.flip_indices)
    found = helpers.only(order.order_against(spoiled, poses, index.schema, "train"))
    assert found.name == "sides_differ_between_splits"


def test_a_whole_dataset_in_another_order_does_not_fit_its_skeleton(practice_index):
    index = practice_index("coco")
    poses = select_poses(index.columns)
    spoiled = helpers.permuted(poses, np.arange(len(poses)), shuffled_order(len(index.schema)))
    found = helpers.only(order.skeleton_fits(spoiled, index.schema))
    assert found.name == "skeleton_does_not_fit"
