"""The codecs with one Gaussian heatmap a keypoint."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.codecs import build_codec
from posekit.errors import ConfigError

SIZE = (256, 192)
# codec -> how far its decoding may be from what was encoded, in crop pixels
DECODE_ERROR = {"msra": 2.01, "msra_unbiased": 0.05, "udp": 0.05}

inner = st.lists(st.tuples(st.floats(40, 150), st.floats(40, 215)), min_size=1, max_size=5).map(
    lambda points: torch.tensor([points], dtype=torch.float32)
)
anywhere = st.lists(
    st.tuples(st.floats(-80, 280), st.floats(-80, 340)), min_size=1, max_size=4
).map(lambda points: torch.tensor([points], dtype=torch.float32))


def slow_target(kind, point, shape=(64, 48), sigma=2):
    """The reference's description, word by word, for one keypoint."""
    less = 1 if kind == "udp" else 0
    exact = [
        float(point[0]) / ((192 - less) / (shape[1] - less)),
        float(point[1]) / ((256 - less) / (shape[0] - less)),
    ]
    rounded = [int(value + 0.5) for value in exact]
    around = exact if kind == "msra_unbiased" else rounded
    middle = rounded if kind == "msra" else exact
    for value, length in zip(around, (shape[1], shape[0]), strict=True):
        if value - 3 * sigma >= length or value + 3 * sigma + 1 < 0:
            return np.zeros(shape), 0.0
    target = np.zeros(shape)
    for row in range(shape[0]):
        for column in range(shape[1]):
            near = abs(column - rounded[0]) <= 3 * sigma and abs(row - rounded[1]) <= 3 * sigma
            if near or kind == "msra_unbiased":
                square = (column - middle[0]) ** 2 + (row - middle[1]) ** 2
                target[row, column] = math.exp(-square / (2 * sigma**2))
    return target, 1.0


@pytest.mark.parametrize("kind", DECODE_ERROR)
@given(points=anywhere)
@settings(deadline=None, max_examples=15)
def test_targets_are_the_slow_ones(kind, points):
    targets, weights = build_codec({"kind": kind}, SIZE).encode(
        points, torch.ones(points.shape[:2])
    )
    for point, target, weight in zip(points[0], targets[0], weights[0], strict=True):
        expected, expected_weight = slow_target(kind, point)
        np.testing.assert_allclose(target, expected, atol=1e-5)
        assert weight == expected_weight


@pytest.mark.parametrize("kind", DECODE_ERROR)
@given(points=inner)
@settings(deadline=None)
def test_decoding_undoes_encoding(kind, points):
    codec = build_codec({"kind": kind}, SIZE)
    targets, weights = codec.encode(points, torch.ones(points.shape[:2]))
    decoded, scores = codec.decode(targets)
    assert (decoded - points).abs().max() < DECODE_ERROR[kind]
    assert (weights == 1).all()
    assert scores.min() > 0.85


@pytest.mark.parametrize("kind", ["msra_unbiased", "udp"])
@given(points=inner)
@settings(deadline=None)
def test_soft_argmax_undoes_encoding(kind, points):
    codec = build_codec({"kind": kind, "refine": "soft_argmax"}, SIZE)
    decoded, _ = codec.decode(codec.encode(points, torch.ones(points.shape[:2]))[0])
    assert (decoded - points).abs().max() < 0.2


@pytest.mark.parametrize("kind", ["udp", "msra_unbiased"])
def test_a_broader_peak_is_still_found_between_pixels(kind):
    codec = build_codec({"kind": kind, "sigma": 3.0, "blur_kernel": 17}, SIZE)
    points = torch.tensor([[[100.3, 120.7], [61.9, 77.2]]])
    decoded, _ = codec.decode(codec.encode(points, torch.ones(1, 2))[0])
    assert (decoded - points).abs().max() < 0.1


def test_udp_finds_points_in_the_very_corner():
    codec = build_codec({"kind": "udp"}, SIZE)
    points = torch.tensor([[[0.0, 0.0], [191.0, 255.0], [0.0, 255.0]]])
    decoded, _ = codec.decode(codec.encode(points, torch.ones(1, 3))[0])
    assert (decoded - points).abs().max() < 2.1


def test_negative_positions_round_towards_zero():
    codec = build_codec({"kind": "msra"}, SIZE)
    targets, _ = codec.encode(torch.tensor([[[-2.8, -3.9], [-2.1, 2.0]]]), torch.ones(1, 2))
    assert (targets[0, 0] == 1).nonzero().tolist() == [[0, 0]]
    assert (targets[0, 1] == 1).nonzero().tolist() == [[1, 0]]


@pytest.mark.parametrize("kind", ["msra", "udp"])
def test_a_patch_that_ends_at_the_border_keeps_its_weight_and_an_empty_map(kind):
    codec = build_codec({"kind": kind}, SIZE)
    targets, weights = codec.encode(
        torch.tensor([[[-31.0, 100.0], [-36.0, 100.0], [-24.0, 100.0]]]), torch.ones(1, 3)
    )
    assert weights[0].tolist() == [1.0, 0.0, 1.0]
    assert [float(target.max() > 0) for target in targets[0]] == [0.0, 0.0, 1.0]


def test_unlabelled_points_are_drawn_nowhere_whatever_they_hold():
    codec = build_codec({"kind": "udp"}, SIZE)
    points = torch.tensor([[[float("nan"), 5.0], [50.0, 60.0], [float("inf"), 3.0]]])
    targets, weights = codec.encode(points, torch.tensor([[0.0, 0.0, 1.0]]))
    assert targets.abs().max() == 0
    assert weights.abs().max() == 0


def test_fractional_weights_are_kept_and_drawn():
    codec = build_codec({"kind": "udp"}, SIZE)
    targets, weights = codec.encode(torch.full((1, 1, 2), 95.5), torch.full((1, 1), 0.3))
    assert weights[0, 0] == pytest.approx(0.3)
    assert targets.max() > 0.9


def test_quarter_pixels_go_towards_the_higher_neighbour_but_not_at_the_border():
    maps = torch.zeros(1, 2, 64, 48)
    maps[0, 0, 20, 10], maps[0, 0, 20, 11], maps[0, 0, 19, 10] = 1.0, 0.5, 0.5
    maps[0, 1, 63, 10], maps[0, 1, 63, 11] = 1.0, 0.5
    older, _ = build_codec({"kind": "msra"}, SIZE).decode(maps)
    newer, _ = build_codec({"kind": "msra", "follows": "1.x"}, SIZE).decode(maps)
    assert older[0].tolist() == [[41.0, 79.0], [40.0, 252.0]]
    assert newer[0].tolist() == [[41.0, 79.0], [41.0, 252.0]]


@pytest.mark.parametrize("refine", ["none", "quarter", "dark", "dark_udp", "soft_argmax"])
def test_maps_without_a_positive_value_or_with_nan_give_no_point(refine):
    codec = build_codec({"kind": "msra", "refine": refine}, SIZE)
    maps = torch.stack(
        [torch.full((64, 48), -0.5), torch.zeros(64, 48), torch.full((64, 48), float("nan"))]
    )[None]
    points, scores = codec.decode(maps)
    assert points[0].tolist() == [[-4.0, -4.0]] * 3
    assert scores[0].tolist() == [-0.5, 0.0, 0.0]


@pytest.mark.parametrize("refine", ["none", "quarter", "dark", "dark_udp", "soft_argmax"])
@pytest.mark.parametrize("follows", ["0.x", "1.x"])
def test_no_map_makes_decoding_give_nan(refine, follows):
    codec = build_codec({"kind": "udp", "refine": refine, "follows": follows}, SIZE)
    maps = torch.zeros(1, 5, 64, 48)
    maps[0, 0, 0, 0] = 1e-30
    maps[0, 1] = 7.0
    maps[0, 2, 30, 20] = float("inf")
    maps[0, 3, 10:12, 10:12] = 1e30
    maps[0, 4, 30, 20], maps[0, 4, 31, 21] = 1.0, -5.0
    points, _ = codec.decode(maps)
    assert torch.isfinite(points).all()


@given(points=inner)
@settings(deadline=None, max_examples=20)
def test_a_head_that_predicts_its_target_exactly_has_its_gaussian_and_score_one(points):
    codec = build_codec({"kind": "udp", "activation": "softmax"}, SIZE)
    targets, _ = codec.encode(points, torch.ones(points.shape[:2]))
    logits = 7.0 + (targets / targets.sum((2, 3), keepdim=True)).clamp_min(1e-30).log()
    maps = codec.to_heatmap(logits)
    np.testing.assert_allclose(maps, targets, atol=0.02)
    decoded, scores = codec.decode(maps)
    assert (decoded - points).abs().max() < 0.05
    np.testing.assert_allclose(scores, 1.0, atol=1e-3)


def test_the_softmax_score_is_the_probability_near_the_peak():
    codec = build_codec({"kind": "udp", "activation": "softmax"}, SIZE)
    logits = torch.full((1, 3, 64, 48), -40.0)
    logits[0, 0, 10, 10], logits[0, 0, 50, 40] = 0.0, math.log(3.0)  # a quarter, three quarters
    logits[0, 1] = 5.0  # anywhere
    logits[0, 2, 0, 0] = 30.0  # in the corner
    _, scores = codec.decode(codec.to_heatmap(logits))
    assert scores[0, 0] == pytest.approx(0.75, abs=1e-4)
    assert scores[0, 1] < 0.06
    assert scores[0, 2] == pytest.approx(1.0)


def test_mirrored_maps_turn_into_the_maps_of_the_crop():
    codec = build_codec({"kind": "udp"}, SIZE)
    points = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(1)) * 190
    order = torch.tensor([1, 0, 2, 3])
    mirrored = points[:, order] * torch.tensor([-1.0, 1.0]) + torch.tensor([191.0, 0.0])
    weights = torch.ones(3, 4)
    back = codec.flip_back(codec.encode(mirrored, weights)[0], order)
    # A patch is centred on the pixel that int(x + 0.5) gives, so halves fall to either side.
    assert (back - codec.encode(points, weights)[0]).abs().max() < 0.02


def test_a_head_without_activation_is_taken_as_it_is():
    codec = build_codec({"kind": "udp"}, SIZE)
    output = torch.randn(1, 2, 64, 48)
    assert codec.to_heatmap(output) is output


def test_smoothing_finds_where_most_probability_lies_nearby():
    settings = {"kind": "udp", "activation": "softmax", "refine": "none"}
    logits = torch.full((1, 1, 16, 12), -20.0)
    logits[0, 0, 3, 3] = 0.5  # the highest single pixel
    logits[0, 0, 10:13, 6:9] = 0.0  # more probability, over nine pixels
    found = {}
    for smoothing in (0.0, 1.0):
        codec = build_codec({**settings, "smoothing": smoothing}, (64, 48))
        points, _ = codec.decode(codec.to_heatmap(logits))
        found[smoothing] = (points[0, 0] / torch.tensor([47 / 11, 63 / 15])).round().tolist()
    assert found == {0.0: [3.0, 3.0], 1.0: [7.0, 11.0]}


def test_smoothing_without_probabilities_is_refused():
    with pytest.raises(ConfigError, match="smoothing does nothing without activation 'softmax'"):
        build_codec({"kind": "udp", "smoothing": 1.0}, (64, 48))
