"""SimCC: two vectors a keypoint in one map."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.codecs import build_codec

SIZE = (256, 192)
inner = st.lists(st.tuples(st.floats(0, 191), st.floats(0, 255)), min_size=1, max_size=5).map(
    lambda points: torch.tensor([points], dtype=torch.float32)
)


@given(points=inner)
@settings(deadline=None, max_examples=30)
def test_decoding_undoes_encoding(points):
    codec = build_codec({"kind": "simcc"}, SIZE)
    decoded, scores = codec.decode(codec.encode(points, torch.ones(points.shape[:2]))[0])
    assert (decoded - points).abs().max() <= 0.2501
    np.testing.assert_allclose(scores, 1.0)


def test_vectors_lie_side_by_side_in_one_map():
    codec = build_codec({"kind": "simcc"}, SIZE)
    assert codec.heatmap_size == (1, 384 + 512)
    targets, _ = codec.encode(torch.tensor([[[50.0, 60.0]]]), torch.ones(1, 1))
    assert targets.shape == (1, 1, 1, 896)
    assert (targets[0, 0, 0] == 1).nonzero().flatten().tolist() == [100, 384 + 120]


@pytest.mark.parametrize(
    ("size", "sigma"),
    [((256, 192), (4.9, 5.66)), ((256, 256), (5.66, 5.66)), ((384, 288), (6.0, 6.93))],
)
def test_the_default_spread_is_mmposes_for_the_crops_size(size, sigma):
    np.testing.assert_allclose(build_codec({"kind": "simcc"}, size).sigma, sigma, atol=5e-3)


def test_points_far_outside_lose_their_weight():
    codec = build_codec({"kind": "simcc"}, SIZE)
    points = torch.tensor([[[-5.0, 60.0], [-9.0, 60.0], [50.0, 270.0]]])
    targets, weights = codec.encode(points, torch.ones(1, 3))
    assert weights[0].tolist() == [1.0, 0.0, 0.0]
    assert targets[0, 1:].abs().max() == 0


def test_the_flip_mirrors_columns_and_swaps_keypoints():
    codec = build_codec({"kind": "simcc"}, SIZE)
    maps = torch.randn(2, 3, 1, 896)
    back = codec.flip_back(maps, torch.tensor([1, 0, 2]))
    np.testing.assert_array_equal(back[:, 0, 0, :384], maps[:, 1, 0, :384].flip(-1))
    np.testing.assert_array_equal(back[:, 0, 0, 384:], maps[:, 1, 0, 384:])


def test_each_vector_is_a_distribution_of_its_own():
    codec = build_codec({"kind": "simcc", "activation": "softmax"}, SIZE)
    points = torch.tensor([[[50.0, 60.0]]])
    targets, _ = codec.encode(points, torch.ones(1, 1))
    x, y = codec.distributions(targets)
    assert (x.shape, y.shape) == ((1, 1, 384), (1, 1, 512))
    logits = torch.cat([(part / part.sum(-1, keepdim=True)).log() for part in (x, y)], dim=-1)
    decoded, scores = codec.decode(codec.to_heatmap(logits[:, :, None]))
    np.testing.assert_allclose(decoded, points)
    np.testing.assert_allclose(scores, 1.0, atol=5e-3)


def test_the_softmax_score_is_the_less_certain_axis():
    codec = build_codec({"kind": "simcc", "activation": "softmax"}, SIZE)
    logits = torch.full((1, 1, 1, 896), -40.0)
    logits[..., 100] = 0.0
    logits[..., 384 + 100], logits[..., 384 + 400] = 0.0, 0.0
    _, scores = codec.decode(codec.to_heatmap(logits))
    assert scores[0, 0] == pytest.approx(0.5, abs=0.01)


def test_a_vector_without_a_positive_value_puts_the_point_at_bin_minus_one():
    codec = build_codec({"kind": "simcc"}, SIZE)
    maps = torch.zeros(1, 1, 1, 896)
    maps[..., 100] = 1.0
    points, scores = codec.decode(maps)
    assert points[0, 0].tolist() == [-0.5, -0.5]
    assert scores[0, 0] == 0
