"""Every backbone and every decoder: build, run, differentiate, save, load, run equally."""

from __future__ import annotations

import example_plug_ins
import pytest
import torch

from posekit.config.plug_ins import code_allowed
from posekit.models import HeadSpec, build_model, load_model, parameter_groups, save_checkpoint
from posekit.models.decoders import DECODERS, build_decoder

SMALL = {"name": "vit", "embed_dim": 32, "depth": 2, "num_heads": 2}
BACKBONES = {
    "vit": SMALL,
    "vitpose padding": {**SMALL, "patch_padding": 2},
    "conv stem": {**SMALL, "stem": "conv"},
    "overlapping patches": {**SMALL, "patch_size": 32, "patch_padding": 8, "feature_stride": 16},
    "experts": {**SMALL, "experts": {}},
    "recomputed": {**SMALL, "gradient_checkpointing": True, "drop_path": 0.1},
    "windows": {**SMALL, "attention": ["shifted_pooled", "full"], "window": [2, 3]},
    "relative bias": {**SMALL, "attention": "window", "window": [3, 2], "relative_bias": True},
    "test_vit": {"name": "test_vit"},
    "test_vit2": {"name": "test_vit2"},
    "test_convnext": {"name": "test_convnext"},
    "test_resnet": {"name": "test_resnet"},
    "test_efficientnet": {"name": "test_efficientnet"},
}
DECODER_SETTINGS = {
    "classic": {"channels": 8},
    "simple": {},
    "shuffle": {},
    "pyramid": {"channels": 8},
    "regression": {},
    "simcc": {},
}


def codec_for(kind: str) -> dict[str, object]:
    return {"kind": kind if kind in {"simcc", "regression"} else "msra"}


def check(model, tmp_path, size):
    torch.manual_seed(0)
    images = torch.randn(3, 3, *size)
    groups = [("a", slice(0, 2)), ("b", slice(2, 3))]
    outputs = model.train()(images, groups)
    sum(output.square().sum() for output in outputs.values()).backward()
    unused = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert unused == []
    grouped = sum(len(group["params"]) for group in parameter_groups(model, 0.1, 0.1, 0.7))
    assert grouped == len(list(model.parameters()))
    save_checkpoint(tmp_path / "m.safetensors", model)
    again = load_model(tmp_path / "m.safetensors")
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
    with torch.no_grad():
        before, after = model.eval()(images, groups), again(images, groups)
    for name, rows in groups:
        codec = model.heads[name].codec
        expected = (rows.stop - rows.start, 4 * codec.channels_per_keypoint, *codec.heatmap_size)
        assert before[name].shape == expected
        # not bit for bit: where tensors lie in memory may decide between two kernels
        torch.testing.assert_close(before[name], after[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_backbone_builds_runs_differentiates_saves_and_loads(kind, make_spec, tmp_path):
    size = (160, 160) if kind.startswith("test_vit") else (64, 96)
    spec = make_spec(4, "simple", size)
    model = build_model(BACKBONES[kind], {"a": spec, "b": spec})
    check(model, tmp_path, size)


@pytest.mark.parametrize("kind", [*DECODER_SETTINGS, example_plug_ins.named("SmallDecoder")])
def test_every_decoder_builds_runs_differentiates_saves_and_loads(kind, make_spec, tmp_path):
    schema = make_spec(4).schema
    decoder = {"kind": kind, **DECODER_SETTINGS.get(kind, {"kernel": 3})}
    spec = HeadSpec(schema, decoder, codec_for(kind), (64, 96))
    with code_allowed():
        check(build_model(SMALL, {"a": spec, "b": spec}), tmp_path, (64, 96))


def test_no_decoder_is_left_out_of_this_contract():
    assert set(DECODERS.built_in) == set(DECODER_SETTINGS)


def test_the_regression_decoder_gives_a_few_numbers_a_keypoint():
    decoder = build_decoder({"kind": "regression"}, 8, 5, (4, 3), (1, 2))
    features = torch.randn(2, 8, 4, 3)
    numbers = decoder(features)
    assert numbers.shape == (2, 5, 1, 2)
    means = features.mean((2, 3))
    expected = means @ decoder.numbers.weight.T + decoder.numbers.bias
    torch.testing.assert_close(numbers.flatten(1), expected)
