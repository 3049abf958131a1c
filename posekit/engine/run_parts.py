"""What every kind of run has: a folder, a loader, and a way to go on after a stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from posekit.config.recipe import Recipe
from posekit.data.crops import CropSource
from posekit.data.feature_store import FeatureSource
from posekit.data.loader import MixedLoader
from posekit.data.sampler import MixedSampler, Source
from posekit.training.loop import Trainer
from posekit.training.run_folder import RunFolder


def run_folder_of(recipe: Recipe) -> Path:
    """Return the folder of a recipe's run: `out`, or runs/NAME."""
    return Path(recipe.out).expanduser() if recipe.out else Path("runs") / recipe.name


def mixed_loader(
    recipe: Recipe,
    data: Mapping[str, CropSource],
    accelerator: Accelerator,
    features: Mapping[str, FeatureSource] | None = None,
) -> MixedLoader:
    """Return this process's loader of the heads' data, mixed as the recipe says.

    With `features`, head -> the backbone's stored maps, these take the images' place.
    """
    kept = recipe.data.features
    sampler = MixedSampler(
        [Source(name, one.index.name, one.index.trainable) for name, one in data.items()],
        recipe.data.sampling,
        recipe.training.batch_size,
        seed=recipe.training.seed,
        world_size=accelerator.num_processes,
        rank=accelerator.process_index,
    )
    return MixedLoader(
        data,
        sampler,
        workers=recipe.data.workers,
        cache=recipe.data.cache,
        views=None if kept is None or features is None else kept.views,
        features=features or {},
        pin_memory=accelerator.device.type == "cuda",
    )


def run_on(trainer: Trainer, folder: RunFolder, state: dict[str, Any] | None, resume: bool) -> bool:
    """Train from a folder's saved state, if there is one.

    Args:
        trainer: the loop.
        folder: the run's folder, started on the main process.
        state: what starting it gave there; the other processes read it themselves.
        resume: whether the run goes on.

    Returns:
        False if a signal ended it early.
    """
    trainer.accelerator.wait_for_everyone()
    if resume and not trainer.accelerator.is_main_process:
        state = folder.start(resume)
    if state is not None:
        trainer.restore(state, str(folder.state_file))
    return trainer.run()
