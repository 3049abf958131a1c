"""The training loop: steps, logging, averaging, checkpoints, exact resume."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from posekit.config.recipe import Recipe, recipe_from_dict
from posekit.data.loader import Batch
from posekit.errors import CheckpointError, ConfigError
from posekit.models import PoseModel
from posekit.training.clock import Clock
from posekit.training.compiled import compile_parts
from posekit.training.events import ErrorBook, HeadResult, Listener
from posekit.training.gradients import check_measurable, measure_gradients
from posekit.training.losses import PointLoss
from posekit.training.objective import Objective, Terms
from posekit.training.optimizer import build_optimizer
from posekit.training.phases import Phases
from posekit.training.run_folder import RunFolder
from posekit.training.schedule import build_scheduler, run_length
from posekit.training.signals import StopRequest
from posekit.training.step import (
    ExtraLoss,
    LossModule,
    LossScale,
    keyed_randomness,
    run_step,
)
from posekit.training.utilisation import measure_step_cost

Evaluate = Callable[[PoseModel, int], dict[str, HeadResult]]
Batches = Callable[[int], Iterator[Batch]]


@dataclass(frozen=True)
class TrainingSet:
    """What the loop trains on.

    Attributes:
        batches: gives the iterator of this process's micro-batches from a micro-batch number on.
        instances: trainable instances of all heads together (an epoch's length).
        losses: head -> per-point loss.
        extras: losses beside the heads' own.
    """

    batches: Batches
    instances: int
    losses: dict[str, PointLoss] = field(default_factory=dict)
    extras: tuple[ExtraLoss, ...] = ()

    def objective(self, model: Any, recipe: Recipe) -> tuple[Objective, LossScale]:
        """Return what is to be minimised, and how its terms become one loss."""
        scale = LossScale(
            recipe.training.loss_scale,
            {name: head.loss_weight for name, head in recipe.heads.items()},
            {name: len(model.head(name).schema) for name in recipe.heads},
        )
        return LossModule(model, self.losses, self.extras), scale


class Trainer:
    """Trains one model by one recipe.

    Args:
        recipe: the run.
        model: on the CPU, as built or loaded; a PoseModel, or what else the data's objective takes.
        data: batches and losses.
        accelerator: device, precision and processes (accelerate).
        listener: is told what happens (on the first process only).
        folder: where logs and checkpoints go; None writes nothing.
        evaluate: scores the heads of a model; called on the first process.

    Raises:
        ConfigError: fp16 on a device that cannot, or a run folder that holds another run.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Any,
        data: TrainingSet,
        accelerator: Accelerator,
        listener: Listener,
        folder: RunFolder | None = None,
        evaluate: Evaluate | None = None,
    ):
        self.recipe, self.data, self.accelerator = recipe, data, accelerator
        self.listener, self.folder, self.evaluate = listener, folder, evaluate
        config, training = recipe.optimizer, recipe.training
        self.objective, self.scale = data.objective(model, recipe)
        self.objective.to(accelerator.device)
        self.model = model
        _choose_attention(self.model, accelerator.device, training.precision)
        self.total_steps, unit = run_length(recipe, data.instances, accelerator.num_processes)
        self.optimizer = build_optimizer(self.model, config, self.objective.own_parameters())
        self.scheduler = build_scheduler(
            self.optimizer, recipe.schedule, config.lr, self.total_steps, unit
        )
        self.ema = (
            ModelEmaV3(self.model, decay=training.ema_decay, use_warmup=True)
            if training.ema_decay
            else None
        )
        self.phases = Phases(self.model, recipe.phases, unit)
        self.step_cost = measure_step_cost(self.model, accelerator.device, training.precision)
        if training.compile:
            compile_parts(self.model)
        self.module, self.prepared = accelerator.prepare(self.objective, self.optimizer)
        self.step = 0
        self.best: dict[str, float] = {}
        self.errors = ErrorBook(listener)
        if training.gradient_report_every:
            check_measurable(self.objective)

    @property
    def averaged_model(self) -> Any:
        """The model to evaluate and to keep: the averaged one if the recipe averages."""
        return self.model if self.ema is None else self.ema.module

    def run(self) -> bool:
        """Train to the end or to a signal; True if the run is complete.

        Raises:
            CheckpointError: the last checkpoint cannot be written.
            DatasetError: too many records of a dataset cannot be read.
        """
        self.listener.started(self.step, self.total_steps)
        names = [*self.scale.weights, *(name for e in self.data.extras for name in e.names)]
        clock = Clock(self.recipe, names, self.data.instances, self.accelerator)
        clock.step_cost = self.step_cost
        micro = self.recipe.training.accumulate
        batches = self.data.batches(self.step * micro)
        with StopRequest() as stop:
            while self.step < self.total_steps and not self._stop_asked(stop):
                waiting = time.perf_counter()
                step_batches = [next(batches).to(self.accelerator.device) for _ in range(micro)]
                clock.waited_s += time.perf_counter() - waiting
                self._report_gradients(step_batches)
                terms = self.train_step(step_batches)
                clock.add(step_batches, terms)
                self._between_steps(clock)
            stopped = self.step < self.total_steps
            self.save()
        self.listener.finished(self.step, stopped)
        return not stopped

    def train_step(self, batches: Sequence[Batch]) -> Terms:
        """Do one optimizer step on the micro-batches; gives each head's loss terms."""
        self.phases.apply(self.step)
        self.module.train()
        self.scheduler.step_update(self.step)
        for batch in batches:
            self.errors.note(batch.errors)
        for extra in self.data.extras:
            extra.step_begins(self.step)
        accelerator = self.accelerator
        seed = self.recipe.training.seed
        with keyed_randomness(seed, self.step, accelerator.process_index, accelerator.device):
            terms = run_step(
                self.module, batches, self.scale, self._backward, accelerator.num_processes
            )
        if self.recipe.optimizer.clip_norm:
            accelerator.clip_grad_norm_(self.module.parameters(), self.recipe.optimizer.clip_norm)
        self.prepared.step()
        self.prepared.zero_grad()
        for extra in self.data.extras:
            extra.step_ends()
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model, step=self.step)
        return terms

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs to go on as if never interrupted."""
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "world_size": self.accelerator.num_processes,
            "model": self.model.state_dict(),
            "objective": self.objective.own_state(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "best": dict(self.best),
            "recipe": self.recipe.model_dump(mode="json"),
        }

    def restore(self, state: dict[str, Any], where: str = "training state") -> None:
        """Take up a saved state.

        Raises:
            CheckpointError: the state is of another recipe or another number of processes.
        """
        check_same_run(state, self.recipe, self.accelerator.num_processes, where)
        self.model.load_state_dict(state["model"])
        self.objective.load_own_state(state.get("objective", {}))
        if self.ema is not None and state["ema"] is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.best = int(state["step"]), dict(state["best"])

    def save(self) -> None:
        """Write the resume state and the model, on the first process."""
        if self.folder is not None and self.accelerator.is_main_process:
            self.folder.save_last(self.state(), self.averaged_model)
        self.accelerator.wait_for_everyone()

    def _backward(self, loss: Tensor, is_last: bool) -> None:
        if is_last:
            self.accelerator.backward(loss)
        else:
            with self.accelerator.no_sync(self.module):
                self.accelerator.backward(loss)

    def _report_gradients(self, batches: Sequence[Batch]) -> None:
        """Log how the heads move the backbone in the coming step; changes nothing in the run."""
        every, main = self.recipe.training.gradient_report_every, self.accelerator.is_main_process
        if not every or (self.step + 1) % every or self.folder is None or not main:
            return
        self.phases.apply(self.step)
        if not any(parameter.requires_grad for parameter in self.model.backbone.parameters()):
            return  # a phase rests the backbone: no head moves it
        self.module.train()
        inner = getattr(self.module, "module", self.module)
        scaler = self.accelerator.scaler
        factor = 1.0 if scaler is None else float(scaler.get_scale())
        with keyed_randomness(self.recipe.training.seed, self.step, 0, self.accelerator.device):
            found = measure_gradients(inner, batches, self.scale, factor)
        self.folder.append_gradients(self.step + 1, found)

    def _between_steps(self, clock: Clock) -> None:
        training = self.recipe.training
        is_last = self.step == self.total_steps
        if self.step % training.log_every == 0 or is_last:
            log = clock.log(self.step, self.total_steps, self.optimizer.param_groups)
            self.listener.logged(log)
            if self.folder is not None and self.accelerator.is_main_process:
                self.folder.append_log(log)
        if training.evaluate_every and (self.step % training.evaluate_every == 0) and not is_last:
            self._evaluate()
            clock.skip()
        if self.step % training.save_every == 0 and not is_last:
            try:
                self.save()
            except CheckpointError as error:
                self.listener.warned(f"{error}; training goes on and saves again later")
            clock.skip()

    def _evaluate(self) -> None:
        if self.evaluate is None or not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
            return
        results = self.evaluate(self.averaged_model, self.step)
        self.listener.evaluated(self.step, results)
        if self.folder is not None:
            self.folder.append_evaluation(self.step, results)
            self._keep_best(results)
        self.accelerator.wait_for_everyone()

    def _keep_best(self, results: dict[str, HeadResult]) -> None:
        for head, result in results.items():
            if self.folder is not None and result.goodness > self.best.get(head, float("-inf")):
                self.best[head] = result.goodness
                self.folder.save_best(head, self.averaged_model, self.step, result)

    def _stop_asked(self, stop: StopRequest) -> bool:
        if self.accelerator.num_processes == 1:
            return stop.asked
        asked = torch.tensor(float(stop.asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, reduction="sum") > 0)


def check_same_run(state: dict[str, Any], recipe: Recipe, processes: int, where: str) -> None:
    """Raise CheckpointError if a state was saved by a run that would not continue as this one."""
    missing = {"step", "world_size", "model", "ema", "optimizer", "best", "recipe"} - set(state)
    if missing:
        raise CheckpointError(f"{where}: not a posekit training state (no {sorted(missing)[0]})")
    if state["world_size"] != processes:
        raise CheckpointError(
            f"{where}: saved by {state['world_size']} processes, found {processes}; "
            "the batches would differ, so resume with as many as before"
        )
    free = {"out", "data_root"}
    # keys that are newer than the state were at their defaults
    old = recipe_from_dict(state["recipe"], f"{where}: its recipe").model_dump(mode="json")
    new = recipe.model_dump(mode="json")
    for key in new:
        if key not in free and (difference := _difference(old.get(key), new[key], key)):
            raise CheckpointError(
                f"{where}: this run was trained with another recipe: {difference}; "
                "resume with the same settings, or start another run with out=..."
            )


_FREE = {
    "training.log_every",
    "training.save_every",
    "training.evaluate_every",
    "training.gradient_report_every",
    "data.workers",
}


def _difference(old: Any, new: Any, path: str) -> str | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new)):
            if found := _difference(old.get(key), new.get(key), f"{path}.{key}"):
                return found
        return None
    if old == new or path in _FREE or path.endswith(".root"):
        return None
    return f"{path} was {old!r}, is {new!r}"


def build_accelerator(precision: str) -> Accelerator:
    """Return accelerate's device and precision handling; ConfigError for fp16 without a GPU."""
    if precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("training.precision: fp16 needs a GPU; use bf16 or fp32 on the CPU")
    mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[precision]
    state = AcceleratorState._shared_state
    if state and state.get("_mixed_precision") != mixed:
        # accelerate keeps one precision a process; a second run in it may want another.
        AcceleratorState._reset_state()
    # A micro-batch may hold no sample of some head, whose parameters then get no gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        mixed_precision=mixed, step_scheduler_with_optimizer=False, kwargs_handlers=[unused]
    )
    if accelerator.num_processes > 1:
        atexit.register(_leave_process_group)
    return accelerator


def _leave_process_group() -> None:
    """End the group before the interpreter does: gloo's threads abort a process that just ends."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _choose_attention(model: nn.Module, device: torch.device, precision: str) -> None:
    """Train with fused attention, except in bf16 on CPUs, where the plain product is faster.

    benchmarks/cpu_attention.py measures both.
    """
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            fused = device.type != "cpu" or precision != "bf16"
            setattr(module, "fused_attn", fused)  # noqa: B010 - timm's attribute
