"""Pre-train a recipe's backbone as a masked autoencoder on the crops of its datasets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from posekit.config.plug_ins import takes_allow_code
from posekit.config.recipe import Recipe, load_recipe
from posekit.config.transfer import PretrainingConfig
from posekit.data.crops import CropSource
from posekit.engine.run_parts import mixed_loader, run_folder_of, run_on, start_folder
from posekit.engine.setup import read_heads
from posekit.models.masked_autoencoder import MaskedAutoencoder, build_masked_autoencoder
from posekit.training.accelerator import on_this_machine
from posekit.training.events import Listener, Silent
from posekit.training.loop import Trainer
from posekit.training.pretraining import PretrainingSet
from posekit.training.run_folder import RunFolder


@dataclass(frozen=True)
class PretrainResult:
    """What pre-training came to.

    Attributes:
        folder: where everything lies.
        complete: False if a signal ended it early (go on with `resume=True`).
        step: optimizer steps done.
        model: the trained (averaged) autoencoder, in evaluation mode.
    """

    folder: Path
    complete: bool
    step: int
    model: MaskedAutoencoder

    @property
    def checkpoint(self) -> Path:
        """The file that a pose run starts from."""
        return self.folder / "checkpoints" / "last.safetensors"


@takes_allow_code
def pretrain(
    recipe: Recipe | str | Path,
    overrides: Iterable[str] = (),
    *,
    resume: bool = False,
    listener: Listener | None = None,
    allow_code: bool = False,
) -> PretrainResult:
    """Train a recipe's backbone to fill in hidden patches of its datasets' crops.

    Boxes are read and labels are not. The recipe's optimizer, schedule, sampling and augmentation
    hold; its decoders, losses, loss weights and `freeze` do not. Crops are made with the udp warp,
    whatever the heads' codecs are.

    The run's checkpoint starts a pose run through `training.init` (the same backbone) or
    `backbone.pretrained` (also with experts).

    Args:
        recipe: a Recipe, or the path or name of one.
        overrides: `key.path=value` settings laid upon a recipe given by path or name.
        resume: go on with the run in the recipe's folder, if it holds one.
        listener: is told what happens.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError: the recipe is wrong, or its backbone cannot be trained so.
        DatasetError: annotations or too many images of a dataset are missing or wrong.
        CheckpointError: a checkpoint cannot be written or read.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    recipe, accelerator = on_this_machine(recipe)
    training = recipe.training.model_copy(update={"gradient_report_every": 0})  # there are no heads
    recipe = recipe.model_copy(update={"training": training})
    heads = read_heads(recipe)
    indices = {name: head.train_index() for name, head in heads.items()}
    sizes = [head.input_size for head in recipe.heads.values()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        settings = recipe.pretraining or PretrainingConfig()
        model = build_masked_autoencoder(recipe.backbone, sizes, settings)
    data = {
        name: CropSource(
            index,
            recipe.heads[name].input_size,
            "udp",
            recipe.head_augmentation(name),
            recipe.data.pixels,
        )
        for name, index in indices.items()
    }
    loader = mixed_loader(recipe, data, accelerator)
    folder = RunFolder(run_folder_of(recipe), recipe)
    instances = sum(len(index.trainable) for index in indices.values())
    trainer = Trainer(
        recipe,
        model,
        PretrainingSet(loader.batches, instances),
        accelerator,
        (listener or Silent()) if accelerator.is_main_process else Silent(),
        folder,
    )
    complete = run_on(trainer, folder, start_folder(folder, resume, trainer.listener))
    return PretrainResult(folder.path, complete, trainer.step, trainer.averaged_model.eval())
