"""Learning-rate schedules, by timm, as functions of the step."""

from __future__ import annotations

from typing import Any

from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch.optim import Optimizer

from posekit.config.recipe import Recipe, Schedule
from posekit.errors import ConfigError


def build_scheduler(
    optimizer: Optimizer, schedule: Schedule, lr: float, total_steps: int, unit_steps: float
) -> Scheduler:
    """Return timm's scheduler; call its `step_update(step)` before step number `step` (from 0).

    Args:
        optimizer: its groups carry `lr_scale` for layer-wise decay.
        schedule: the recipe's schedule.
        lr: learning rate of a group of scale 1.
        total_steps: optimizer steps of the run.
        unit_steps: optimizer steps in the unit of `milestones` (an epoch, or 1).
    """
    warmup: dict[str, Any] = {
        "warmup_t": min(schedule.warmup_steps, total_steps),
        "warmup_lr_init": lr * schedule.warmup_factor,
        "t_in_epochs": False,
    }
    if schedule.kind == "cosine":
        return CosineLRScheduler(
            optimizer, t_initial=total_steps, lr_min=lr * schedule.final_factor, **warmup
        )
    milestones = schedule.milestones if schedule.kind == "step" else ()
    # timm decays one step early (a convention that it keeps on purpose), hence + 1.
    return MultiStepLRScheduler(
        optimizer,
        decay_t=[round(milestone * unit_steps) + 1 for milestone in milestones],
        decay_rate=schedule.gamma,
        **warmup,
    )


def run_length(recipe: Recipe, instances: int, world_size: int = 1) -> tuple[int, float]:
    """Return (optimizer steps of the run, optimizer steps of the unit of milestones).

    Args:
        instances: trainable instances of all heads together.
    """
    training = recipe.training
    if training.steps is not None:
        return training.steps, 1.0
    if training.epochs is None:
        raise ConfigError("training: give the run's length as 'epochs' or 'steps'")
    epoch_steps = instances / (training.batch_size * training.accumulate * world_size)
    return max(1, round(training.epochs * epoch_steps)), epoch_steps
