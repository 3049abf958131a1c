"""Soft-argmax and regression: positions without a peak."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.codecs import build_codec

SIZE = (64, 48)


@pytest.mark.parametrize("warp", ["plain", "udp"])
def test_a_map_that_equals_its_target_decodes_to_the_point(warp):
    codec = build_codec({"kind": "integral", "warp": warp, "sigma": 1.0}, SIZE)
    points = torch.tensor([[[20.3, 31.7], [24.0, 30.0]]])
    target, weights = codec.encode(points, torch.ones(1, 2))
    assert weights.tolist() == [[1.0, 1.0]]
    share = target.flatten(2) / target.flatten(2).sum(-1, keepdim=True)
    logits = share.clamp_min(1e-30).log().reshape(target.shape)
    decoded, scores = codec.decode(codec.to_heatmap(logits))
    torch.testing.assert_close(decoded, points, rtol=0, atol=0.02)
    assert (scores > 0.98).all()
    torch.testing.assert_close(codec.expectation(logits), decoded, rtol=0, atol=1e-4)


def test_the_mean_position_equals_a_loop_over_pixels():
    codec = build_codec({"kind": "integral", "warp": "plain", "beta": 3.0}, SIZE)
    logits = torch.randn(1, 1, 16, 12)
    shares = np.exp(3 * logits[0, 0].double().numpy())
    shares /= shares.sum()
    x = sum(shares[row, column] * column * 4 for row in range(16) for column in range(12))
    y = sum(shares[row, column] * row * 4 for row in range(16) for column in range(12))
    torch.testing.assert_close(codec.expectation(logits)[0, 0], torch.tensor([x, y]).float())


def test_a_map_with_two_equal_modes_is_scored_low():
    codec = build_codec({"kind": "integral", "sigma": 1.0}, SIZE)
    logits = torch.full((1, 1, 16, 12), -40.0)
    logits[0, 0, 2, 1] = logits[0, 0, 13, 10] = 0.0
    _, scores = codec.decode(codec.to_heatmap(logits))
    assert scores[0, 0] < 0.01


def test_points_that_no_mean_can_reach_have_no_weight():
    codec = build_codec({"kind": "integral", "warp": "udp"}, SIZE)
    points = torch.tensor([[[0.0, 0.0], [-0.5, 20.0], [47.0, 63.0], [20.0, 64.0]]])
    assert codec.encode(points, torch.ones(1, 4))[1].tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize("spread", [False, True])
def test_numbers_are_counted_from_the_middle_in_sides(spread):
    codec = build_codec({"kind": "regression", "spread": spread}, SIZE)
    points = torch.tensor([[[23.5, 31.5], [35.5, 15.5], [-1.0, 3.0]]])
    target, weights = codec.encode(points, torch.ones(1, 3))
    assert weights.tolist() == [[1, 1, 0]]
    assert target[0, :, 0, :2].tolist() == [[0, 0], [0.25, -0.25], [0, 0]]
    decoded, scores = codec.decode(target)
    torch.testing.assert_close(decoded[:, :2], points[:, :2])
    assert scores.tolist() == [[1, 1, 1]]


def test_the_score_is_one_minus_the_mean_spread():
    codec = build_codec({"kind": "regression", "spread": True}, SIZE)
    raw = torch.zeros(1, 2, 1, 4)
    raw[0, 1, 0, 2:] = torch.tensor([1.0, -2.0])
    _, scores = codec.decode(codec.to_heatmap(raw))
    expected = 1 - (1 / (1 + np.exp(-1.0)) + 1 / (1 + np.exp(2.0))) / 2
    np.testing.assert_allclose(scores[0], [0.5, expected], rtol=1e-6)


def test_numbers_of_a_mirrored_crop_come_back_mirrored():
    codec = build_codec({"kind": "regression"}, SIZE)
    points = torch.tensor([[[10.0, 20.0], [30.0, 40.0]]])
    mirrored = torch.stack([47 - points[..., 0], points[..., 1]], dim=-1)[:, [1, 0]]
    target = codec.encode(points, torch.ones(1, 2))[0]
    back = codec.flip_back(codec.encode(mirrored, torch.ones(1, 2))[0], torch.tensor([1, 0]))
    torch.testing.assert_close(back, target)


def test_numbers_that_are_not_finite_are_no_point():
    codec = build_codec({"kind": "regression"}, SIZE)
    points, scores = codec.decode(torch.tensor([[[[float("nan"), 0.1]]]]))
    assert points.tolist() == [[[-1, -1]]]
    assert scores.tolist() == [[0]]


def test_regression_counts_the_points_from_the_first_pixel_to_the_last():
    codec = build_codec({"kind": "regression"}, SIZE)
    x = [0.0, 47.0, 47.5, -0.5, 10.0]
    y = [0.0, 63.0, 10.0, 10.0, 63.5]
    _, weights = codec.encode(torch.tensor([list(zip(x, y, strict=True))]), torch.ones(1, 5))
    assert weights.tolist() == [[1.0, 1.0, 0.0, 0.0, 0.0]]
