"""The training loop: steps, logging, averaging, checkpoints, exact resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor

from posekit.config.recipe import Recipe, recipe_from_dict
from posekit.data.loader import Batch
from posekit.errors import CheckpointError, TrainingError
from posekit.models import PoseModel
from posekit.models.batch_norm import unused_batch_norms
from posekit.models.processes import to_first, wait_for_all
from posekit.training.accelerator import lost_processes_told
from posekit.training.clock import Clock
from posekit.training.compiled import compile_parts
from posekit.training.events import ErrorBook, HeadResult, Listener
from posekit.training.gradients import check_measurable, measure_gradients
from posekit.training.guard import StepGuard, update_average
from posekit.training.kernels import attention_kernels, choose_attention, fast_products
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
        evaluate: scores the heads of a model; called on every process, which share the work.

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
        self.listener, self.evaluate = listener, evaluate
        self.writes = folder if accelerator.is_main_process else None
        config, training = recipe.optimizer, recipe.training
        self.objective, self.scale = data.objective(model, recipe)
        self.objective.to(accelerator.device)
        self.model = model
        self.kernels = choose_attention(
            self.model, training.attention, accelerator.device, training.precision
        )
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
        if accelerator.ddp_handler is not None:
            accelerator.ddp_handler.find_unused_parameters = self._may_leave_parameters_out()
        self.module, self.prepared = accelerator.prepare(self.objective, self.optimizer)
        names = [*self.scale.weights, *(name for e in data.extras for name in e.names)]
        self.guard = StepGuard(
            self.objective, names, training.max_bad_steps, accelerator.num_processes > 1
        )
        self.step = 0
        self.best: dict[str, float] = {}
        self.errors, self.unheard = ErrorBook(listener), list[str]()
        if training.gradient_report_every:
            check_measurable(self.objective)

    @property
    def averaged_model(self) -> Any:
        """The model to evaluate and to keep: the averaged one if the recipe averages."""
        return self.model if self.ema is None else self.ema.module

    def run(self) -> bool:
        """Train to the end or to a signal; True if the run is complete.

        Raises:
            TrainingError: too many steps in a row were bad, or another process is gone.
            CheckpointError: the last checkpoint cannot be written.
            DatasetError: too many records of a dataset cannot be read.
        """
        self.listener.started(self.step, self.total_steps)
        if self.writes is not None:
            self._survive(self.writes.append_setting, self.step, self.setting())
        clock = Clock(self.recipe, self.guard.names, self.data.instances, self.accelerator)
        clock.step_cost = self.step_cost
        micro = self.recipe.training.accumulate
        batches = self.data.batches(self.step * micro)
        with StopRequest() as stop, lost_processes_told(), fast_products():
            while self.step < self.total_steps and not self._stop_asked(stop):
                waiting = time.perf_counter()
                step_batches = [next(batches).to(self.accelerator.device) for _ in range(micro)]
                clock.waited_s += time.perf_counter() - waiting
                self._report_gradients(step_batches)
                terms = self.train_step(step_batches)
                clock.add(step_batches, terms, self.bad)
                self._between_steps(clock)
            stopped = self.step < self.total_steps
            self._tell_bad_steps(wait=True)
            self.save()
        self.listener.finished(self.step, stopped)
        return not stopped

    def train_step(self, batches: Sequence[Batch]) -> Terms:
        """Do one optimizer step on the micro-batches; gives each head's loss terms.

        A step whose loss or gradient is not finite changes nothing (`bad` is then 1).
        """
        self.phases.apply(self.step)
        self.module.train()
        self.scheduler.step_update(self.step)
        for batch in batches:
            self.unheard += batch.errors
        for extra in self.data.extras:
            extra.step_begins(self.step)
        accelerator, training = self.accelerator, self.recipe.training
        self.guard.begin()
        with (
            keyed_randomness(
                training.seed, self.step, accelerator.process_index, accelerator.device
            ),
            attention_kernels(training.attention),
        ):
            terms = run_step(
                self.module, batches, self.scale, self._backward, accelerator.num_processes
            )
        self.step += 1
        if accelerator.scaler is not None:
            accelerator.unscale_gradients(self.prepared)
        for extra in self.data.extras:
            extra.step_ends()
        self.bad = self.guard.judge(self.step, terms, self.recipe.optimizer.clip_norm)
        if accelerator.scaler is None:  # else it sets this itself
            self.optimizer.found_inf = self.bad  # type: ignore[attr-defined]
        self.prepared.step()
        self.prepared.zero_grad()
        if self.ema is not None:
            update_average(self.ema.module, self.model, self.ema.get_decay(self.step), self.bad)
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

    def setting(self) -> dict[str, Any]:
        """Return on what and with what arithmetic the run computes, for its log."""
        device = self.accelerator.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return {
            "device": name,
            "processes": self.accelerator.num_processes,
            "precision": self.recipe.training.precision,
            "attention": list(self.kernels),
            "torch": torch.__version__,
        }

    def save(self) -> None:
        """Write the resume state and the model, on the first process; the others do not wait.

        Raises:
            CheckpointError: it cannot be written.
            TrainingError: a head's batch norm has never seen a sample, so that the head would
                normalise by nothing; the checkpoint is written.
        """
        if self.writes is None:
            return
        self.writes.save_last(self.state(), self.averaged_model)
        unused = unused_batch_norms(self.model)
        if unused:
            raise TrainingError(
                f"step {self.step}: {unused[0]} has never seen a sample of its head, so its scores "
                "mean nothing yet; train longer, give the head's dataset a larger share "
                "(data.sampling), or take decoder: {norm: layer}"
            )

    def _may_leave_parameters_out(self) -> bool:
        """Whether a micro-batch may give some parameters no gradient: of absent heads, experts."""
        several = len(self.scale.weights) > 1
        experts = bool(getattr(self.model, "expert_of", None))
        return several or experts or bool(self.recipe.phases) or bool(self.data.extras)

    def _backward(self, loss: Tensor, is_last: bool) -> None:
        if is_last:
            self.accelerator.backward(loss)
        else:
            with self.accelerator.no_sync(self.module):
                self.accelerator.backward(loss)

    def _report_gradients(self, batches: Sequence[Batch]) -> None:
        """Log how the heads move the backbone in the coming step; changes nothing in the run."""
        every = self.recipe.training.gradient_report_every
        if not every or (self.step + 1) % every or self.writes is None:
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
        self._survive(self.writes.append_gradients, self.step + 1, found)

    def _tell_bad_steps(self, wait: bool = False) -> None:
        """Warn of the steps that were left out; TrainingError if there were too many in a row."""
        for bad in self.guard.found(wait):
            self.listener.warned(f"step {bad.step} was left out: {bad.reason}")
            if self.writes is not None:
                self._survive(self.writes.append_bad_step, bad)

    def _survive(self, write: Callable[..., None], *values: Any) -> None:
        """Write to the run's folder; a disk that refuses is told and ends nothing."""
        try:
            write(*values)
        except (CheckpointError, TrainingError) as error:
            self.listener.warned(f"{error}; training goes on")

    def _between_steps(self, clock: Clock) -> None:
        training = self.recipe.training
        is_last = self.step == self.total_steps
        log_now = self.step % training.log_every == 0 or is_last
        self._tell_bad_steps(wait=log_now or self.step % training.save_every == 0)
        if self.accelerator.num_processes == 1 or log_now:  # broken records of all processes
            told, self.unheard = self.unheard, []
            for messages in to_first(lambda: told) or ():
                self.errors.note(messages)
        if log_now:
            log = clock.log(self.step, self.total_steps, self.optimizer.param_groups)
            self.listener.logged(log)
            if self.writes is not None:
                self._survive(self.writes.append_log, log)
        evaluate_now = bool(training.evaluate_every) and self.step % training.evaluate_every == 0
        if (self.step % training.save_every == 0 or evaluate_now) and not is_last:
            self._survive(self.save)  # first: whatever happens in an evaluation, the steps are kept
            if evaluate_now:
                self._evaluate()
            wait_for_all()  # the first writes, however slow the disk
            clock.skip()

    def _evaluate(self) -> None:
        """Evaluate on all processes; the first one writes."""
        if self.evaluate is None:
            return
        results = self.evaluate(self.averaged_model, self.step)
        self.listener.evaluated(self.step, results)
        if self.writes is not None:
            self._survive(self.writes.append_evaluation, self.step, results)
            for head, result in results.items():
                if result.goodness > self.best.get(head, float("-inf")):
                    self.best[head] = result.goodness
                    self._survive(
                        self.writes.save_best, head, self.averaged_model, self.step, result
                    )

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
    total = recipe.training.batch_total
    if state["world_size"] != processes and total is None:
        raise CheckpointError(
            f"{where}: saved by {state['world_size']} processes, found {processes}; the batches "
            "would differ, so resume with as many as before (with training.batch_total, which "
            "fixes the samples of a step, any number goes on)"
        )
    free = {"out", "data_root"}
    # keys that are newer than the state were at their defaults
    old = recipe_from_dict(state["recipe"], f"{where}: its recipe").model_dump(mode="json")
    new = recipe.model_dump(mode="json")
    for key in new:
        if key not in free and (difference := _difference(old.get(key), new[key], key, total)):
            raise CheckpointError(
                f"{where}: this run was trained with another recipe: {difference}; "
                "resume with the same settings, or start another run with out=..."
            )


_FREE = {
    "training.log_every",
    "training.save_every",
    "training.evaluate_every",
    "training.gradient_report_every",
    "training.max_bad_steps",
    "training.tensorboard",
    "training.compile",
    "training.attention",
    "training.precision",
    "backbone.gradient_checkpointing",
    "data.workers",
    "data.cache",
}
"""Keys that do not change what a step computes, but for rounding."""

_CUT = {"training.batch_size", "training.accumulate"}
"""How a step of `training.batch_total` samples is cut into micro-batches."""


def _difference(old: Any, new: Any, path: str, batch_total: int | None) -> str | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new)):
            if found := _difference(old.get(key), new.get(key), f"{path}.{key}", batch_total):
                return found
        return None
    is_free = path in _FREE or path.endswith(".root") or path.startswith("evaluation.")
    if old == new or is_free or path.endswith(".protocol") or (path in _CUT and batch_total):
        return None
    return f"{path} was {old!r}, is {new!r}"
