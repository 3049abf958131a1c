"""Other projects' weights: equal outputs, and every tensor accounted for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from posekit.models import PoseModel
from posekit.models.convert import convert
from posekit.models.pretrained import load_pretrained
from posekit.models.surgery import single_head

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(reference):
    return reference / "models"


@pytest.fixture(scope="module")
def parity(folder):
    return {
        name: torch.from_numpy(array)
        for name, array in np.load(folder / "model_parity.npz").items()
    }


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def rows_of(datasets):
    return tuple((int(index), row, row + 1) for row, index in enumerate(datasets))


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["classic", "simple"])
def test_official_vitpose_gives_the_reference_maps(folder, parity, make_spec, kind):
    model, ledger = convert(
        folder / f"vitpose_tiny_{kind}.pth", {"coco": make_spec(17)}, num_heads=4
    )
    with torch.no_grad():
        close(model.features(parity["x"]), parity[f"{kind}_features"])
        found = model(parity["x"], [("coco", slice(0, 5))])["coco"]
    close(found, parity[f"{kind}_heatmaps"])
    assert ledger.counts() == {"used": len(model.state_dict())}


@pytest.fixture
def plus(folder, make_spec) -> PoseModel:
    heads = {f"set{i}": make_spec(k) for i, k in enumerate((17, 14, 21))}
    return convert(folder / "vitpose_plus_tiny.pth", heads, num_heads=4)[0]


@pytest.mark.shared
def test_vitpose_plus_gives_the_reference_maps_of_every_head(plus, parity):
    with torch.no_grad():
        features = plus.backbone(parity["x"], rows_of(parity["moe_dataset_idx"]))
        close(features, parity["moe_features"])
        for i in range(3):
            close(plus.run_head(f"set{i}", features), parity[f"moe_head{i}_heatmaps"])


@pytest.mark.shared
def test_an_expert_folded_into_a_single_head_model_gives_the_reference_maps(plus, parity):
    alone = single_head(plus, "set1").eval()
    with torch.no_grad():
        found = alone(parity["x"], [("set1", slice(0, 5))])["set1"]
    close(found, parity["split_head1_heatmaps"])


def parity_loss(model: PoseModel, parity) -> list[torch.Tensor]:
    """Whole-batch means over every head on every sample, as the reference trains."""
    features = model.backbone(parity["x"], rows_of(parity["moe_dataset_idx"]))
    losses = []
    for i, name in enumerate(model.head_names):
        maps = model.run_head(name, features)
        count = maps.shape[1]
        mine = (parity["moe_dataset_idx"] == i).float()[:, None, None]
        weight = parity["moe_target_weight"][:, :count] * mine
        target = parity["moe_target"][:, :count]
        losses.append(((maps - target).flatten(2) * weight).square().mean())
    return losses


def official(name: str) -> str:
    name = name.replace("backbone.vit.norm.", "backbone.last_norm.").replace(".vit.", ".")
    name = name.replace("heads.set0.decoder.", "keypoint_head.")
    for i in (1, 2):
        name = name.replace(f"heads.set{i}.decoder.", f"associate_keypoint_heads.{i - 1}.")
    return name


@pytest.mark.shared
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_losses_and_gradients_of_vitpose_plus_equal_the_reference(plus, parity, folder, mode):
    golden = json.loads((folder / "model_parity.json").read_text())["moe"]
    plus.train(mode == "train")
    losses = parity_loss(plus, parity)
    sum(losses).backward()
    expected = golden[f"loss_{mode}"]
    assert [loss.item() for loss in losses] == pytest.approx(expected["per_head"], rel=1e-5)
    norms = {official(name): p.grad.norm().item() for name, p in plus.named_parameters()}
    assert norms == pytest.approx(expected["grad_norm_per_parameter"], rel=1e-5)
    if mode == "train":
        state = {official(name): tensor for name, tensor in plus.state_dict().items()}
        for name, mean in golden["batchnorm_after_one_training_forward"].items():
            assert state[name][:4].tolist() == pytest.approx(mean, abs=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("tag", "file", "kernel"),
    [
        ("p16", "mae_tiny_p16", "pad"),
        ("p14", "mae_tiny_p14", "pad"),
        ("p14bicubic", "mae_tiny_p14", "bicubic"),
    ],
)
def test_mae_weights_start_a_backbone_as_the_reference_does(
    folder, parity, make_model, make_spec, tag, file, kernel
):
    model = make_model().eval()
    ledger = load_pretrained(model.backbone, folder / f"{file}.pth", kernel)
    close(model.backbone.vit.pos_embed.detach(), parity[f"mae_{tag}_plain_pos_embed"])
    weight = model.backbone.vit.patch_embed.proj.weight[0].detach()
    close(weight, parity[f"mae_{tag}_plain_patch_weight_0"])
    with torch.no_grad():
        close(model.features(parity["x"]), parity[f"mae_{tag}_plain_features"])
    left = {entry.source for entry in ledger.entries if entry.action == "left out"}
    assert left == {"cls_token", "norm.weight", "norm.bias"}
    fresh = {entry.target for entry in ledger.entries if entry.action == "fresh"}
    assert fresh == {"backbone.vit.norm.weight", "backbone.vit.norm.bias"}


@pytest.mark.shared
def test_every_expert_starts_from_the_last_rows_of_mae_weights(
    folder, parity, make_spec, make_model
):
    heads = {f"set{i}": make_spec(k) for i, k in enumerate((17, 14, 21))}
    model = make_model(heads, experts={"width": 12}).eval()
    load_pretrained(model.backbone, folder / "mae_tiny_p16.pth")
    mlp = model.backbone.vit.blocks[0].mlp
    close(mlp.fc2.weight.detach(), parity["mae_p16_moe_fc2_0"])
    close(mlp.experts[1].weight.detach(), parity["mae_p16_moe_expert1_0"])
    with torch.no_grad():
        found = model.backbone(parity["x"], rows_of(parity["moe_dataset_idx"]))
    close(found, parity["mae_p16_moe_features"])


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["hf_tiny_plain_simple", "hf_tiny_moe_simple", "hf_tiny_moe_classic_fp16"]
)
def test_transformers_folders_give_transformers_maps(folder, make_spec, name):
    golden = {
        key: torch.from_numpy(value) for key, value in np.load(folder / name / "parity.npz").items()
    }
    model, ledger = convert(folder / name, {"coco": make_spec(17)})
    routes = rows_of(golden["dataset_idx"]) if model.backbone.experts else None
    with torch.no_grad():
        close(model.run_head("coco", model.backbone(golden["x"], routes)), golden["heatmaps"])
    assert {entry.action for entry in ledger.entries} == {"used", "merged"}
