"""What every registered codec must do."""

import example_plug_ins
import numpy as np
import pytest
import torch

from posekit.codecs import CODECS, build_codec
from posekit.config.cards import available, load_head_card
from posekit.config.plug_ins import code_allowed
from posekit.training.losses import build_loss
from posekit.training.point_loss import PointLoss

SIZE = (128, 96)
POINTS = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([70.0, 100])
POINTS += 12
ORDER = np.array([1, 0, 3, 2])

CONFIGS = [
    *({"kind": kind} for kind in CODECS.built_in),
    {"kind": "udp", "activation": "softmax"},
    {"kind": "msra", "activation": "softmax"},
    {"kind": "simcc", "activation": "softmax"},
    {"kind": "udp", "follows": "1.x"},
    {"kind": "udp", "refine": "soft_argmax"},
    {"kind": "udp_combined", "follows": "1.x"},
    {"kind": "msra", "heatmap_stride": 2},
    {"kind": "integral", "warp": "plain", "beta": 10},
    {"kind": "regression", "spread": True},
    {"kind": example_plug_ins.named("BumpCodec"), "width": 2.0},
]


@pytest.fixture(params=CONFIGS, ids=lambda config: "-".join(map(str, config.values())))
def codec(request):
    with code_allowed():
        return build_codec(request.param, SIZE)


def noisy_maps(codec, dtype=torch.float32):
    targets, _ = codec.encode(POINTS, torch.ones(3, 4))
    noise = torch.rand(targets.shape, generator=torch.Generator().manual_seed(1))
    return (targets + 0.05 * noise).to(dtype)


def test_shapes_are_what_the_codec_says(codec):
    targets, weights = codec.encode(POINTS, torch.ones(3, 4))
    assert targets.shape == (3, 4 * codec.channels_per_keypoint, *codec.heatmap_size)
    assert weights.shape == (3, 4)
    assert targets.dtype == weights.dtype == torch.float32
    points, scores = codec.decode(codec.to_heatmap(noisy_maps(codec)))
    assert (points.shape, scores.shape) == ((3, 4, 2), (3, 4))
    assert points.dtype == scores.dtype == torch.float32
    assert codec.input_size == SIZE
    assert codec.warp in {"plain", "udp"}


@pytest.mark.parametrize(("batch", "keypoints"), [(0, 4), (3, 0), (0, 0)])
def test_nothing_in_gives_nothing_out(codec, batch, keypoints):
    targets, weights = codec.encode(torch.zeros(batch, keypoints, 2), torch.ones(batch, keypoints))
    shape = (batch, keypoints * codec.channels_per_keypoint, *codec.heatmap_size)
    assert targets.shape == shape
    assert weights.shape == (batch, keypoints)
    maps = codec.average_flipped(
        codec.to_heatmap(targets), codec.to_heatmap(targets), np.arange(keypoints)
    )
    points, scores = codec.decode(maps)
    assert (points.shape, scores.shape) == ((batch, keypoints, 2), (batch, keypoints))


def test_many_instances_equal_one_by_one(codec):
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0]).expand(3, 4)
    targets, kept = codec.encode(POINTS, weights)
    points, scores = codec.decode(codec.to_heatmap(noisy_maps(codec)))
    for i in range(3):
        target, weight = codec.encode(POINTS[i : i + 1], weights[i : i + 1])
        torch.testing.assert_close(targets[i], target[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(kept[i], weight[0], rtol=0, atol=0)
        one = codec.to_heatmap(noisy_maps(codec)[i : i + 1])
        point, score = codec.decode(one)
        torch.testing.assert_close(points[i], point[0], rtol=0, atol=1e-3)
        torch.testing.assert_close(scores[i], score[0], rtol=0, atol=1e-5)


def test_unlabelled_keypoints_have_empty_maps_and_no_weight(codec):
    targets, weights = codec.encode(POINTS, torch.zeros(3, 4))
    assert targets.abs().max() == 0
    assert weights.abs().max() == 0


def test_flipping_twice_without_shift_changes_nothing(codec):
    codec.shift_flipped = False
    maps = noisy_maps(codec)
    torch.testing.assert_close(
        codec.flip_back(codec.flip_back(maps, ORDER), ORDER), maps, rtol=0, atol=0
    )


def test_a_loss_on_the_maps_reaches_the_output(codec):
    targets, weights = codec.encode(POINTS, torch.ones(3, 4))
    output = (0.1 * torch.randn(targets.shape, generator=torch.Generator().manual_seed(2))).detach()
    output.requires_grad_()
    squared = (codec.to_heatmap(output) - targets).square().mean()
    entropy = torch.zeros(())
    for part, mass in zip(codec.distributions(output), codec.distributions(targets), strict=True):
        truth = mass / mass.sum(-1, keepdim=True)
        entropy = entropy - (truth * part.log_softmax(-1)).sum(-1).mul(weights).mean()
    (squared + entropy).backward()
    assert torch.isfinite(output.grad).all()
    assert output.grad.abs().max() > 0


def test_cross_entropy_is_least_for_the_target_itself(codec):
    targets, _ = codec.encode(POINTS, torch.ones(3, 4))
    for part in codec.distributions(targets):
        truth = part / part.sum(-1, keepdim=True)
        np.testing.assert_allclose(truth.sum(-1), 1.0, atol=1e-5)
        assert truth.min() >= 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_decoding_any_float_type_is_float32_arithmetic_on_its_values(codec, dtype):
    maps = noisy_maps(codec, dtype)
    points, scores = codec.decode(maps)
    expected, expected_scores = codec.decode(maps.float())
    torch.testing.assert_close(points, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-6)


def test_autocast_changes_nothing(codec):
    maps = noisy_maps(codec)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        targets, _ = codec.encode(POINTS, torch.ones(3, 4))
        points, scores = codec.decode(codec.to_heatmap(maps))
    torch.testing.assert_close(targets, codec.encode(POINTS, torch.ones(3, 4))[0], rtol=0, atol=0)
    expected, expected_scores = codec.decode(codec.to_heatmap(maps))
    torch.testing.assert_close(points, expected, rtol=0, atol=0)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=0)


def test_maps_in_another_memory_order_decode_the_same(codec):
    maps = codec.to_heatmap(noisy_maps(codec))
    points, scores = codec.decode(maps.to(memory_format=torch.channels_last))
    torch.testing.assert_close((points, scores), codec.decode(maps), rtol=0, atol=0)


@pytest.mark.slow
def test_decoding_exports_for_any_batch(codec):
    class Decoder(torch.nn.Module):
        def forward(self, output):
            return codec.decode(codec.to_heatmap(output))

    maps = noisy_maps(codec)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Decoder(), (maps,), dynamic_shapes=shapes)
    points, scores = program.module()(maps[:2])
    expected, expected_scores = codec.decode(codec.to_heatmap(maps[:2]))
    torch.testing.assert_close(points, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-5)


def test_maps_of_another_size_are_refused(codec):
    with pytest.raises(ValueError, match=r"found maps of shape \(1, 6, 5, 5\), expected"):
        codec.decode(torch.zeros(1, 6, 5, 5))


@pytest.mark.parametrize("name", available("heads"))
def test_every_shipped_head_card_builds_its_codec(name):
    card = load_head_card(name)
    codec = build_codec(card.codec, (256, 192), str(card.file))
    if card.codec["kind"] not in {"simcc", "regression"}:
        stride = card.codec.get("heatmap_stride", 4)
        assert codec.heatmap_size == (256 // stride, 192 // stride)
    assert isinstance(build_loss(dict(card.loss), codec, name), PointLoss)
    assert card.title
