import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.codecs import build_codec
from posekit.errors import ConfigError
from posekit.training.losses import MapLoss, build_loss, cross_entropy, loss_term, mse

SIZE = (32, 24)


def _codec(activation="none"):
    return build_codec({"kind": "udp", "activation": activation}, SIZE)


def _random(seed, rows=3, keypoints=5):
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(rows, keypoints, 8, 6, generator=generator)
    points = torch.rand(rows, keypoints, 2, generator=generator) * torch.tensor([23.0, 31.0])
    labelled = (torch.rand(rows, keypoints, generator=generator) > 0.3).float()
    return output, points, labelled


def test_mse_equals_a_loop_over_points():
    codec = _codec()
    output, points, labelled = _random(0)
    target, _ = codec.encode(points, labelled)
    values = mse(codec, output, target)
    for row in range(3):
        for keypoint in range(5):
            squares = [
                (float(output[row, keypoint, y, x]) - float(target[row, keypoint, y, x])) ** 2
                for y in range(8)
                for x in range(6)
            ]
            assert math.isclose(float(values[row, keypoint]), sum(squares) / 48, rel_tol=1e-5)


def test_cross_entropy_equals_torchs_on_the_normalised_target():
    codec = _codec("softmax")
    output, points, labelled = _random(1)
    target, weights = codec.encode(points, labelled)
    ours = cross_entropy(codec, output, target)
    flat = target.flatten(2)
    share = flat / flat.sum(-1, keepdim=True).clamp_min(1e-12)
    theirs = torch.nn.functional.cross_entropy(
        output.flatten(2).flatten(0, 1), share.flatten(0, 1), reduction="none"
    ).reshape(3, 5)
    assert torch.allclose(ours * weights, theirs * weights, atol=1e-5)


def test_cross_entropy_of_an_empty_target_costs_nothing():
    codec = _codec("softmax")
    output = torch.randn(1, 2, 8, 6, requires_grad=True)
    loss = cross_entropy(codec, output, torch.zeros(1, 2, 8, 6)).sum()
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(output.grad.abs().sum()) == 0


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=50)
def test_unlabelled_points_change_neither_loss_nor_weight(seed):
    codec = _codec()
    output, points, labelled = _random(seed)
    moved = torch.where(labelled[..., None] > 0, points, points + 1000)
    first = loss_term(MapLoss(mse, 1.0), codec, output, points, labelled)
    second = loss_term(MapLoss(mse, 1.0), codec, output, moved, labelled)
    assert torch.equal(torch.stack(first), torch.stack(second))


@pytest.mark.parametrize(
    ("config", "activation", "words"),
    [
        ({"kind": "msee"}, "none", "did you mean 'mse'"),
        ({"kind": "mse", "scal": 2}, "none", "did you mean 'scale'"),
        ({"kind": "cross_entropy"}, "none", "activation to be 'softmax'"),
        ({"kind": "mse"}, "softmax", "activation to be 'none'"),
    ],
)
def test_a_wrong_loss_is_one_sentence(config, activation, words):
    with pytest.raises(ConfigError, match=words):
        build_loss(config, _codec(activation), "head 'x', loss")
