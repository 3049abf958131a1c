"""Families of timm models under a posekit head: whole, with random weights."""

from __future__ import annotations

import pytest
import torch

from posekit.models import build_model, load_model, save_checkpoint

FAMILIES = {
    "ResNet": ("resnet18", (64, 48), None, 16),
    "ResNet at its last stage": ("resnet18", (64, 64), 32, 32),
    "ConvNeXt": ("convnext_atto", (64, 48), None, 16),
    "Swin": ("swin_tiny_patch4_window7_224", (64, 64), None, 16),
    "Hiera": ("hiera_tiny_224", (64, 64), None, 16),
    "EVA": ("eva02_tiny_patch14_224", (56, 42), None, 14),
    "DINOv2": ("vit_small_patch14_dinov2", (42, 28), None, 14),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", (42, 28), None, 14),
    "DINOv3": ("vit_small_patch16_dinov3", (48, 32), None, 16),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_maps_and_gradients_and_comes_back_from_its_file(
    family, make_spec, tmp_path
):
    name, size, wanted, stride = FAMILIES[family]
    spec = make_spec(3, "simcc", size)
    spec = type(spec)(spec.schema, {"kind": "simcc"}, {"kind": "simcc"}, size)
    torch.manual_seed(0)
    model = build_model({"name": name, "feature_stride": wanted}, {"body": spec})
    assert model.backbone.stride == stride
    images, groups = torch.randn(2, 3, *size), [("body", slice(0, 2))]
    features = model.features(images)
    assert features.shape[2:] == (size[0] // stride, size[1] // stride)
    model.run_heads(features, groups)["body"].square().sum().backward()
    last = dict(model.backbone.named_parameters())
    learned = [n for n, p in last.items() if p.grad is not None and p.grad.isfinite().all()]
    assert len(learned) > 0.9 * len(last)
    layers = {model.backbone.layer_of(n) for n in last}
    assert 0 in layers
    assert len(layers) > 4
    save_checkpoint(tmp_path / "m.safetensors", model)
    again = load_model(tmp_path / "m.safetensors")
    with torch.no_grad():
        first, second = model.eval().features(images), again.features(images)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
