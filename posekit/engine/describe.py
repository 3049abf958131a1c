"""What a model or a recipe is, in plain values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from posekit.config.recipe import Recipe, load_recipe
from posekit.engine.setup import build_run_model, read_heads
from posekit.models import PoseModel, load_model
from posekit.models.costs import backbone_macs
from posekit.models.freeze import parameter_counts
from posekit.models.vit import ViTBackbone
from posekit.training.phases import Phases


def describe(what: str | Path) -> dict[str, Any]:
    """Describe a model file or a recipe (path or name).

    Returns:
        name, backbone (its settings that are set), parameters, heads (a list with head, dataset,
        keypoints, input, decoder, codec, parameters), parts: part -> (trainable, all) parameters,
        phases: a list with start and trainable parameters for recipes that have phases, and for
        plain ViTs cost: input size -> multiply-adds of the backbone for one image, see
        `backbone_macs`.

    Raises:
        ConfigError, CheckpointError: there is no such model or recipe, or it is wrong.
    """
    path, phases = Path(what), []
    if path.suffix == ".safetensors":
        model, name = load_model(path), path.name
    else:
        recipe = load_recipe(what)
        plain = recipe.training.model_copy(update={"init": None})
        fresh = recipe.backbone.model_copy(update={"pretrained": False})
        recipe = recipe.model_copy(update={"training": plain, "backbone": fresh})
        model, name = build_run_model(recipe, read_heads(recipe)), recipe.name
        phases = _phases(recipe, model)
    heads = []
    for head_name in model.head_names:
        head = model.head(head_name)
        heads.append(
            {
                "head": head_name,
                "dataset": head.schema.name,
                "keypoints": len(head.schema),
                "input": "x".join(str(side) for side in head.input_size),
                "decoder": str(head.spec.decoder["kind"]),
                "codec": str(head.spec.codec["kind"]),
                "parameters": sum(parameter.numel() for parameter in head.parameters()),
            }
        )
    settings = {key: value for key, value in model.backbone_config.items() if value is not None}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    found: dict[str, Any] = {
        "name": name,
        "backbone": settings,
        "parameters": parameters,
        "heads": heads,
        "parts": parameter_counts(model),
        "phases": phases,
    }
    if isinstance(model.backbone, ViTBackbone):
        sizes = dict.fromkeys(model.head(head).input_size for head in model.head_names)
        found["cost"] = {
            "x".join(map(str, size)): backbone_macs(model.backbone, size) for size in sizes
        }
    return found


def _phases(recipe: Recipe, model: PoseModel) -> list[dict[str, Any]]:
    """Return start and trainable parameters of each phase; leaves the model as it was."""
    if not recipe.phases:
        return []
    schedule, found = Phases(model, recipe.phases, 1.0), []
    for phase in recipe.phases:
        schedule.apply(math.ceil(phase.start))
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        found.append({"start": phase.start, "trainable": count})
    schedule.apply(-1)
    return found


def cost_line(size: str, macs: dict[str, int]) -> str:
    """Return the multiply-adds of a backbone in words, and what attention everywhere would cost."""
    rest = macs["stem"] + macs["projections"] + macs["ffn"]
    here, full = rest + macs["attention"], rest + macs["full_attention"]
    line = f"{here / 1e9:.2f} G multiply-adds of the backbone for {size} pixels"
    if macs["attention"] == macs["full_attention"]:
        return f"{line} (full attention, {macs['attention'] / here:.1%} of them)"
    return (
        f"{line}: {here / full:.1%} of full attention's {full / 1e9:.2f} G (the attention products "
        f"alone {macs['attention'] / macs['full_attention']:.1%})"
    )
