"""Codec settings that cannot be meant are refused with a sentence."""

import pytest

from posekit.codecs import build_codec
from posekit.errors import ConfigError


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "key 'kind' is missing"),
        ({"kind": "upd"}, "there is no codec 'upd'; did you mean 'udp'?"),
        ({"kind": "udp", "sgima": 2}, "unknown key 'sgima'; did you mean 'sigma'?"),
        ({"kind": "udp_combined", "sigma": 2}, "unknown key 'sigma'"),
        ({"kind": "udp", "sigma": -1}, "key 'sigma': Input should be greater than 0, found -1"),
        ({"kind": "udp", "refine": "drak"}, "key 'refine': Input should be 'none', 'quarter'"),
        ({"kind": "udp", "blur_kernel": 10}, "expected an odd number of pixels, found 10"),
        ({"kind": "msra", "blur_kernel": 9}, "blur_kernel does nothing with refine 'quarter'"),
        ({"kind": "simcc", "sigma": [1, 0]}, "key 'sigma.1': Input should be greater than 0"),
        (
            {"kind": "udp", "heatmap_stride": 5},
            "heatmap_stride 5 does not fit the input size 256x192",
        ),
        ({"kind": "udp", "heatmap_stride": 192}, "heatmap_stride 192 does not fit"),
    ],
)
def test_a_wrong_setting_is_named_with_where_it_stands(config, sentence):
    with pytest.raises(ConfigError) as caught:
        build_codec(config, (256, 192), "heads/mine.yaml: codec")
    message = str(caught.value)
    assert message.startswith("heads/mine.yaml: codec: ")
    assert sentence in message


def test_the_warp_follows_the_codec():
    warps = {kind: build_codec({"kind": kind}, (256, 192)).warp for kind in ("msra", "udp")}
    assert warps == {"msra": "plain", "udp": "udp"}


def test_only_plain_heatmaps_shift_when_they_are_mirrored_back():
    shifts = {
        kind: build_codec({"kind": kind}, (256, 192)).shift_flipped
        for kind in ("msra", "msra_unbiased", "udp", "udp_combined", "simcc")
    }
    assert [kind for kind, shifted in shifts.items() if shifted] == ["msra", "msra_unbiased"]


def test_the_stride_sets_the_heatmaps_size():
    assert build_codec({"kind": "udp", "heatmap_stride": 2}, (128, 96)).heatmap_size == (64, 48)
