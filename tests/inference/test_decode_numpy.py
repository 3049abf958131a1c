"""The decoder without torch reads the keypoints that the codecs read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_helpers import SCHEMA_A, head

from posekit.codecs import CODECS as PARTS
from posekit.codecs import build_codec
from posekit.inference.decode_numpy import decode_maps
from posekit.models.predict import predict_crops
from posekit.warp import cut_boxes

SIZE = (64, 48)
CODECS = [
    *({"kind": kind, "refine": refine, "follows": follows}
      for kind in ("msra", "msra_unbiased", "udp")
      for refine in ("none", "quarter", "dark", "dark_udp", "soft_argmax")
      for follows in ("0.x", "1.x")),
    {"kind": "udp", "activation": "softmax"},
    {"kind": "udp", "activation": "softmax", "smoothing": 1.2},
    {"kind": "simcc"},
    {"kind": "simcc", "activation": "softmax"},
    {"kind": "integral"},
    {"kind": "integral", "warp": "plain", "sigma": 1.0},
    {"kind": "regression"},
    {"kind": "regression", "spread": True},
    {"kind": "udp_combined"},
    {"kind": "udp_combined", "follows": "1.x"},
]  # fmt: skip


def maps_for(codec) -> torch.Tensor:
    """Targets of points all over the crop, some at its border, with noise; and two odd maps."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand((40, 3, 2), generator=generator) * torch.tensor([47.0, 63.0])
    points[:3, 0] = torch.tensor([[0.0, 0.0], [47, 63], [1, 40]])
    maps, _ = codec.encode(points, torch.ones(40, 3))
    maps = maps + 0.02 * torch.rand(maps.shape, generator=generator)
    maps[5, 1] = 0.0
    maps[6, 1] = float("nan")
    return maps


@pytest.mark.parametrize("config", CODECS, ids=lambda c: "-".join(map(str, c.values())))
def test_every_codec_is_decoded_alike(config):
    codec = build_codec(config, SIZE)
    maps = maps_for(codec)
    points, scores = codec.decode(maps)
    settings = codec.config.model_dump(mode="json")
    found, sure = decode_maps(maps.numpy(), settings, SIZE, codec.warp)
    assert found.shape == (40, 3, 2)
    assert np.abs(found - points.numpy()).max() < 2e-3
    assert sure == pytest.approx(scores.numpy(), abs=1e-5)


def test_no_crop_gives_no_points():
    codec = build_codec({"kind": "udp"}, SIZE)
    points, scores = decode_maps(
        np.zeros((0, 3, 16, 12), np.float32), codec.config.model_dump(mode="json"), SIZE, "udp"
    )
    assert points.shape == (0, 3, 2)
    assert scores.shape == (0, 3)


def test_no_codec_is_left_out():
    assert {config["kind"] for config in CODECS} == set(PARTS.built_in)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", PARTS.built_in)
def test_the_maps_of_crops_are_decoded_as_on_the_one_road(make_model, picture, kind, flip):
    model = make_model({"a": head(SCHEMA_A, kind)})
    with torch.no_grad():
        for weights in model.head("a").parameters():
            weights.mul_(10)  # an untrained head's maps are nearly flat
    codec = model.head("a").codec
    boxes = np.array([[20.0, 10, 60, 90], [70, 30, 50, 50], [-10, 5, 70, 60], [0, 0, 160, 120]])
    crops, _ = cut_boxes([picture] * len(boxes), boxes, SIZE, 1.25, True, codec.warp)
    found = predict_crops(model, crops, ["a"], flip_test=flip)["a"]
    settings = codec.config.model_dump(mode="json")
    points, scores = decode_maps(found.maps.numpy(), settings, SIZE, codec.warp)
    assert np.ptp(points, axis=0).max() > 0.1  # the crops differ, so that equality says something
    assert np.abs(points - found.points.numpy()).max() < 2e-3
    assert scores == pytest.approx(found.scores.numpy(), abs=1e-5)
