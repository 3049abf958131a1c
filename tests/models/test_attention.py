"""Window attention against an obvious loop over tokens."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Attention

from posekit.config.model import BackboneConfig
from posekit.errors import ConfigError
from posekit.models.attention import WindowAttention
from posekit.models.backbone import build_backbone
from posekit.models.costs import backbone_macs

KINDS = [(False, False), (True, False), (False, True), (True, True)]


def weights_and_values(attn, tokens):
    heads = attn.num_heads
    qkv = attn.qkv(tokens).reshape(len(tokens), 3, heads, -1)
    return qkv[:, 0] * attn.scale, qkv[:, 1], qkv[:, 2]


def slow(attn, tokens, grid, window, shifted, pooled, bias=None):
    """One query at a time: find its window by coordinates, list its keys, take the softmax."""
    rows, columns = grid
    size = (min(window[0], rows), min(window[1], columns))
    shift = [s // 2 if shifted and s < g else 0 for s, g in zip(size, grid, strict=True)]

    def place(row, column):
        padded = [-(-g // s) * s for g, s in zip(grid, size, strict=True)]
        moved = [(c - s) % p for c, s, p in zip((row, column), shift, padded, strict=True)]
        wrapped = (row < shift[0], column < shift[1])
        return (moved[0] // size[0], moved[1] // size[1]), wrapped

    cells = [(row, column) for row in range(rows) for column in range(columns)]
    places = [place(*cell) for cell in cells]
    windows = sorted({where for where, _ in places})
    context = torch.stack(
        [tokens[[i for i, p in enumerate(places) if p[0] == w]].mean(0) for w in windows]
    )
    q, k, v = weights_and_values(attn, tokens)
    _, context_k, context_v = weights_and_values(attn, context)
    result = []
    for i, mine in enumerate(places):
        near = [j for j, p in enumerate(places) if p == mine]
        keys, values = k[near], v[near]
        logits = torch.einsum("hd,nhd->hn", q[i], keys)
        if bias is not None:
            for n, j in enumerate(near):
                down = cells[i][0] - cells[j][0] + window[0] - 1
                right = cells[i][1] - cells[j][1] + window[1] - 1
                logits[:, n] = logits[:, n] + bias[down * (2 * window[1] - 1) + right]
        if pooled:
            logits = torch.cat([logits, torch.einsum("hd,nhd->hn", q[i], context_k)], 1)
            values = torch.cat([values, context_v])
        mixed = torch.einsum("hn,nhd->hd", logits.softmax(-1), values)
        result.append(attn.proj(mixed.flatten()))
    return torch.stack(result)


@pytest.mark.parametrize(("shifted", "pooled"), KINDS)
@pytest.mark.parametrize("grid", [(4, 6), (5, 7), (2, 3)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_windows_equal_the_loop_over_tokens(shifted, pooled, grid, with_bias):
    torch.manual_seed(0)
    attn = Attention(8, num_heads=2, qkv_bias=True).double()
    window = WindowAttention(
        (2, 3), shifted=shifted, pooled=pooled, relative_bias=with_bias, num_heads=2
    ).double()
    if with_bias:
        torch.nn.init.normal_(window.relative_bias)
    tokens = torch.randn(2, grid[0] * grid[1], 8, dtype=torch.float64)
    with torch.no_grad():
        found = window(attn, tokens, grid)
        for row in range(2):
            expected = slow(attn, tokens[row], grid, (2, 3), shifted, pooled, window.relative_bias)
            torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_one_window_over_the_whole_grid_is_full_attention(make_model):
    torch.manual_seed(0)
    full = make_model().eval()
    windowed = make_model(attention="shifted", window=(4, 3), relative_bias=True).eval()
    windowed.load_state_dict(full.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(windowed.features(images), full.features(images))


def test_tokens_outside_the_grid_reach_every_window_and_come_back(make_model):
    torch.manual_seed(0)
    model = make_model(attention=["window", "shifted_pooled"], window=(2, 2)).eval()
    images, extra = torch.randn(2, 3, 64, 64), torch.randn(1, 1, 48, requires_grad=True)
    features = model.backbone(images, extra=extra)
    assert features.shape == (2, 48, 4, 4)
    for row in range(4):
        for column in range(4):
            (gradient,) = torch.autograd.grad(features[0, 0, row, column], extra, retain_graph=True)
            assert gradient.any()


def test_window_blocks_cost_less_than_full_ones(make_model):
    model = make_model(attention=["window", "full", "pooled"], window=(2, 2))
    macs = backbone_macs(model.backbone, (128, 64))
    assert macs["full_attention"] == 3 * 2 * 32**2 * 48
    assert macs["attention"] == 2 * 48 * (8 * 4**2 + 32**2 + 8 * 12**2)


@pytest.mark.parametrize(
    ("attention", "window", "published"),
    [
        ("full", (8, 8), 76.59),
        ("shifted", (8, 8), 66.31),
        (("pooled", "shifted_pooled"), (8, 8), 66.39),
        (("window", "window", "full"), (8, 8), 69.94),
        (("pooled", "shifted_pooled"), (16, 12), 68.46),
    ],
)
def test_costs_are_those_of_the_papers_table(attention, window, published):
    """ViTPose, Table 5: B at 256x192 and feature stride 8, GFLOPs."""
    config = BackboneConfig(
        name="vitpose_base", feature_stride=8, attention=attention, window=window, patch_padding=4
    )
    with torch.device("meta"):
        macs = backbone_macs(build_backbone(config, (256, 192)), (256, 192))
    whole = sum(count for name, count in macs.items() if name != "full_attention")
    assert whole / 1e9 == pytest.approx(published, rel=0.01)


def test_wrong_kinds_are_named(make_model):
    with pytest.raises(ConfigError, match="attention"):
        make_model(attention="windows")
    with pytest.raises(ConfigError, match="attention is empty"):
        make_model(attention=[])
    with pytest.raises(ConfigError, match="attention cannot be set for it, only for plain ViTs"):
        make_model(
            name="test_resnet",
            attention="window",
            embed_dim=None,
            depth=None,
            num_heads=None,
            patch_padding=None,
        )
