"""One backbone, many heads: every head computes on its own rows only."""

from __future__ import annotations

import pytest
import torch

from posekit.errors import ConfigError
from posekit.models import build_model


@pytest.fixture
def joint(make_model, make_spec):
    heads = {"body": make_spec(5), "300w": make_spec(3, "classic")}
    return make_model(heads, experts={"width": 12}).eval()


def images(count, height=64, width=48):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(count))


def test_a_heads_output_does_not_depend_on_other_heads_rows(joint):
    batch = images(5)
    groups = [("body", slice(0, 3)), ("300w", slice(3, 5))]
    with torch.no_grad():
        before = joint(batch, groups)
        batch[3:] = torch.randn_like(batch[3:]) * 100
        after = joint(batch, groups)
    torch.testing.assert_close(before["body"], after["body"])
    assert not torch.allclose(before["300w"], after["300w"])


def test_gradients_of_a_head_reach_its_own_expert_and_decoder_only(joint):
    outputs = joint(images(4), [("body", slice(0, 2)), ("300w", slice(2, 4))])
    outputs["body"].square().sum().backward()
    touched = {n for n, p in joint.named_parameters() if p.grad is not None and p.grad.any()}
    assert "backbone.vit.blocks.0.mlp.experts.0.weight" in touched
    assert "heads.body.decoder.final_layer.weight" in touched
    assert not any("experts.1." in name or name.startswith("heads.300w") for name in touched)


def test_batch_norm_of_a_head_sees_its_own_rows_only(make_model, make_spec):
    model = make_model({"body": make_spec(5), "face": make_spec(3, "classic")}).train()
    batch = images(4)
    with torch.no_grad():
        features = model.features(batch)
        model(batch, [("body", slice(0, 2)), ("face", slice(2, 4))])
        deconvolution = model.heads["face"].decoder.deconv_layers[0]
        expected = deconvolution(features[2:]).mean((0, 2, 3)) * 0.1
    found = model.heads["face"].decoder.deconv_layers[1].running_mean
    torch.testing.assert_close(found, expected)


def test_one_row_trains_and_no_row_gives_an_empty_output_that_leaves_the_statistics(
    make_model, make_spec
):
    model = make_model({"body": make_spec(5), "face": make_spec(3, "classic")}).train()
    norm = model.heads["face"].decoder.deconv_layers[1]
    outputs = model(images(1), [("body", slice(0, 1)), ("face", slice(1, 1))])
    assert outputs["face"].shape == (0, 3, 16, 12)
    assert not norm.running_mean.any()
    assert model.heads["face"].training
    model(images(1), [("face", slice(0, 1))])["face"].sum().backward()
    assert norm.running_mean.isfinite().all()
    assert norm.weight.grad.isfinite().all()


def test_several_input_sizes_run_in_one_call_and_equal_single_calls(make_model, make_spec):
    heads = {"body": make_spec(5), "face": make_spec(3, "simple", (64, 64))}
    model = make_model(heads).eval()
    parts = [images(2), images(3, 64, 64)]
    groups = [[("body", slice(0, 2))], [("face", slice(0, 3))]]
    with torch.no_grad():
        together = model(parts, groups)
        for part, group in zip(parts, groups, strict=True):
            name = group[0][0]
            assert torch.equal(together[name], model(part, group)[name])
    assert together["face"].shape == (3, 3, 16, 16)


def test_rows_outside_the_batch_and_a_head_twice_are_refused(joint):
    with pytest.raises(ValueError, match=r"head '300w': rows .* do not lie in a batch of 4"):
        joint(images(4), [("body", slice(0, 2)), ("300w", slice(2, 5))])
    with pytest.raises(ValueError, match="head 'body' appears in two groups"):
        joint(images(4), [("body", slice(0, 2)), ("body", slice(2, 4))])


def test_normalise_takes_bytes_of_either_layout_to_the_models_own_range(make_model):
    model = make_model(mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    rows = torch.full((2, 64, 48, 3), 255, dtype=torch.uint8)
    expected = torch.tensor([2.0, 1.0, 0.5]).view(1, 3, 1, 1).expand(2, 3, 64, 48)
    assert torch.equal(model.normalise(rows), expected)
    assert torch.equal(model.normalise(rows.permute(0, 3, 1, 2).contiguous()), expected)


def test_normalise_equals_the_plain_formula_and_leaves_its_input_alone(make_model):
    model = make_model()
    bytes_ = torch.randint(0, 256, (2, 8, 6, 3), dtype=torch.uint8)
    before = bytes_.clone()
    plain = (bytes_.permute(0, 3, 1, 2) / 255 - model.mean) / model.std
    for images in (bytes_, bytes_.permute(0, 3, 1, 2).contiguous()):
        torch.testing.assert_close(model.normalise(images), plain)
    assert model.normalise(bytes_).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(bytes_, before)
    floats = bytes_.float()
    model.normalise(floats)
    assert torch.equal(floats, before.float())


@pytest.mark.parametrize("name", ["300w", "ap10k", "coco-wholebody", "a_b", "x+y"])
def test_usual_names_are_legal_for_heads(make_model, make_spec, name):
    model = make_model({name: make_spec(2)})
    assert model(images(1), [(name, slice(0, 1))])[name].shape[1] == 2


@pytest.mark.parametrize("name", ["a.b", "", "two words", "keys", "type", "é"])
def test_names_that_torch_cannot_hold_give_a_clear_error(make_model, make_spec, name):
    with pytest.raises(ConfigError, match=r"head name .*expected letters, digits"):
        make_model({name: make_spec(2)})


def test_a_model_without_heads_and_unknown_settings_are_named(make_spec):
    with pytest.raises(ConfigError, match="at least one head"):
        build_model({"name": "vitpose_small"}, {})
    with pytest.raises(ConfigError, match="unknown key 'drop_pth'; did you mean 'drop_path'"):
        build_model({"drop_pth": 0.1}, {"body": make_spec()})
    spec = make_spec()
    spec.codec["kind"] = "msrr"
    with pytest.raises(ConfigError, match=r"head 'body', codec: .*'msrr'; did you mean 'msra'"):
        build_model({"name": "vitpose_small"}, {"body": spec})
