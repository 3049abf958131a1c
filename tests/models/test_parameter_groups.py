"""Layer-wise learning rates against the reference constructor's list."""

from __future__ import annotations

import json

import pytest
import torch

from posekit.models import build_model, parameter_groups


def official_name(name: str) -> str:
    name = name.replace("backbone.vit.norm.", "backbone.last_norm.").replace(".vit.", ".")
    return name.replace("heads.coco.decoder.", "keypoint_head.")


@pytest.mark.shared
def test_groups_of_vitpose_base_equal_the_reference_constructors(reference, make_spec):
    golden = json.loads((reference / "optimizer" / "layer_decay.json").read_text())["base_single"]
    with torch.device("meta"):
        head = make_spec(17, "classic", (256, 192), channels=256)
        model = build_model({"name": "vitpose_base"}, {"coco": head})
    groups = parameter_groups(
        model, golden["base_lr"], golden["weight_decay"], golden["layer_decay"]
    )
    names = {id(p): official_name(name) for name, p in model.named_parameters()}
    found = {
        (group["lr"], group["weight_decay"]): {names[id(p)] for p in group["params"]}
        for group in groups
    }
    expected = {(g["lr"], g["weight_decay"]): set(g["param_names"]) for g in golden["groups"]}
    assert found == expected


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "backbone", "counts", "decay"),
    [
        (
            "base_plus",
            {"name": "vitpose_base", "experts": {"width": 192}},
            (17, 14, 16, 17, 17, 133),
            0.75,
        ),
        ("large_single", {"name": "vitpose_large"}, (17,), 0.8),
    ],
)
def test_groups_of_larger_models_have_the_reference_scales_and_sizes(
    reference, make_spec, name, backbone, counts, decay
):
    golden = json.loads((reference / "optimizer" / "layer_decay.json").read_text())
    summary = golden["summary"][name]
    heads = {
        f"set{i}": make_spec(k, "classic", (256, 192), channels=256) for i, k in enumerate(counts)
    }
    with torch.device("meta"):
        model = build_model(backbone, heads)
    found = {
        (group["lr_scale"], group["weight_decay"]): sum(p.numel() for p in group["params"])
        for group in parameter_groups(model, 5e-4, 0.1, decay)
    }
    expected = {
        (summary["lr_mult_of_group"][key], summary["weight_decay_of_group"][key]): count
        for key, count in summary["num_parameters_of_group"].items()
    }
    assert found == expected


def test_without_layer_decay_there_are_two_groups_and_frozen_parameters_are_left_out(make_model):
    model = make_model()
    model.backbone.requires_grad_(False)
    groups = parameter_groups(model, 0.1, 0.05)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.1, 0.05), (0.1, 0.0)]
    assert sum(len(g["params"]) for g in groups) == 2


def test_experts_belong_to_their_block_and_position_table_is_not_decayed(make_model):
    model = make_model(experts={})
    groups = parameter_groups(model, 1.0, 0.1, 0.5)
    group_of = {id(p): g for g in groups for p in g["params"]}
    block = model.backbone.vit.blocks[1]
    assert group_of[id(block.mlp.experts[0].weight)]["lr"] == 0.5 ** (4 - 2)
    assert group_of[id(model.backbone.vit.pos_embed)]["weight_decay"] == 0
    assert group_of[id(model.backbone.vit.norm.weight)]["lr"] == 1.0
