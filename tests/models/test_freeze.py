"""Freezing parts of a model, and low-rank adapters."""

from __future__ import annotations

import pytest
import torch

from posekit.config.model import FreezeConfig
from posekit.errors import ConfigError
from posekit.models import build_model, load_into, load_model, save_checkpoint
from posekit.models.freeze import freeze, parameter_counts, thaw
from posekit.models.lora import LoraLinear
from posekit.models.surgery import merge_adapters


def step(model):
    """Train one step on random images; give the names of the tensors that changed."""
    torch.manual_seed(0)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    images = torch.randn(4, 3, 64, 48)
    groups = [(n, slice(2 * i, 2 * i + 2)) for i, n in enumerate(model.head_names)]
    sum(o.sub(1).square().sum() for o in model.train()(images, groups).values()).backward()
    optimizer.step()
    after = model.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.fixture
def model(make_model, make_spec):
    heads = {"body": make_spec(2, "classic"), "face": make_spec(2, "classic")}
    return make_model(heads, drop_path=0.5)


def of(changed, part):
    return {name for name in changed if part in name}


CASES = {
    "backbone": ({"backbone": True}, ["backbone."]),
    "stem": ({"stem": True}, ["pos_embed", "patch_embed"]),
    "blocks": ({"blocks": 2}, ["blocks.0.", "blocks.1."]),
    "attention": ({"attention": True}, [".attn.", ".norm1."]),
    "ffn": ({"ffn": True}, [".mlp.", ".norm2."]),
    "heads": ({"heads": True}, ["heads."]),
    "one head": ({"heads": ["face"]}, ["heads.face."]),
    "batch norm": ({"batch_norm": True}, ["running_mean", "running_var", "num_batches"]),
}


@pytest.mark.parametrize("case", CASES)
def test_frozen_parts_do_not_change_and_all_others_do(model, case):
    settings, frozen = CASES[case]
    free = {name for name in step(model) if not any(part in name for part in frozen)}
    count = freeze(model, FreezeConfig(**settings))
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)
    changed = step(model)
    assert changed == free


def test_a_frozen_backbone_gives_the_same_features_in_training_and_thaws_again(model):
    freeze(model, FreezeConfig(backbone=True))
    images = torch.randn(2, 3, 64, 48)
    model.train()
    assert torch.equal(model.features(images), model.features(images))
    assert not model.features(images).requires_grad
    thaw(model)
    assert all(p.requires_grad for p in model.parameters())
    assert not torch.equal(model.features(images), model.features(images))


def test_wrong_parts_are_named(model, make_spec):
    with pytest.raises(ConfigError, match="no head 'fase'; did you mean 'face'"):
        freeze(model, FreezeConfig(heads=("fase",)))
    with pytest.raises(ConfigError, match=r"freeze\.blocks is 9, the backbone has 3"):
        freeze(model, FreezeConfig(blocks=9))
    net = build_model({"name": "test_resnet"}, {"a": make_spec(2, "simple", (64, 64))})
    with pytest.raises(ConfigError, match="plain ViTs only"):
        freeze(net, FreezeConfig(attention=True))
    with pytest.raises(ConfigError, match="lora is for plain ViTs"):
        build_model({"name": "test_resnet", "lora": {}}, {"a": make_spec(2, "simple", (64, 64))})


def test_adapters_start_without_effect_train_alone_and_merge(make_model, make_spec, tmp_path):
    heads = {"body": make_spec(2), "face": make_spec(2)}
    plain = make_model(heads).eval()
    save_checkpoint(tmp_path / "plain.safetensors", plain)
    model = make_model(heads, lora={"rank": 2, "targets": ["attention"]}).eval()
    load_into(model, tmp_path / "plain.safetensors")
    images = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        assert torch.equal(model.features(images), plain.features(images))
    changed = step(model)
    assert of(changed, "backbone") == {
        f"backbone.vit.blocks.{i}.attn.{layer}.lora_b"
        for i in range(3)
        for layer in ("qkv", "proj")
    }
    save_checkpoint(tmp_path / "lora.safetensors", model)
    again = load_model(tmp_path / "lora.safetensors")
    merged = merge_adapters(again).eval()
    assert merged.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        expected = model.eval().features(images)
        assert torch.equal(again.features(images), expected)
        torch.testing.assert_close(merged.features(images), expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(expected, plain.features(images))


def test_an_adapter_adds_alpha_over_rank_times_its_product():
    """Equation 3 and section 4.1 of the paper, written out."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 7)
    layer = LoraLinear(linear, rank=2, alpha=6.0)
    torch.nn.init.normal_(layer.lora_b)
    inputs = torch.randn(3, 5)
    added = 3.0 * layer.lora_b @ layer.lora_a
    torch.testing.assert_close(layer(inputs), inputs @ (linear.weight + added).T + linear.bias)
    torch.testing.assert_close(layer.merged(), linear.weight + added)


def test_parameters_are_counted_by_the_part_that_they_belong_to(make_model, make_spec):
    model = make_model({"body": make_spec(2), "face": make_spec(2)}, lora={"rank": 2})
    freeze(model, FreezeConfig(heads=("face",)))
    counts = parameter_counts(model)
    assert list(counts) == [
        "stem", "attention", "adapters", "ffn", "last norm", "head body", "head face",
    ]  # fmt: skip
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    for part, inside in (
        ("adapters", ".lora_"), ("head body", "heads.body."), ("head face", "heads.face."),
    ):  # fmt: skip
        total = sum(size for name, size in sizes.items() if inside in name)
        assert counts[part] == (0 if part == "head face" else total, total)
    assert sum(total for _, total in counts.values()) == sum(sizes.values())
