"""UDP's disc and distances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.codecs import build_codec

SIZE = (256, 192)
inner = st.lists(st.tuples(st.floats(40, 150), st.floats(40, 215)), min_size=1, max_size=5).map(
    lambda points: torch.tensor([points], dtype=torch.float32)
)


def test_targets_are_a_disc_and_the_way_to_the_keypoint():
    codec = build_codec({"kind": "udp_combined"}, SIZE)
    point = torch.tensor([[[80.0, 100.0]]])
    targets, weights = codec.encode(point, torch.ones(1, 1))
    x, y = 80 * 47 / 191, 100 * 63 / 255
    radius = 0.0546875 * 64
    for row in range(64):
        for column in range(48):
            way = (x - column) / radius, (y - row) / radius
            expected = (1.0, *way) if way[0] ** 2 + way[1] ** 2 <= 1 else (0.0, 0.0, 0.0)
            np.testing.assert_allclose(targets[0, :, row, column], expected, atol=1e-5)
    assert weights.tolist() == [[1.0]]


@pytest.mark.parametrize(("follows", "error"), [("0.x", 2.0), ("1.x", 0.01)])
@given(points=inner)
@settings(deadline=None, max_examples=30)
def test_decoding_undoes_encoding(follows, error, points):
    codec = build_codec({"kind": "udp_combined", "follows": follows}, SIZE)
    decoded, _ = codec.decode(codec.encode(points, torch.ones(points.shape[:2]))[0])
    assert (decoded - points).abs().max() < error


def test_points_outside_keep_their_weight_as_in_the_reference():
    codec = build_codec({"kind": "udp_combined"}, SIZE)
    targets, weights = codec.encode(torch.tensor([[[-300.0, 20.0]]]), torch.ones(1, 1))
    assert weights.tolist() == [[1.0]]
    assert targets.abs().max() == 0


def test_newer_targets_give_the_way_everywhere():
    older = build_codec({"kind": "udp_combined"}, SIZE)
    newer = build_codec({"kind": "udp_combined", "follows": "1.x"}, SIZE)
    point, weight = torch.tensor([[[80.0, 100.0], [3.0, 3.0]]]), torch.tensor([[1.0, 0.0]])
    assert (older.encode(point, weight)[0][0, 1] != 0).float().mean() < 0.02
    assert (newer.encode(point, weight)[0][0, 1] != 0).float().mean() > 0.95
    assert newer.encode(point, weight)[0][0, 3:].abs().max() == 0


def test_mirrored_maps_turn_into_the_maps_of_the_crop():
    codec = build_codec({"kind": "udp_combined"}, SIZE)
    points = torch.tensor([[[50.0, 60.0], [120.0, 200.0], [95.5, 30.0]]])
    order = np.array([1, 0, 2])
    mirrored = points[:, order] * torch.tensor([-1.0, 1.0]) + torch.tensor([191.0, 0.0])
    back = codec.flip_back(codec.encode(mirrored, torch.ones(1, 3))[0], order)
    np.testing.assert_allclose(back, codec.encode(points, torch.ones(1, 3))[0], atol=1e-4)


def test_only_the_discs_are_distributions():
    codec = build_codec({"kind": "udp_combined"}, SIZE)
    maps = torch.randn(2, 9, 64, 48)
    (discs,) = codec.distributions(maps)
    np.testing.assert_array_equal(discs, maps[:, [0, 3, 6]].flatten(2))


def test_a_disc_without_a_positive_value_gives_no_point():
    codec = build_codec({"kind": "udp_combined"}, SIZE)
    points, scores = codec.decode(torch.full((1, 3, 64, 48), -1.0))
    np.testing.assert_allclose(points[0, 0], [-191 / 47, -255 / 63])
    assert scores[0, 0] == pytest.approx(-1.0, abs=1e-5)
