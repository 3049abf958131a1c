"""The knowledge token: takes part in attention, is dropped before the map, and can be folded."""

from __future__ import annotations

import pytest
import torch

from posekit.errors import CheckpointError, ConfigError
from posekit.models import load_model, save_checkpoint
from posekit.models.foreign_export import export_official
from posekit.models.knowledge import attach_token, fold_token, load_token, save_token
from posekit.models.parameter_groups import parameter_groups


@pytest.fixture
def model(make_model):
    torch.manual_seed(0)
    model = make_model().eval()
    attach_token(model, torch.randn(1, 1, 20))
    return model


def test_the_token_joins_after_the_positions_and_is_dropped_before_the_map(model):
    backbone, images = model.backbone, torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        tokens, (height, width) = backbone.embed(images)
        mapped = backbone.knowledge.token[0] @ backbone.knowledge.map.weight.T
        mapped = mapped + backbone.knowledge.map.bias
        joined = torch.cat([tokens, mapped.expand(2, 1, -1)], dim=1)
        for block in backbone.vit.blocks:
            joined = block(joined)
        expected = backbone.vit.norm(joined)[:, : height * width]
        features = model.features(images)
    assert features.shape == (2, 48, 4, 3)
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), expected)


def test_the_token_changes_every_place_of_the_map(model, make_model):
    images = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        with_token = model.features(images)
        model.backbone.knowledge = None
        assert ((with_token - model.features(images)).abs().amax(1) > 1e-4).all()


def test_the_token_gets_no_gradient_and_its_map_does(model):
    model.features(torch.randn(1, 3, 64, 48)).sum().backward()
    assert model.backbone.knowledge.token.grad is None
    assert model.backbone.knowledge.map.weight.grad.abs().max() > 0


def test_a_token_of_the_models_own_width_goes_in_as_it_is(make_model):
    model = make_model()
    token = torch.randn(1, 1, 48)
    attach_token(model, token)
    assert torch.equal(model.backbone.knowledge(), token)
    assert list(model.backbone.knowledge.map.parameters()) == []


def test_folding_the_map_into_the_token_changes_no_output(model, tmp_path):
    images = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        before = model.features(images)
        fold_token(model)
        after = model.features(images)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)
    assert model.backbone_config["knowledge_token"] == 48
    save_checkpoint(tmp_path / "folded.safetensors", model)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "folded.safetensors").features(images), after)


def test_a_trained_token_is_not_decayed(make_model):
    model = make_model()
    knowledge = attach_token(model, 20, trained=True)
    groups = parameter_groups(model, 1e-3, 0.1)
    [decay] = [g["weight_decay"] for g in groups if any(p is knowledge.token for p in g["params"])]
    assert decay == 0


def test_a_saved_token_is_read_back(model, tmp_path):
    save_token(tmp_path / "token.pt", model)
    assert torch.equal(load_token(tmp_path / "token.pt"), model.backbone.knowledge.token)


def test_what_does_not_fit_is_named(model, make_model, tmp_path):
    torch.save({"knowledge_token": torch.zeros(3)}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="no knowledge token in it"):
        load_token(tmp_path / "odd.pt")
    with pytest.raises(ConfigError, match=r"knowledge_token is 20, but .* is 7 wide"):
        attach_token(model, 7)
    with pytest.raises(ConfigError, match="it has a knowledge token"):
        export_official(model, tmp_path / "x.pth")
    sizes = {"embed_dim": None, "depth": None, "num_heads": None, "patch_padding": None}
    with pytest.raises(ConfigError, match="knowledge_token cannot be set for it"):
        make_model(name="test_resnet", knowledge_token=8, **sizes)
    with pytest.raises(ConfigError, match="only plain ViTs can take a knowledge token"):
        attach_token(make_model(name="test_resnet", **sizes), 8)
