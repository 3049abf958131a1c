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
from posekit.models.processes import from_first
from posekit.training.events import Listener
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
        accumulate=recipe.training.accumulate,
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


def start_folder(folder: RunFolder, resume: bool, listener: Listener) -> dict[str, Any] | None:
    """Make a run's folder or take up the run in it; only the first process touches the disk.

    Returns:
        The state to go on from, the same on every process; None for a new run.

    Raises:
        ConfigError, CheckpointError: see RunFolder.start; on every process.
    """
    return from_first(lambda: folder.start(resume, listener.warned))


def run_on(trainer: Trainer, folder: RunFolder, state: dict[str, Any] | None) -> bool:
    """Train from a saved state, if there is one.

    Returns:
        False if a signal ended it early.
    """
    if state is not None:
        trainer.restore(state, str(folder.state_file))
    return trainer.run()
