"""Backbones: sizes, stems, position tables, normalisation, messages."""

from __future__ import annotations

import pytest
import torch

from posekit.errors import ConfigError
from posekit.models import build_model
from posekit.models.vit import resize_positions

FREE = {"name": "vit", "embed_dim": 48, "depth": 2, "num_heads": 4}


def test_the_class_row_of_the_position_table_is_added_to_every_token(make_model):
    model = make_model().eval()
    images = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        before, _ = model.backbone.embed(images)
        model.backbone.vit.pos_embed[:, 0] += 2.0
        after, _ = model.backbone.embed(images)
    torch.testing.assert_close(after, before + 2.0)


def test_positions_are_resized_bicubically_and_the_class_row_stays():
    table = torch.randn(1, 1 + 4 * 4, 8)
    resized = resize_positions(table, (4, 4), (8, 6))
    grid = table[:, 1:].reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(
        grid, size=(8, 6), mode="bicubic", align_corners=False
    )
    assert torch.equal(resized[:, :1], table[:, :1])
    torch.testing.assert_close(resized[:, 1:], expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("stem", ["patch", "conv"])
@pytest.mark.parametrize("stride", [8, 16])
def test_a_model_runs_at_sizes_it_was_not_built_for(make_spec, stem, stride):
    settings = {**FREE, "stem": stem, "feature_stride": stride}
    if stem == "patch":
        settings |= {"patch_size": 16, "patch_padding": (16 - stride) // 2}
    spec = make_spec(2, "simple", (64, 48), upsample=stride // 4)
    model = build_model(settings, {"a": spec}).eval()
    for size in [(64, 48), (96, 96), (48, 80)]:
        expected = (size[0] // stride, size[1] // stride)
        assert model.features(torch.randn(1, 3, *size)).shape[2:] == expected
        assert model.backbone.map_size(size) == expected


def test_patch_14_takes_images_that_14_divides(make_spec):
    spec = make_spec(2, "simple", (112, 56), upsample=3.5)
    model = build_model({**FREE, "patch_size": 14}, {"a": spec})
    assert model.features(torch.randn(1, 3, 112, 56)).shape == (1, 48, 8, 4)


def test_an_image_in_the_conv_stem_does_not_depend_on_its_batch(make_model):
    model = make_model(stem="conv", patch_padding=None).train()
    images = torch.randn(3, 3, 64, 48)
    together = model.features(images)[:1]
    torch.testing.assert_close(together, model.features(images[:1]), rtol=1e-4, atol=1e-5)


def test_recomputing_blocks_changes_neither_outputs_nor_gradients(make_model):
    images = torch.randn(2, 3, 64, 48)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(3)
        model = make_model(gradient_checkpointing=recompute).train()
        model.features(images).square().sum().backward()
        gradients.append(model.backbone.vit.blocks[0].attn.qkv.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_drop_path_rises_linearly_to_its_rate(make_model):
    blocks = make_model(drop_path=0.3).backbone.vit.blocks
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.0, 0.15, 0.3])


def test_layer_norms_have_the_reference_epsilon(make_model):
    vit = make_model().backbone.vit
    assert {vit.norm.eps, vit.blocks[0].norm1.eps, vit.blocks[0].norm2.eps} == {1e-6}


def test_a_timm_vit_gives_the_map_of_timms_own_forward(make_spec):
    spec = make_spec(2, "simple", (160, 160))
    model = build_model({"name": "test_vit"}, {"a": spec}).eval()
    images = torch.randn(1, 3, 160, 160)
    vit = model.backbone.vit
    with torch.no_grad():
        expected = vit.forward_features(images)[:, vit.num_prefix_tokens :]
        found = model.features(images)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected)
    assert model.mean.flatten().tolist() == pytest.approx([0.5, 0.5, 0.5])


def test_feature_maps_of_a_convolutional_net_come_from_the_stage_of_the_stride(make_spec):
    spec = make_spec(2, "simple", (64, 64), upsample=2)
    model = build_model({"name": "test_resnet", "feature_stride": 8}, {"a": spec})
    assert model.features(torch.randn(1, 3, 64, 64)).shape[2:] == (8, 8)
    layers = {name: model.backbone.layer_of(name) for name, _ in model.backbone.named_parameters()}
    assert next(iter(layers.values())) == 0
    assert sorted(set(layers.values())) == list(range(model.backbone.num_layers + 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "vitpose_bas"}, "unknown backbone 'vitpose_bas'; did you mean 'vitpose_base'"),
        ({"name": "vit", "embed_dim": 48}, "depth, num_heads must be given"),
        ({**FREE, "num_heads": 5}, "embed_dim 48 cannot be shared out among 5"),
        ({"name": "vit_tiny_patch16_224", "depth": 3}, "sizes come with the name, leave out depth"),
        ({"name": "test_resnet", "stem": "conv"}, "stem: conv cannot be set for it"),
        ({"name": "test_resnet", "feature_stride": 6}, r"no map of feature_stride 6 \(strides: "),
        ({**FREE, "stem": "conv", "feature_stride": 12}, "must be a power of 2, found 12"),
        ({**FREE, "patch_size": 128}, "smaller than one patch of 128 pixels"),
        ({**FREE, "drop_path": 1.5}, "key 'drop_path'"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings, message, make_spec):
    with pytest.raises(ConfigError, match=message):
        build_model(settings, {"a": make_spec(2, "simple", (64, 48))})
