"""The recipes of published configurations are what was published."""

from __future__ import annotations

import json

import pytest
import torch

from posekit.config.cards import available
from posekit.config.recipe import Recipe, load_recipe
from posekit.engine.setup import read_heads
from posekit.errors import ConfigError
from posekit.evaluation.registry import protocol_of
from posekit.models import build_model

PUBLISHED = [name for name in available("recipes") if name.startswith(("vitpose", "posebh"))]
SIZES = ("small", "base", "large", "huge")


def _size(name: str) -> str:
    return next(size for size in SIZES if size in name)


def test_every_published_configuration_has_a_recipe():
    wanted = {f"vitpose_{size}_coco{kind}" for size in SIZES for kind in ("", "_simple")}
    wanted |= {f"vitpose_{size}_multi" for size in SIZES[1:]}
    wanted |= {f"vitpose_{size}_multi_crowdpose" for size in SIZES[1:]}
    wanted |= {f"vitpose_plus_{size}" for size in SIZES} | {"posebh_base", "posebh_huge"}
    assert wanted <= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_hyper_parameters_are_those_of_the_official_configs(name):
    recipe, size = load_recipe(name), _size(name)
    joint = "_coco" not in name
    decay = {"small": 0.8, "base": 0.75, "large": 0.8, "huge": 0.8 if joint else 0.85}
    assert recipe.optimizer.name == "adamw"
    assert recipe.optimizer.layer_decay == decay[size]
    assert recipe.optimizer.betas == (0.9, 0.999)
    assert (recipe.optimizer.weight_decay, recipe.optimizer.clip_norm) == (0.1, 1.0)
    assert (
        recipe.backbone.drop_path == {"small": 0.1, "base": 0.3, "large": 0.5, "huge": 0.55}[size]
    )
    assert recipe.training.loss_scale == "batch"
    assert recipe.data.sampling.strategy == "proportional"
    schedule = recipe.schedule
    assert (schedule.kind, schedule.gamma) == ("step", 0.1)
    assert (schedule.warmup_steps, schedule.warmup_factor) == (500, 0.001)
    if name.startswith("vitpose"):
        assert (recipe.training.epochs, schedule.milestones) == (210, (170, 200))
        total = 1024 if joint else 512
        assert (recipe.training.batch_total, recipe.training.batch_size) == (total, total // 8)
        assert recipe.optimizer.lr == (1e-3 if joint else 5e-4)
    else:
        assert (recipe.training.epochs, schedule.milestones) == (100, (50, 90))
        assert (recipe.training.batch_total, recipe.training.precision) == (512, "fp16")
        assert recipe.optimizer.lr == 1e-3
        assert [phase.start for phase in recipe.phases] == [0, 50, 90]
        assert recipe.posebh.update_until == recipe.posebh.self_from == 50
        shape = (recipe.posebh.per_keypoint, recipe.posebh.width, recipe.posebh.momentum)
        assert shape == (3, 64, 0.999)
    for head in recipe.heads.values():
        is_udp = head.dataset in {"coco", "mpii"}
        assert head.head.endswith("_udp" if is_udp else "_msra")
        assert head.input_size == (256, 192)
        assert recipe.augmentation == type(recipe.augmentation)()
        assert head.augmentation == ({"half_body": 0} if head.dataset == "mpii" else {})


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_file_that_a_recipe_names_has_an_origin(name):
    recipe = load_recipe(name)
    named = [f for f in (recipe.backbone.pretrained, recipe.training.init) if isinstance(f, str)]
    assert sorted(named) == sorted(source.file for source in recipe.sources.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_metrics_and_protocols_exist(name):
    recipe = load_recipe(name)
    heads = read_heads(recipe)
    known = {
        "oks": {"AP", "AP .5", "AP .75", "AP (M)", "AP (L)"},
        "crowdpose": {"AP", "AP(H)"},
        "wholebody": {"AP"},
        "pckh": {"PCKh", "PCKh@0.1"},
    }
    known["oks"] |= {metric.replace("AP", "AR") for metric in known["oks"]}
    known["wholebody"] |= {"AR"}
    assert recipe.published
    for entry_name, entry in recipe.published.items():
        head = heads[entry.head or entry_name]
        protocol_of(head.card, {**head.recipe.protocol, **entry.protocol})
        assert set(entry.metrics) <= known[head.card.evaluator], entry_name


ONE_OF_A_KIND = [name for name in PUBLISHED if "multi" not in name]


@pytest.mark.shared
@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_models_have_exactly_the_published_parameters(name, reference):
    layouts = json.loads((reference / "models/checkpoint_layouts.json").read_text())["official"]
    recipe = load_recipe(name)
    backbone = recipe.backbone.model_copy(update={"pretrained": False})
    specs = {head: setup.spec for head, setup in read_heads(recipe).items()}
    with torch.device("meta"):
        model = build_model(backbone, specs)
    kind = "simple" if "simple" in name else "plus" if recipe.backbone.experts else "classic"
    layout = layouts[f"{_size(name)}_{kind}"]
    assert len(model.state_dict()) == layout["num_tensors"]
    assert sum(p.numel() for p in model.parameters()) == layout["num_parameters"]
    backbone_count = sum(p.numel() for p in model.backbone.parameters())
    assert backbone_count == layout["num_backbone_parameters"]
    shapes = {_official(key): list(t.shape) for key, t in model.state_dict().items()}
    for key, shape in layout["tensors_block0_expert0_head0_only"].items():
        assert shapes[key] == shape, key


def _official(key: str) -> str:
    key = key.replace("backbone.vit.norm.", "backbone.last_norm.").replace(".vit.", ".")
    key = key.replace("heads.coco.decoder.", "keypoint_head.")
    return key.replace("heads.aic.decoder.", "associate_keypoint_heads.0.")


def test_a_step_holds_the_same_samples_on_any_number_of_processes():
    recipe = load_recipe("vitpose_base_coco")
    assert [recipe.for_processes(n).training.accumulate for n in (1, 2, 8)] == [8, 4, 1]
    with pytest.raises(
        ConfigError, match=r"batch_total is 512, which 3 process\(es\) cannot share"
    ):
        recipe.for_processes(3)
    plain = Recipe.model_validate({**recipe.model_dump(), "training": {"steps": 1}})
    assert plain.for_processes(3) is plain
