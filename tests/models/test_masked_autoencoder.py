"""Masked pre-training: loss against a slow computation, masks, patches, the way into a pose run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf

from posekit.config.model import BackboneConfig
from posekit.config.transfer import PretrainingConfig
from posekit.errors import CheckpointError, ConfigError
from posekit.models import build_model, load_into, load_model, save_checkpoint
from posekit.models.masked_autoencoder import (
    build_masked_autoencoder,
    normalise_patches,
    patchify,
    sine_positions,
)
from posekit.models.pretrained import load_pretrained

SMALL = {"name": "vit", "embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
DECODER = PretrainingConfig(decoder_width=12, decoder_depth=1, decoder_heads=2)


def build(size=(32, 24), config=DECODER, **backbone):
    torch.manual_seed(0)
    return build_masked_autoencoder(BackboneConfig(**{**SMALL, **backbone}), [size], config).eval()


def numpy_block(block, tokens, heads):
    """A pre-norm transformer block on (T, D), written out."""

    def norm(layer, x):
        middle = x - x.mean(-1, keepdims=True)
        scaled = middle / np.sqrt((middle**2).mean(-1, keepdims=True) + layer.eps)
        return scaled * layer.weight.numpy() + layer.bias.numpy()

    def linear(layer, x):
        return x @ layer.weight.numpy().T + layer.bias.numpy()

    count, width = tokens.shape
    qkv = linear(block.attn.qkv, norm(block.norm1, tokens)).reshape(count, 3, heads, -1)
    mixed = np.zeros((count, heads, width // heads))
    for head in range(heads):
        query, key, value = (qkv[:, i, head] for i in range(3))
        logits = query @ key.T / np.sqrt(width // heads)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        mixed[:, head] = shares / shares.sum(-1, keepdims=True) @ value
    tokens = tokens + linear(block.attn.proj, mixed.reshape(count, width))
    hidden = linear(block.mlp.fc1, norm(block.norm2, tokens))
    hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
    return tokens + linear(block.mlp.fc2, hidden), norm


@torch.no_grad()
def test_the_loss_equals_a_slow_computation_patch_by_patch():
    model = build().double()
    images = torch.randn(2, 3, 32, 24, dtype=torch.float64)
    noise = torch.rand(2, 12, dtype=torch.float64)
    errors, hidden = model(images, noise)
    vit, rows, columns = model.backbone.vit, 4, 3
    kernel, bias = vit.patch_embed.proj.weight.numpy(), vit.patch_embed.proj.bias.numpy()
    positions = vit.pos_embed[0].numpy()
    decoder_positions = sine_positions(12, (rows, columns)).double().numpy()
    for image in range(2):
        order = np.argsort(noise[image].numpy())
        shown = order[:3]
        assert set(np.flatnonzero(~hidden[image].numpy())) == set(shown)
        patches = [
            images[image, :, y * 8 : y * 8 + 8, x * 8 : x * 8 + 8].numpy()
            for y in range(rows)
            for x in range(columns)
        ]
        tokens = np.stack(
            [
                (kernel * patches[i]).sum((1, 2, 3)) + bias + positions[0] + positions[1 + i]
                for i in shown
            ]
        )
        for block in vit.blocks:
            tokens, norm = numpy_block(block, tokens, 2)
        tokens = norm(vit.norm, tokens)
        small = tokens @ model.decoder_embed.weight.numpy().T + model.decoder_embed.bias.numpy()
        whole = np.repeat(model.mask_token[0].numpy(), 12, axis=0)
        whole[shown] = small
        whole = whole + decoder_positions
        for block in model.decoder_blocks:
            whole, norm = numpy_block(block, whole, 2)
        pred = model.decoder_pred
        said = norm(model.decoder_norm, whole) @ pred.weight.numpy().T + pred.bias.numpy()
        for i in range(12):
            pixels = [patches[i][c, y, x] for y in range(8) for x in range(8) for c in range(3)]
            goal = (np.array(pixels) - np.mean(pixels)) / np.sqrt(np.var(pixels, ddof=1) + 1e-6)
            expected = np.mean((said[i] - goal) ** 2)
            assert float(errors[image, i]) == pytest.approx(expected, rel=1e-4)


def test_a_patch_is_laid_out_by_row_column_and_channel():
    images = torch.arange(2 * 3 * 16 * 24.0).reshape(2, 3, 16, 24)
    patches = patchify(images, 8)
    assert patches.shape == (2, 6, 192)
    for row, column, channel in ((0, 0, 0), (0, 0, 2), (3, 5, 1), (7, 7, 2)):
        place = (row * 8 + column) * 3 + channel
        assert patches[1, 4, place] == images[1, channel, 8 + row, 8 + column]


def test_normalised_patches_have_mean_zero_and_unit_spread():
    patches = normalise_patches(torch.randn(2, 3, 192) * 5 + 7)
    torch.testing.assert_close(patches.mean(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.std(-1), torch.ones(2, 3), atol=1e-4, rtol=0)


def test_without_normalisation_the_target_is_the_pixels_themselves():
    images = torch.randn(1, 3, 32, 24) * 3
    plain = build(config=DECODER.model_copy(update={"normalise_pixels": False}))
    with torch.no_grad():
        plain.decoder_pred.weight.zero_()
        errors, _ = plain(images)
    torch.testing.assert_close(errors, patchify(images, 8).square().mean(-1))


@pytest.mark.parametrize("size", [(32, 24), (48, 48), (64, 16)])
def test_three_quarters_are_hidden_at_any_size(size):
    model = build()
    _, hidden = model(torch.zeros(5, 3, *size))
    tokens = size[0] * size[1] // 64
    assert (hidden.sum(1) == model.hidden_count(size)).all()
    assert model.hidden_count(size) == tokens - tokens // 4


@pytest.mark.parametrize("stem", [{}, {"patch_padding": 2}, {"stem": "conv"}])
def test_nothing_of_a_hidden_patch_reaches_the_encoder(stem):
    model = build(**stem)
    noise = torch.rand(1, 12)
    images = torch.randn(1, 3, 32, 24)
    with torch.no_grad():
        _, hidden = model(images, noise)
        cover = hidden.reshape(1, 1, 4, 3).repeat_interleave(8, 2).repeat_interleave(8, 3)
        shown = noise.argsort(1)[:, :3]
        first = model.encode(images, shown, hidden, (4, 3))
        other = torch.where(cover, torch.randn_like(images), images)
        torch.testing.assert_close(first, model.encode(other, shown, hidden, (4, 3)))


def test_positions_are_those_of_a_grid_wider_than_high():
    table = sine_positions(8, (2, 3))
    for row in range(2):
        for column in range(3):
            expected = [f(p / d) for p in (column, row) for f in (np.sin, np.cos) for d in (1, 100)]
            torch.testing.assert_close(table[row * 3 + column], torch.tensor(expected).float())


def test_a_fresh_table_is_fixed_and_its_class_row_zero():
    model = build()
    table = model.backbone.vit.pos_embed
    assert not table.requires_grad
    assert not table[0, 0].any()
    assert torch.equal(table[0, 1:], sine_positions(16, (4, 3)))


@pytest.fixture
def saved(tmp_path):
    model = build()
    torch.nn.init.normal_(model.backbone.vit.norm.weight)
    save_checkpoint(tmp_path / "mae.safetensors", model)
    return tmp_path / "mae.safetensors", model


def test_the_checkpoint_starts_a_pose_run_of_the_same_backbone(saved, make_spec):
    file, model = saved
    pose = build_model(SMALL, {"body": make_spec(size=(32, 24), upsample=2)})
    load_into(pose, file)
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(pose.backbone.state_dict()[name], tensor)
    assert pose.backbone.vit.pos_embed.requires_grad


@pytest.mark.parametrize("experts", [None, {}])
def test_as_pretrained_weights_every_tensor_is_accounted_for(saved, make_spec, experts):
    file, model = saved
    heads = {"body": make_spec(size=(48, 40), upsample=2)}
    pose = build_model({**SMALL, "experts": experts}, heads)
    ledger = load_pretrained(pose.backbone, file)
    sources = {entry.source for entry in ledger.entries}
    assert sources == set(model.state_dict())
    left = {entry.source for entry in ledger.entries if entry.action == "left out"}
    assert left == {name for name in sources if not name.startswith("backbone.")}
    assert [e.source for e in ledger.entries if e.action == "resized"] == ["backbone.vit.pos_embed"]
    assert torch.equal(pose.backbone.vit.norm.weight, model.backbone.vit.norm.weight)


def test_a_checkpoint_without_heads_says_what_it_is_for(saved):
    with pytest.raises(CheckpointError, match="without heads; start a run from it with training"):
        load_model(saved[0])


@pytest.mark.parametrize(
    ("backbone", "size", "words"),
    [
        ({"experts": {}}, (32, 24), r"backbone\.experts belong"),
        ({"attention": "window"}, (32, 24), r"backbone\.attention belong"),
        ({}, (36, 24), r"crops of 36x24 \(h x w\) are not filled by patches of 8"),
    ],
)
def test_what_cannot_be_masked_is_named(backbone, size, words):
    with pytest.raises(ConfigError, match=words):
        build(size, **backbone)
    with pytest.raises(ConfigError, match="no plain ViT"):
        build_masked_autoencoder(BackboneConfig(name="test_resnet"), [(64, 64)], DECODER)
