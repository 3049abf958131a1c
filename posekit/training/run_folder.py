"""What a run leaves behind: runs/NAME with recipe, log and checkpoints."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from posekit.config.cards import load_dataset_card
from posekit.config.recipe import Recipe
from posekit.errors import CheckpointError, ConfigError
from posekit.models import PoseModel
from posekit.models.checkpoint import save_checkpoint
from posekit.models.training_state import load_training_state, save_training_state
from posekit.output import finite, write_text
from posekit.training.events import HeadResult, StepLog
from posekit.training.gradients import GradientReport
from posekit.training.guard import BadStep


class RunFolder:
    """The folder of one run.

    Holds recipe.yaml (resolved), log.jsonl, checkpoints/last.state (exact resume),
    checkpoints/previous.state (the one saved before),
    checkpoints/last.safetensors (the model to use), checkpoints/best-HEAD.safetensors, eval/HEAD/.

    Args:
        path: the folder; made by `start`.
        recipe: the resolved recipe of the run.
    """

    def __init__(self, path: str | Path, recipe: Recipe):
        self.path, self.recipe = Path(path), recipe

    @property
    def state_file(self) -> Path:
        """The file that exact resume reads."""
        return self.path / "checkpoints" / "last.state"

    @property
    def previous_state_file(self) -> Path:
        """The state saved before that one, for when that one is damaged."""
        return self.path / "checkpoints" / "previous.state"

    @property
    def model_file(self) -> Path:
        """The model as of the last save."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def log_file(self) -> Path:
        """One JSON object a line."""
        return self.path / "log.jsonl"

    def start(
        self, resume: bool, warn: Callable[[str], None] = warnings.warn
    ) -> dict[str, Any] | None:
        """Make the folder, or take up the run in it.

        Args:
            resume: go on with the run in the folder, if there is one.
            warn: is told if the newest state is damaged and the one before it is taken.

        Returns:
            The saved state if `resume` and there is one, else None.

        Raises:
            ConfigError: the folder holds a run and `resume` is False, or it cannot be made.
            CheckpointError: the saved states are damaged.
        """
        if resume and (state := self._newest_state(warn)) is not None:
            self._cut_log(int(state.get("step", 0)))
            return state
        if self.log_file.exists() and not resume:
            raise ConfigError(
                f"{self.path}: this folder holds a run already; go on with --resume, "
                "or choose another with out=..."
            )
        try:
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written ({error.strerror})") from None
        write_text(self.path / "recipe.yaml", self.recipe.to_yaml(), error=ConfigError)
        write_text(self.log_file, "", error=ConfigError)
        return None

    def append_log(self, log: StepLog) -> None:
        """Add a training line to log.jsonl."""
        self._append(dataclasses.asdict(log))

    def append_setting(self, step: int, setting: dict[str, Any]) -> None:
        """Add a line about the machine that trains from `step` on to log.jsonl."""
        self._append({"step": step, "runs_on": setting})

    def append_bad_step(self, bad: BadStep) -> None:
        """Add a line about a step that was left out to log.jsonl."""
        self._append({"step": bad.step, "left_out": bad.reason})

    def append_evaluation(self, step: int, results: dict[str, HeadResult]) -> None:
        """Add an evaluation line to log.jsonl."""
        metrics = {head: result.metrics for head, result in results.items()}
        self._append({"step": step, "eval": metrics})

    def append_gradients(self, step: int, report: GradientReport) -> None:
        """Add a line about the heads' gradients in a step to log.jsonl."""
        self._append({"step": step, "gradients": report.to_dict()})

    def save_last(self, state: dict[str, Any], model: PoseModel) -> None:
        """Write the resume state and the model; CheckpointError leaves the old files intact."""
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        save_training_state(self.state_file, state, self.previous_state_file)
        save_checkpoint(self.model_file, model, self._description(state["step"]))

    def save_best(self, head: str, model: PoseModel, step: int, result: HeadResult) -> None:
        """Write the model as the best one of a head."""
        file = self.path / "checkpoints" / f"best-{head}.safetensors"
        save_checkpoint(file, model, {**self._description(step), "metrics": {head: result.metrics}})

    def _description(self, step: int) -> dict[str, Any]:
        return {"recipe": self.recipe.model_dump(mode="json"), "step": step, "boxes": self._boxes}

    @cached_property
    def _boxes(self) -> dict[str, Any]:
        """Return each head's rule for crops, so that the saved model needs no card to predict."""
        return {
            name: load_dataset_card(head.dataset).box.model_dump(mode="json")
            for name, head in self.recipe.heads.items()
        }

    def _newest_state(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        previous = self.previous_state_file
        try:
            if self.state_file.exists() or not previous.exists():
                return load_training_state(self.state_file) if self.state_file.exists() else None
        except CheckpointError as error:
            if not previous.exists():
                raise
            warn(f"{error}; going on from {previous.name}, which was saved before it")
        return load_training_state(previous)

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(finite(line), allow_nan=False) + "\n"
        try:
            with self.log_file.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    text = text if file.read(1) == b"\n" else "\n" + text  # cut by a full disk
                file.write(text.encode())
        except OSError as error:
            raise CheckpointError(
                f"{self.log_file}: cannot be written ({error.strerror}); free some space"
            ) from None

    def _cut_log(self, step: int) -> None:
        """Drop damaged lines, and those of steps after `step`, which the resumed run does again."""
        text = self.log_file.read_bytes() if self.log_file.exists() else b""
        lines = text.decode(errors="replace").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        write_text(self.log_file, (line + "\n" for line in kept), sync=True, error=CheckpointError)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
