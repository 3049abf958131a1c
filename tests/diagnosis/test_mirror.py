"""Left and right out of poses."""

import numpy as np
import pytest

from posekit.adapters import get_adapter
from posekit.adapters.base import Instance
from posekit.config.cards import load_dataset_card
from posekit.diagnosis.pose_shapes import PoseShapes
from posekit.diagnosis.sides import find_mirror, mean_shape, pairs_by_geometry
from posekit.schema import KeypointSchema

SHAPE = np.array([[0, 9], [-3, 7], [3, 7], [-5, 2], [5, 2], [0, -8], [-2, -4], [2, -4]], float)
PAIRS = ((1, 2), (3, 4), (6, 7))


def poses(count, noise, seed=0):
    """The shape moved, scaled, turned any way, and jittered."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, count)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1)
    points = np.einsum("nij,kj->nki", turn.reshape(-1, 2, 2), SHAPE)
    points = points * rng.uniform(1, 20, (count, 1, 1)) + rng.uniform(-99, 99, (count, 1, 2))
    size = np.abs(points - points.mean(axis=1, keepdims=True)).mean(axis=(1, 2), keepdims=True)
    return points + rng.normal(size=points.shape) * noise * size


def test_the_mean_shape_is_the_shape_however_poses_are_turned():
    labelled = np.random.default_rng(1).random((60, 8)) < 0.9
    shape = mean_shape(poses(60, 0.03), labelled)
    distances = np.linalg.norm(shape[:, None] - shape[None], axis=2)
    centred = SHAPE - SHAPE.mean(axis=0)
    expected = np.linalg.norm(SHAPE[:, None] - SHAPE[None], axis=2)
    expected /= np.sqrt((centred**2).sum(axis=1).mean())
    np.testing.assert_allclose(distances, expected, atol=0.1)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_pairs_are_found_whatever_the_order_of_points(order):
    permutation = np.random.default_rng(order).permutation(8)
    shape = mean_shape(poses(80, 0.05, order)[:, permutation], np.ones((80, 8), bool))
    mirror = find_mirror(shape)
    where = {int(old): new for new, old in enumerate(permutation)}
    assert mirror.is_clear
    assert set(mirror.pairs) == {tuple(sorted((where[a], where[b]))) for a, b in PAIRS}


def test_a_lopsided_shape_is_not_clear():
    shape = SHAPE.copy()
    shape[[1, 4, 6]] += [[4, 5], [-3, 3], [6, 0]]
    assert not find_mirror((shape - shape.mean(axis=0)) / 5).is_clear


def test_few_poses_or_a_point_never_labelled_give_no_shape():
    assert mean_shape(poses(4, 0.0), np.ones((4, 8), bool)) is None
    labelled = np.ones((30, 8), bool)
    labelled[:, 3] = False
    assert mean_shape(poses(30, 0.0), labelled) is None


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("youtube_faces68", "udacity_faces"),
        ("openfield_mouse", "openfield-Pranav-2018-10-30"),
        ("coco", "coco_mini"),
        ("lspet", "lspet"),
    ],
)
def test_the_poses_of_real_data_give_the_pairs_of_their_cards(name, folder, shared_data):
    card = load_dataset_card(name)
    items = get_adapter(card)(shared_data / folder, card.split("train"), card.keypoint_schema)
    instances = [item for item in items if isinstance(item, Instance)][:400]
    points = np.stack([i.keypoints for i in instances])
    mirror = find_mirror(mean_shape(points, np.stack([i.visibility > 0 for i in instances])))
    schema = card.keypoint_schema
    assert mirror.is_clear
    assert set(mirror.pairs) == {
        tuple(sorted((schema.index(a), schema.index(b)))) for a, b in schema.flip_pairs
    }


@pytest.mark.shared
def test_horses_seen_from_the_side_are_not_clear(shared_data):
    card = load_dataset_card("livestock_horse")
    items = get_adapter(card)(
        shared_data / "livestock_horse", card.split("train"), card.keypoint_schema
    )
    instances = [item for item in items if isinstance(item, Instance)]
    points = np.stack([i.keypoints for i in instances])
    shape = mean_shape(points, np.stack([i.visibility > 0 for i in instances]))
    assert shape is None or not find_mirror(shape).is_clear


@pytest.mark.parametrize("seed", range(4))
def test_pairs_that_new_reads_out_of_poses_are_not_contradicted_by_check(seed):
    # seen from above, head to the right; nearly its own mirror image from head to tail too
    shape = np.array([[5, 0], [3, 2], [3, -2], [-3, 2.1], [-3, -2.1], [-5.1, 0]])
    rng = np.random.default_rng(seed)
    points = 50 + 4 * (shape + rng.normal(scale=0.8, size=(200, *shape.shape)))
    labelled = np.ones(points.shape[:2], bool)
    mirror = find_mirror(mean_shape(points, labelled))
    assert mirror.is_clear
    low, size = points.min(axis=1), np.ptp(points, axis=1)
    place = {"center": low + size / 2, "size": size, "long_side": size.max(axis=1)}
    shapes = PoseShapes(np.arange(200), points, labelled, labelled, **place)
    pairs = tuple(("abcdef"[a], "abcdef"[b]) for a, b in mirror.pairs)
    assert list(pairs_by_geometry(shapes, KeypointSchema("above", tuple("abcdef"), pairs))) == []
