"""Keypoint prototypes: what they give, how they move, and that they follow their heads."""

from __future__ import annotations

import pytest
import torch

from posekit.errors import ConfigError
from posekit.models import build_model, load_into, load_model, save_checkpoint
from posekit.models.foreign_export import export_official, export_transformers
from posekit.models.surgery import (
    add_head,
    drop_heads,
    merge_models,
    rename_head,
    single_head,
    without_prototypes,
)

BACKBONE = {"name": "vit", "embed_dim": 48, "depth": 2, "num_heads": 4, "patch_padding": 2}
SMALL = {"per_keypoint": 2, "width": 8, "channels": 12}


@pytest.fixture
def model(make_spec):
    torch.manual_seed(0)
    heads = {"a": make_spec(5), "ab": make_spec(3), "c": make_spec(2)}
    return build_model(BACKBONE, heads, SMALL).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def test_maps_are_the_largest_absolute_cosine_of_each_pixel(model, images):
    space = model.prototypes.train()  # untrained running statistics leave almost nothing
    with torch.no_grad():
        embedded = space.embedding(model.features(images))
        maps = model.prototype_maps(model.features(images), "ab")
    assert maps.shape == (2, 3, 16, 12)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2, 16, 12))
    for row, keypoint, y, x in ((0, 0, 0, 0), (1, 2, 7, 5), (1, 1, 15, 11)):
        cosines = [abs(float(p @ embedded[row, :, y, x])) for p in space.of("ab")[keypoint]]
        expected = min(max(*cosines, 1e-4), 1 - 1e-4)
        assert float(maps[row, keypoint, y, x]) == pytest.approx(expected, abs=1e-6)


def test_prototypes_move_towards_their_pixels_and_stay_without_any(model):
    before = model.prototypes.of("c")
    moved = torch.zeros_like(before)
    moved[1, 0] = 7 * torch.nn.functional.normalize(torch.arange(8.0), dim=0)
    model.prototypes.update("c", moved, momentum=0.9)
    after = model.prototypes.of("c")
    wanted = 0.9 * before[1, 0] + 0.1 * moved[1, 0] / 7
    torch.testing.assert_close(after[1, 0], wanted / wanted.norm())
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1, 1], before[1, 1])


def test_no_gradient_reaches_prototypes_and_the_optimizer_does_not_know_them(model, images):
    model.prototype_maps(model.features(images), "a").sum().backward()
    assert model.prototypes.embed.final_layers[-1].weight.grad.abs().sum() > 0
    assert not any("vectors" in name for name, _ in model.named_parameters())


def test_a_checkpoint_keeps_prototypes_and_needs_nothing_else(model, images, tmp_path):
    save_checkpoint(tmp_path / "m.safetensors", model)
    loaded = load_model(tmp_path / "m.safetensors")
    with torch.no_grad():
        expected = model.prototype_maps(model.features(images), "a")
        assert torch.equal(loaded.prototype_maps(loaded.features(images), "a"), expected)


def test_initial_weights_bring_the_prototypes_of_the_heads_that_both_have(
    model, make_spec, tmp_path
):
    save_checkpoint(tmp_path / "m.safetensors", model)
    torch.manual_seed(5)
    other = build_model(BACKBONE, {"ab": make_spec(3), "new": make_spec(4)}, SMALL)
    fresh = other.prototypes.of("new")
    assert load_into(other, tmp_path / "m.safetensors") == ("ab",)
    assert torch.equal(other.prototypes.of("ab"), model.prototypes.of("ab"))
    assert torch.equal(other.prototypes.of("new"), fresh)
    plain = build_model(BACKBONE, {"ab": make_spec(3)})
    load_into(plain, tmp_path / "m.safetensors")  # prototypes are optional


def test_prototypes_follow_their_heads_through_surgery(model, make_spec, images):
    of = {name: model.prototypes.of(name) for name in model.head_names}
    without = drop_heads(model, ["a"])
    assert set(without.prototypes.vectors) == {"ab", "c"}
    renamed = rename_head(without, "ab", "x")
    assert torch.equal(renamed.prototypes.of("x"), of["ab"])
    more = add_head(model, "d", make_spec(4))
    assert more.prototypes.of("d").shape == (4, 2, 8)
    assert torch.equal(more.prototypes.of("ab"), of["ab"])
    for plain in (single_head(model, "a"), without_prototypes(model)):
        assert plain.prototypes is None
        with torch.no_grad():
            found, expected = (m(images, [("a", slice(0, 2))])["a"] for m in (plain, model))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    other = rename_head(single_head(model, "c"), "c", "d")
    assert merge_models(model, other).prototypes is None


def test_export_to_others_leaves_prototypes_out_and_says_so(model, tmp_path):
    for ledger in (
        export_official(model, tmp_path / "m.pth"),
        export_transformers(model, tmp_path / "folder", "a"),
    ):
        left = [e.source for e in ledger.entries if "prototypes" in e.note]
        assert len(left) == len([k for k in model.state_dict() if k.startswith("prototypes.")])


def test_a_head_whose_maps_do_not_fit_is_named(make_spec):
    with pytest.raises(ConfigError, match=r"give head 'a' one map of 8x6 .* expects 1 of 16x12"):
        build_model(BACKBONE, {"a": make_spec(5)}, {**SMALL, "layers": 1})
