"""The parts of a run before its first step: `prepare_run` builds what `train` loops over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from posekit.config.plug_ins import takes_allow_code
from posekit.config.recipe import Recipe, load_recipe
from posekit.data.batch import Batch
from posekit.data.feature_store import FeatureSource
from posekit.data.index import PoseIndex
from posekit.data.loader import CropSource, MixedLoader
from posekit.engine.distill import distillation_terms, prepare_teacher
from posekit.engine.features import blank_features, cached_features
from posekit.engine.run_parts import mixed_loader
from posekit.engine.setup import ResolvedHead, build_losses, build_run_model, read_heads
from posekit.models import PoseModel
from posekit.training.accelerator import on_this_machine
from posekit.training.events import Listener, Silent
from posekit.training.loop import Evaluate, Trainer, TrainingSet
from posekit.training.losses import PointLoss
from posekit.training.prototypes import PrototypeLearning
from posekit.training.run_folder import RunFolder
from posekit.training.schedule import run_length
from posekit.training.step import ExtraLoss, rows_of


@dataclass
class PreparedRun:
    """The parts of a run, ready for `train` or for a loop of one's own.

    Attributes:
        recipe: the recipe, its batch size that of one process.
        heads: head -> its cards and settings, resolved.
        indices: head -> the index of its training split.
        model: built from the recipe; `batches` moves it to the accelerator's device.
        loader: this process's mixed batches, as the recipe samples them.
        accelerator: device, precision and processes.
        listener: is told what happens, on the first process only.
        teacher: the distillation's teacher, if the recipe has one.
        losses: head -> its per-point loss; some have parameters of their own (see `parameters`).
    """

    recipe: Recipe
    heads: dict[str, ResolvedHead]
    indices: dict[str, PoseIndex]
    model: PoseModel
    loader: MixedLoader
    accelerator: Accelerator
    listener: Listener
    teacher: PoseModel | None = None
    losses: dict[str, PointLoss] = field(init=False)

    def __post_init__(self) -> None:
        self.losses = build_losses(self.model, self.heads)
        self._objective, self._scale = self._training_set().objective(self.model, self.recipe)

    @property
    def instances(self) -> int:
        """Trainable instances of all heads together."""
        return sum(len(index.trainable) for index in self.indices.values())

    @property
    def epoch_steps(self) -> float:
        """Optimizer steps of one pass over all training splits."""
        training = self.recipe.training
        return self.instances / (
            training.batch_size * training.accumulate * self.accelerator.num_processes
        )

    def parameters(self) -> list[nn.Parameter]:
        """Return what trains: the model's parameters that are not frozen, and the losses' own."""
        return [one for one in self._objective.parameters() if one.requires_grad]

    def batches(self, steps: int, start: int = 0) -> Iterator[Batch]:
        """Yield the mixed batches of steps `start` to `start + steps`, on the device.

        The batch of a step depends on recipe, seed, step and processes only, so that a loop goes on
        from its step number. Model and losses are moved to the device and put into training mode.
        """
        self._objective.to(self.accelerator.device).train()
        batches = self.loader.batches(start)
        for _ in range(steps):
            yield next(batches).to(self.accelerator.device)

    def head_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return head -> float32 (), the mean loss over its labelled points in a batch."""
        with self.accelerator.autocast():
            terms = self._objective(batch)
        return {head: total / weight.clamp_min(1.0) for head, (total, weight) in terms.items()}

    def loss(self, batch: Batch) -> Tensor:
        """Return float32 (), the loss of one batch as the recipe weights and scales its heads.

        It is what `train` minimises in one process without accumulation, but for the recipe's extra
        losses (distillation, prototypes).
        """
        with self.accelerator.autocast():
            terms = self._objective(batch)
        weights = {head: weight.detach() for head, (_, weight) in terms.items()}
        factors = self._scale.factors(weights, rows_of([batch]))
        return torch.stack([total * factors[head] for head, (total, _) in terms.items()]).sum()

    def trainer(self, folder: RunFolder | None = None, evaluate: Evaluate | None = None) -> Trainer:
        """Return posekit's own loop over these parts; without a folder it writes nothing."""
        extras: tuple[ExtraLoss, ...] = ()
        processes = self.accelerator.num_processes
        if self.teacher is not None:
            terms = distillation_terms(
                self.recipe, self.model, self.teacher, self.losses, self.instances, processes
            )
            extras += (terms,)
        if self.recipe.posebh is not None:
            _, unit = run_length(self.recipe, self.instances, processes)
            extras += (PrototypeLearning(self.model, self.recipe.posebh, self.losses, unit),)
        data = self._training_set(extras)
        return Trainer(
            self.recipe, self.model, data, self.accelerator, self.listener, folder, evaluate
        )

    def _training_set(self, extras: tuple[ExtraLoss, ...] = ()) -> TrainingSet:
        return TrainingSet(self.loader.batches, self.instances, self.losses, extras)


@takes_allow_code
def prepare_run(
    recipe: Recipe | str | Path,
    overrides: Iterable[str] = (),
    *,
    listener: Listener | None = None,
    dry: bool = False,
    allow_code: bool = False,
) -> PreparedRun:
    """Build the parts of a run: indices, model, losses and mixed batches.

    Nothing is written but the indices (and feature caches) that any run builds once.

    Args:
        recipe: a Recipe, or the path or name of one.
        overrides: `key.path=value` settings laid upon a recipe given by path or name.
        listener: is told what happens.
        dry: do not fill a feature cache (`data.features`); its maps are zeros.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError: a card, the recipe or a setting is wrong.
        DatasetError: annotations of a dataset are missing or wrong.
        CheckpointError: `training.init` or the teacher cannot be loaded or does not fit.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    recipe, accelerator = on_this_machine(recipe)
    heads = read_heads(recipe)
    indices = {name: head.train_index() for name, head in heads.items()}
    model = build_run_model(recipe, heads)
    return join_parts(recipe, heads, indices, model, accelerator, listener or Silent(), dry)


def join_parts(
    recipe: Recipe,
    heads: dict[str, ResolvedHead],
    indices: dict[str, PoseIndex],
    model: PoseModel,
    accelerator: Accelerator,
    listener: Listener,
    dry: bool = False,
) -> PreparedRun:
    """Join a model that is built already with the batches of its heads; see `prepare_run`."""
    teacher = prepare_teacher(recipe, model, accelerator.device)
    data = {
        name: CropSource(
            index=indices[name],
            input_size=head.spec.input_size,
            warp=model.head(name).codec.warp,
            augmentation=recipe.head_augmentation(name),
            pixels=recipe.data.pixels,
        )
        for name, head in heads.items()
    }
    features: dict[str, FeatureSource] = {}
    if recipe.data.features is not None:
        make = blank_features if dry else cached_features
        features = make(recipe, model, data, accelerator, listener)
    loader = mixed_loader(recipe, data, accelerator, features)
    quiet = listener if accelerator.is_main_process else Silent()
    return PreparedRun(recipe, heads, indices, model, loader, accelerator, quiet, teacher)
