"""What distillation adds to a run: the teacher, its terms of the loss, and the knowledge token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from posekit.config.base import validate
from posekit.config.model import BackboneConfig, FreezeConfig
from posekit.config.recipe import HeadRecipe, Optimizer, Recipe, Schedule
from posekit.config.transfer import DistillationConfig
from posekit.engine.setup import ResolvedHead
from posekit.errors import CheckpointError
from posekit.models import PoseModel, load_model
from posekit.models.knowledge import attach_token, load_token
from posekit.training.distillation import Distillation, match_heads
from posekit.training.losses import PointLoss
from posekit.training.schedule import run_length


def load_teacher(config: DistillationConfig) -> PoseModel:
    """Load the teacher from a model file or a run folder, frozen and in evaluation mode.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    path = Path(str(config.teacher)).expanduser()
    file = path / "checkpoints" / "last.safetensors" if path.is_dir() else path
    try:
        return load_model(file).requires_grad_(False)
    except CheckpointError as error:
        raise CheckpointError(f"distillation.teacher: {error}") from None


def prepare_teacher(recipe: Recipe, model: PoseModel, device: torch.device) -> PoseModel | None:
    """Load a run's teacher and join the knowledge token, if any, to the student.

    A token that is still to be learned gets its place here and its value from `attach_token`.

    Returns:
        the teacher on the device if the student learns its output, else None.
    """
    config = recipe.distillation
    if config is None:
        return None
    teacher = load_teacher(config) if config.teacher is not None else None
    if config.token is not None:
        if config.token.file is not None:
            token: Tensor | int = load_token(config.token.file)
        else:
            assert teacher is not None  # noqa: S101 - the recipe's own check
            token = teacher.backbone.channels
        _attach_keyed(model, token, recipe.training.seed)
    return teacher.to(device) if teacher is not None and config.output else None


def distillation_terms(
    recipe: Recipe,
    model: PoseModel,
    teacher: PoseModel,
    losses: Mapping[str, PointLoss],
    instances: int,
    processes: int,
) -> Distillation:
    """Return the terms that learn the teacher's output.

    Raises:
        ConfigError: teacher and student do not fit; see `match_heads`.
    """
    config = recipe.distillation
    assert config is not None  # noqa: S101 - the caller has looked
    matches = match_heads(model, teacher, config.heads)
    total, _ = run_length(recipe, instances, processes)
    return Distillation(
        teacher,
        matches,
        losses,
        {head: config.output * recipe.heads[head].loss_weight for head in matches},
        total if config.fade else None,
        recipe.training.loss_scale == "head",
    )


def token_run(
    recipe: Recipe, heads: Mapping[str, ResolvedHead], student: PoseModel, out: Path
) -> tuple[Recipe, dict[str, ResolvedHead], PoseModel]:
    """Return the run that learns the knowledge token: the frozen teacher with a token that trains.

    It sees the student's datasets, cropped as the teacher's own heads need, and minimises their
    losses to the annotations; nothing but the token trains.

    Args:
        recipe: the student's recipe.
        heads: its heads with cards read.
        student: the student, for matching heads.
        out: folder of the run.

    Returns:
        recipe, heads and model of that run.

    Raises:
        ConfigError: teacher and student do not fit, or the teacher takes no token.
    """
    config = recipe.distillation
    assert config is not None  # noqa: S101 - the caller has looked
    assert config.token is not None  # noqa: S101 - the caller has looked
    teacher = load_teacher(config)
    parts: dict[str, HeadRecipe] = {}
    setups: dict[str, ResolvedHead] = {}
    weights: dict[str, float] = {}
    for match in match_heads(student, teacher, config.heads).values():
        if match.teacher in parts:
            continue
        own, spec = heads[match.head], teacher.head(match.teacher).spec
        loss: dict[str, object] = {"kind": teacher.head(match.teacher).codec.usual_loss}
        part = own.recipe.model_copy(update={"input_size": spec.input_size})
        parts[match.teacher] = part
        if match.head in recipe.data.sampling.weights:
            weights[match.teacher] = recipe.data.sampling.weights[match.head]
        setups[match.teacher] = ResolvedHead(
            match.teacher, part, own.card, own.root, spec, loss, own.exclude
        )
    _attach_keyed(teacher, teacher.backbone.channels, recipe.training.seed, trained=True)
    teacher.held_in_eval = [teacher.backbone, teacher.heads]
    training = recipe.training.model_copy(
        update={
            "steps": config.token.steps,
            "epochs": None,
            "ema_decay": 0.0,
            "gradient_report_every": 0,  # everything that heads share is frozen
            "init": str(config.teacher),
        }
    )
    sampling = recipe.data.sampling.model_copy(update={"weights": weights})
    warmup = min(recipe.schedule.warmup_steps, config.token.steps // 10)
    changes = {
        "name": f"{recipe.name} (token)",
        "out": str(out),
        "backbone": validate(BackboneConfig, teacher.backbone_config, "distillation.teacher"),
        "heads": parts,
        "freeze": FreezeConfig(backbone=True, heads=True),
        "distillation": None,
        "data": recipe.data.model_copy(update={"sampling": sampling}),
        "training": training,
        "schedule": Schedule(kind="cosine", warmup_steps=warmup),
        "optimizer": Optimizer(lr=config.token.lr, weight_decay=0.0, layer_decay=1.0),
    }
    return recipe.model_copy(update=changes), setups, teacher


def _attach_keyed(model: PoseModel, token: Tensor | int, seed: int, trained: bool = False) -> None:
    """Join a token whose start, and whose map's start, are functions of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attach_token(model, token, trained)
