"""Train a recipe: joins indices, sampler, loader, model, loop and evaluation."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from posekit.config.plug_ins import takes_allow_code
from posekit.config.recipe import Recipe, load_recipe
from posekit.engine.distill import token_run
from posekit.engine.evaluate import RunEvaluator, evaluate_run
from posekit.engine.prepare_run import PreparedRun, join_parts, prepare_run
from posekit.engine.run_parts import run_folder_of, run_on, start_folder
from posekit.engine.setup import ResolvedHead, keep_code
from posekit.models import PoseModel
from posekit.models.knowledge import attach_token, load_token, save_token
from posekit.models.processes import from_first
from posekit.training.accelerator import on_this_machine
from posekit.training.events import HeadResult, Listener
from posekit.training.loop import Evaluate
from posekit.training.run_folder import RunFolder
from posekit.training.schedule import run_length
from posekit.training.tensorboard import TensorBoardListener


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        folder: where everything lies.
        complete: False if a signal ended it early (go on with `resume=True`).
        step: optimizer steps done.
        results: head -> its numbers at the end; empty if not evaluated.
        model: the trained (averaged) model, in evaluation mode.
    """

    folder: Path
    complete: bool
    step: int
    model: PoseModel
    results: dict[str, HeadResult] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a run would do, found out by three dry steps.

    Attributes:
        steps: optimizer steps; epoch_steps: of one pass over all training splits together.
        processes: the number of processes the plan is for.
        shown: head -> (trainable instances, samples of the whole run, all processes).
        skipped: head -> reason -> instances that training leaves out.
        step_s: seconds of a step; total_s: of the run, without evaluation.
        memory_mib: peak memory of the device (GPU) or of this process (CPU).
        device: where the dry steps ran.
        parameters: of the model; trainable: those that the first step trains.
    """

    steps: int
    epoch_steps: float
    processes: int
    shown: dict[str, tuple[int, float]]
    skipped: dict[str, dict[str, int]]
    step_s: float
    total_s: float
    memory_mib: float
    device: str
    parameters: int
    trainable: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


@takes_allow_code
def train(
    recipe: Recipe | str | Path,
    overrides: Iterable[str] = (),
    *,
    resume: bool = False,
    evaluate: bool = True,
    listener: Listener | None = None,
    allow_code: bool = False,
) -> RunResult:
    """Train a recipe to its end and evaluate every head.

    Args:
        recipe: a Recipe, or the path or name of one.
        overrides: `key.path=value` settings laid upon a recipe given by path or name.
        resume: go on with the run in the recipe's folder, if it holds one.
        evaluate: score every head at the end (and in between, as the recipe says).
        listener: is told what happens.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError: a card, the recipe or a setting is wrong; the folder holds another run.
        DatasetError: annotations or too many images of a dataset are missing or wrong.
        CheckpointError: a checkpoint cannot be written, read, or does not fit.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    run = prepare_run(recipe, listener=listener)
    recipe = run.recipe
    folder = RunFolder(run_folder_of(recipe), recipe)
    shared = run.accelerator.num_processes > 1
    evaluator = RunEvaluator(recipe, run.heads, distributed=shared) if evaluate else None
    if evaluator is not None:
        evaluator.check_boxes()

    def begin() -> dict[str, Any] | None:
        begun = folder.start(resume, run.listener.warned)
        keep_code(folder.path, run.heads, begins=begun is None)
        return begun

    state = from_first(begin)
    if recipe.training.tensorboard and run.accelerator.is_main_process:
        run.listener = TensorBoardListener(folder.path, run.listener)
    if not _learn_token(recipe, run, folder, resume):
        return RunResult(folder.path, False, 0, run.model.eval())
    trainer = run.trainer(folder, _scorer(evaluator, run) if evaluator else None)
    complete = run_on(trainer, folder, state)
    results: dict[str, HeadResult] = {}
    if complete and evaluator is not None:
        results = evaluate_run(
            folder.path,
            evaluator=evaluator,
            model=trainer.averaged_model,
            failed=run.listener.warned,
        )
        run.listener.evaluated(trainer.step, results)
        if run.accelerator.is_main_process:
            folder.append_evaluation(trainer.step, results)
    return RunResult(folder.path, complete, trainer.step, trainer.averaged_model.eval(), results)


def _scorer(evaluator: RunEvaluator, run: PreparedRun) -> Evaluate:
    def score(model: PoseModel, step: int) -> dict[str, HeadResult]:
        return evaluator.head_results(
            model, lambda told: run.listener.warned(f"step {step}: {told}")
        )

    return score


def _learn_token(recipe: Recipe, run: PreparedRun, folder: RunFolder, resume: bool) -> bool:
    """Learn the knowledge token that a recipe wants, and give it to the run's model.

    It is a run of its own in RUN/token, whose result is RUN/token.pt.

    Returns:
        False if a signal ended it early.
    """
    wanted = recipe.distillation.token if recipe.distillation else None
    if wanted is None or wanted.file is not None:
        return True
    file = folder.path / "token.pt"
    if not from_first(lambda: resume and file.is_file()):
        stage, heads, teacher = token_run(recipe, run.heads, run.model, folder.path / "token")
        own = _prepare_token(stage, heads, teacher, run.listener)
        own_folder = RunFolder(stage.out, stage)
        state = start_folder(own_folder, resume, own.listener)
        if not run_on(own.trainer(own_folder, None), own_folder, state):
            return False
        if own.accelerator.is_main_process:
            save_token(file, teacher)
    attach_token(run.model, from_first(lambda: load_token(file)))
    return True


def _prepare_token(
    recipe: Recipe, heads: dict[str, ResolvedHead], teacher: PoseModel, listener: Listener
) -> PreparedRun:
    """Build the parts of the run that learns a token: its model is the teacher, not a new one."""
    recipe, accelerator = on_this_machine(recipe)
    indices = {name: head.train_index() for name, head in heads.items()}
    return join_parts(recipe, heads, indices, teacher, accelerator, listener)


@takes_allow_code
def plan(
    recipe: Recipe | str | Path,
    overrides: Iterable[str] = (),
    dry_steps: int = 3,
    *,
    allow_code: bool = False,
) -> Plan:
    """Find out what a run would do, by `dry_steps` real steps that leave nothing behind."""
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    run = prepare_run(recipe, dry=True)
    recipe = run.recipe
    trainer = run.trainer()
    steps, epoch_steps = run_length(recipe, run.instances, run.accelerator.num_processes)
    batches = run.loader.batches(0)
    seconds = []
    for _ in range(dry_steps):
        micro = [next(batches) for _ in range(recipe.training.accumulate)]
        begun = time.perf_counter()
        trainer.train_step([batch.to(run.accelerator.device) for batch in micro])
        seconds.append(time.perf_counter() - begun)
    step_s = sorted(seconds)[len(seconds) // 2]
    shown = run.loader.sampler.plan(steps)
    return Plan(
        steps=steps,
        epoch_steps=epoch_steps if recipe.training.epochs is not None else run.epoch_steps,
        processes=run.accelerator.num_processes,
        shown={name: (len(run.indices[name].trainable), shown[name][0]) for name in run.heads},
        skipped={
            name: {reason: n for reason, n in index.skipped.items() if n}
            for name, index in run.indices.items()
        },
        step_s=step_s,
        total_s=step_s * steps,
        memory_mib=peak_memory_mib(run.accelerator.device),
        device=str(run.accelerator.device),
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        trainable=sum(p.numel() for p in run.model.parameters() if p.requires_grad),
    )


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak memory of a GPU's tensors, or of this process where there is no GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
