"""Single-head runs: each head trained on the same samples, to measure what joint training gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from posekit.config.recipe import Recipe, recipe_from_dict
from posekit.data.sampler import MixedSampler, Source
from posekit.engine.evaluate import COMMON_METRIC, recipe_of
from posekit.engine.setup import read_heads
from posekit.engine.train import train
from posekit.errors import CheckpointError
from posekit.training.events import Listener
from posekit.training.schedule import run_length


def train_alone(run: str | Path, listener: Listener | None = None) -> None:
    """Train each head of a finished run alone, on as many of its own samples as the run gave it.

    The same backbone, batch size, augmentation and schedule (shrunk to the fewer steps); results
    go to RUN/alone/HEAD. A head that is done already is not trained again.

    Args:
        run: the run's folder.
        listener: is told what happens.

    Raises:
        CheckpointError: there is no run in the folder.
    """
    folder = Path(run)
    recipe = recipe_of(folder)
    for name, samples in own_samples(recipe).items():
        out = folder / "alone" / name
        if (out / "eval" / name / "metrics.json").is_file():
            continue
        train(alone_recipe(recipe, name, samples, out), resume=True, listener=listener)


def own_samples(recipe: Recipe) -> dict[str, int]:
    """Return head -> samples of its dataset that the whole (single-process) run shows."""
    heads = read_heads(recipe)
    indices = {name: head.train_index() for name, head in heads.items()}
    sources = [Source(name, index.name, index.trainable) for name, index in indices.items()]
    training = recipe.training
    sampler = MixedSampler(
        sources,
        recipe.data.sampling,
        training.batch_size,
        training.seed,
        accumulate=training.accumulate,
    )
    steps, _ = run_length(recipe, sum(len(source.rows) for source in sources))
    return {name: count for name, (count, _) in sampler.plan(steps).items()}


def alone_recipe(recipe: Recipe, head: str, samples: int, out: Path) -> Recipe:
    """Return the recipe that trains one head alone on `samples` samples."""
    data = recipe.model_dump(mode="json")
    training, schedule = data["training"], data["schedule"]
    joint_steps = samples_to_steps(recipe, sum(own_samples(recipe).values()))
    steps = samples_to_steps(recipe, samples)
    training.update(epochs=None, steps=steps)
    schedule["warmup_steps"] = round(schedule["warmup_steps"] * steps / joint_steps)
    length = recipe.training.steps or recipe.training.epochs
    schedule["milestones"] = [m / length * steps for m in schedule["milestones"]]
    for phase in data["phases"]:
        phase["start"] = phase["start"] / length * steps
    data["data"]["sampling"] = {"strategy": "proportional"}
    _leave_out_others(data, head)
    data.update(name=f"{recipe.name}-{head}-alone", out=str(out))
    return recipe_from_dict(data, f"{recipe.name}, head '{head}' alone")


def _leave_out_others(data: dict[str, Any], head: str) -> None:
    """Leave out of a recipe's mapping whatever names another head."""

    def only(named: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in named.items() if name == head}

    data["heads"] = only(data["heads"])
    data["published"] = {}
    if data["distillation"] is not None:
        data["distillation"]["heads"] = only(data["distillation"]["heads"])
    experts = data["backbone"]["experts"]
    if experts is not None:
        experts.update(share=only(experts["share"]), names=None)
    for freezing in (data["freeze"], *(phase["freeze"] for phase in data["phases"])):
        if not isinstance(freezing["heads"], bool):
            freezing["heads"] = head in freezing["heads"]


def samples_to_steps(recipe: Recipe, samples: int) -> int:
    """Return the optimizer steps that show so many samples."""
    return max(1, round(samples / (recipe.training.batch_size * recipe.training.accumulate)))


def compare_heads(run: str | Path) -> dict[str, dict[str, Any]]:
    """Return head -> its numbers in the joint model, of the mean pose, and alone if it was trained.

    Returns:
        head -> metric (headline's name), joint, mean_pose, alone, and the same three of the
        common metric (`common` in the keys); None where there is no number.

    Raises:
        CheckpointError: the run has not been evaluated.
    """
    folder = Path(run)
    recipe = recipe_of(folder)
    rows = {}
    for name, head in recipe.heads.items():
        if head.evaluate is None:
            continue
        joint = _read(folder / "eval" / name / "metrics.json")
        if joint is None:
            raise CheckpointError(f"{folder}: head '{name}' is not evaluated; run `posekit eval`")
        alone = _read(folder / "alone" / name / "eval" / name / "metrics.json") or {}
        common, own = joint.get("common_metric", {}), alone.get("common_metric", {})
        headline = joint["headline"]
        rows[name] = {
            "metric": headline,
            "joint": joint["metrics"][headline],
            "mean_pose": joint["baseline"].get(headline),
            "alone": alone.get("metrics", {}).get(headline),
            "common_name": common["name"],
            "common_metric": COMMON_METRIC,
            "joint_common": common.get("model"),
            "mean_pose_common": common.get("baseline"),
            "alone_common": own.get("model"),
        }
    return rows


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
