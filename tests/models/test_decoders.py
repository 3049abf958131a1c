"""Decoders: order of operations, start values, sizes, messages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from posekit.errors import ConfigError
from posekit.models.decoders import DECODERS, build_decoder


def build(config, size=(4, 3), target=(16, 12)):
    return build_decoder(config, 8, 5, size, target, "head 'x', decoder")


def test_the_simple_decoder_applies_relu_before_the_upsampling():
    decoder = build({"kind": "simple"})
    features = torch.randn(2, 8, 4, 3)
    up = nn.functional.interpolate(features.relu(), scale_factor=4.0, mode="bilinear")
    assert torch.equal(decoder(features), decoder.final_layer(up))
    other = nn.functional.interpolate(features, scale_factor=4.0, mode="bilinear").relu()
    assert not torch.allclose(decoder(features), decoder.final_layer(other))


def test_the_classic_decoder_starts_as_stated():
    torch.manual_seed(0)
    decoder = build({"kind": "classic", "channels": 64})
    weight = decoder.deconv_layers[3].weight
    assert weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert decoder.deconv_layers[0].bias is None
    assert not decoder.final_layer.bias.any()
    assert (decoder.deconv_layers[1].weight == 1).all()


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "classic", "channels": [16, 12]},
        {"kind": "simple", "kernel": 1},
    ],
)
def test_settings_reach_the_size_that_the_codec_expects(config):
    assert build(config)(torch.randn(1, 8, 4, 3)).shape == (1, 5, 16, 12)


def test_a_decoder_that_misses_the_codecs_size_says_what_it_makes():
    message = r"head 'x', decoder: .*classic.*layers: 1.* makes 8x6 from.*4x3.*expects 16x12"
    with pytest.raises(ConfigError, match=message):
        build({"kind": "classic", "layers": 1})
    with pytest.raises(ConfigError, match=r"upsample: 2.* makes 8x6"):
        build({"kind": "simple", "upsample": 2})


def test_unknown_kinds_and_keys_name_the_nearest():
    with pytest.raises(ConfigError, match="there is no decoder 'clasic'; did you mean 'classic'"):
        build({"kind": "clasic"})
    with pytest.raises(ConfigError, match="unknown key 'chanels'; did you mean 'channels'"):
        build({"kind": "classic", "chanels": 3})
    with pytest.raises(ConfigError, match="expected an odd number"):
        build({"kind": "simple", "kernel": 2})
    assert set(DECODERS.built_in) >= {"classic", "simple"}


def test_the_pyramid_adds_its_levels_at_the_finest_size():
    torch.manual_seed(0)
    decoder = build({"kind": "pyramid", "channels": 8})
    features = torch.randn(2, 8, 4, 3)
    sizes = [level(features).shape[2:] for level in decoder.levels]
    assert sizes[0] == (16, 12)
    assert all(size[0] < sizes[0][0] for size in sizes[1:])
    levels = [
        nn.functional.interpolate(level(features), size=(16, 12), mode="bilinear")
        for level in decoder.levels
    ]
    expected = decoder.final_layer(decoder.convs(sum(levels)))
    torch.testing.assert_close(decoder(features), expected)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_pyramid_enlarges_by_one_two_and_four(factor):
    decoder = build({"kind": "pyramid", "channels": 8}, (4, 3), (4 * factor, 3 * factor))
    assert decoder(torch.randn(2, 8, 4, 3)).shape == (2, 5, 4 * factor, 3 * factor)
