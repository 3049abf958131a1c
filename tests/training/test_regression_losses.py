"""Losses of positions against numpy: KL of SimCC, soft-argmax, RLE."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.codecs import build_codec
from posekit.errors import ConfigError
from posekit.training.losses import build_loss

SIZE = (32, 24)


def softmax(values):
    shares = np.exp(values - values.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def case(kind, keypoints=3, **codec):
    generator = torch.Generator().manual_seed(3)
    built = build_codec({"kind": kind, **codec}, SIZE)
    points = torch.rand(2, keypoints, 2, generator=generator) * torch.tensor([20.0, 28]) + 2
    target, _ = built.encode(points, torch.ones(2, keypoints))
    output = torch.randn(target.shape, generator=generator)
    return built, output, target, points


def test_the_divergence_of_vectors_is_rtmposes():
    codec, output, target, points = case("simcc")
    found = build_loss({"kind": "kl", "beta": 10}, codec, "loss")(codec, output, target, points)
    total = np.zeros((2, 3))
    for part in (slice(0, 48), slice(48, 112)):
        ours = softmax(10 * output[:, :, 0, part].double().numpy())
        goal = softmax(10 * target[:, :, 0, part].double().numpy())
        total += (goal * np.log(goal / ours)).mean(-1)
    np.testing.assert_allclose(found, total, rtol=1e-4)


@pytest.mark.parametrize("distance", ["smooth_l1", "l1", "mse"])
def test_soft_argmax_learns_distance_and_divergence(distance):
    codec, output, target, points = case("integral", beta=2.0)
    config = {"kind": "integral", "distance": distance, "map_weight": 0.5}
    found = build_loss(config, codec, "loss")(codec, output, target, points)
    for row in range(2):
        for k in range(3):
            ours = softmax(2 * output[row, k].double().numpy().reshape(-1)).reshape(8, 6)
            x = (ours.sum(0) * np.arange(6)).sum() * 23 / 5
            y = (ours.sum(1) * np.arange(8)).sum() * 31 / 7
            error = (np.array([x, y]) - points[row, k].numpy()) / [24, 32]
            far = {"smooth_l1": error**2 / 2, "l1": np.abs(error), "mse": error**2}[distance]
            goal = target[row, k].double().numpy()
            goal = goal / goal.sum()
            middle = (ours + goal) / 2
            js = ((ours * np.log(ours / middle)).sum() + (goal * np.log(goal / middle)).sum()) / 2
            assert float(found[row, k]) == pytest.approx(far.mean() + 0.5 * js, rel=1e-4)


def numpy_flow(flow, error):
    """The log-density of points (M, 2), written out after Real NVP's equations 7 and 8."""

    def net(layers, x):
        for layer in layers:
            if hasattr(layer, "weight"):
                x = x @ layer.weight.detach().double().numpy().T
                x = x + layer.bias.detach().double().numpy()
            elif isinstance(layer, torch.nn.LeakyReLU):
                x = np.where(x > 0, x, 0.01 * x)
            elif isinstance(layer, torch.nn.Tanh):
                x = np.tanh(x)
        return x

    log_det, points = np.zeros(len(error)), error.copy()
    for number in (5, 4, 3, 2, 1, 0):
        moved, kept = (0, 1) if number % 2 == 0 else (1, 0)
        fixed = np.zeros_like(points)
        fixed[:, kept] = points[:, kept]
        scale = net(flow.scales[number], fixed)[:, moved]
        shift = net(flow.shifts[number], fixed)[:, moved]
        points[:, moved] = (points[:, moved] - shift) * np.exp(-scale)
        log_det -= scale
    return log_det - (points**2).sum(-1) / 2 - np.log(2 * np.pi)


@pytest.mark.parametrize("base", ["laplace", "gaussian"])
def test_residual_log_likelihood_is_its_formula(base):
    codec, output, target, points = case("regression", spread=True)
    torch.manual_seed(0)
    loss = build_loss({"kind": "rle", "base": base}, codec, "loss")
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    found = loss(codec, output, target, points)
    numbers = output[:, :, 0].double().numpy()
    goal = (points.double().numpy() - [11.5, 15.5]) / [24, 32]
    sigma = 1 / (1 + np.exp(-numbers[..., 2:]))
    error = (numbers[..., :2] - goal) / sigma
    log_phi = numpy_flow(loss.flow, error.reshape(-1, 2)).reshape(2, 3)
    if base == "laplace":
        base_term = np.log(2 * sigma) + np.abs(error)
    else:
        base_term = np.log(sigma * np.sqrt(2 * np.pi)) + error**2 / 2
    expected = (np.log(sigma) - log_phi[..., None] + base_term).sum(-1)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-3)


def test_the_flows_density_sums_to_one():
    from posekit.training.regression_losses import RealNvp  # noqa: PLC0415

    torch.manual_seed(0)
    flow = RealNvp()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    axis = torch.arange(-12, 12, 0.1)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    with torch.no_grad():
        assert float(flow.log_density(grid).exp().sum() * 0.01) == pytest.approx(1, abs=5e-3)


def test_the_flow_learns_with_the_head():
    codec, output, target, points = case("regression", spread=True)
    loss = build_loss({"kind": "rle"}, codec, "loss")
    output.requires_grad_()
    loss(codec, output, target, points).sum().backward()
    assert output.grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())


def test_distances_are_in_sides_of_the_crop():
    codec, output, target, points = case("regression")
    found = build_loss({"kind": "l1"}, codec, "loss")(codec, output, target, points)
    said = output[:, :, 0].numpy() * [24, 32] + [11.5, 15.5]
    expected = (np.abs(said - points.numpy()) / [24, 32]).mean(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("codec", "loss", "words"),
    [
        ({"kind": "udp"}, "l1", "loss 'l1' needs the codec 'regression'"),
        ({"kind": "regression"}, "rle", "needs the codec 'regression' with spread: true"),
        ({"kind": "udp"}, "integral", "needs the codec 'integral'"),
        ({"kind": "regression"}, "kl", "needs maps or vectors of activation 'none'"),
        ({"kind": "simcc", "activation": "softmax"}, "kl", "of activation 'none'"),
        ({"kind": "regression"}, "cross_entropy", "activation to be 'softmax', found 'none'"),
    ],
)
def test_a_loss_that_does_not_go_with_its_codec_is_named(codec, loss, words):
    with pytest.raises(ConfigError, match=words):
        build_loss({"kind": loss}, build_codec(codec, SIZE), "head 'x', loss")


@pytest.mark.parametrize("head", ["simcc_ce", "simcc_kl", "integral", "regression", "rle"])
def test_a_run_with_such_a_head_trains_evaluates_and_resumes(tiny, head):
    import posekit  # noqa: PLC0415
    from posekit.config.recipe import recipe_from_dict  # noqa: PLC0415

    data = tiny("run", ema_decay=0.9).model_dump(mode="json")
    extra = {"decoder": {"channels": 8, "layers": 1}} if head == "integral" else {}
    data["heads"] = {"blobs": {"dataset": "blobs", "head": head, "input_size": [32, 32], **extra}}
    done = posekit.train(recipe_from_dict(data))
    assert done.complete
    assert np.isfinite(done.results["blobs"].metrics["PCK@0.1"])
