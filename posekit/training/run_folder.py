"""What a run leaves behind: runs/NAME with recipe, log and checkpoints."""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from posekit.config.cards import load_dataset_card
from posekit.config.recipe import Recipe
from posekit.errors import CheckpointError, ConfigError
from posekit.models import PoseModel
from posekit.models.checkpoint import save_checkpoint
from posekit.models.training_state import load_training_state, save_training_state
from posekit.output import write_text
from posekit.training.events import HeadResult, StepLog
from posekit.training.gradients import GradientReport


class RunFolder:
    """The folder of one run.

    Holds recipe.yaml (resolved), log.jsonl, checkpoints/last.state (exact resume),
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
    def model_file(self) -> Path:
        """The model as of the last save."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def log_file(self) -> Path:
        """One JSON object a line."""
        return self.path / "log.jsonl"

    def start(self, resume: bool) -> dict[str, Any] | None:
        """Make the folder, or take up the run in it.

        Returns:
            The saved state if `resume` and there is one, else None.

        Raises:
            ConfigError: the folder holds a run and `resume` is False, or it cannot be made.
            CheckpointError: the saved state is damaged.
        """
        if resume and self.state_file.exists():
            state = load_training_state(self.state_file)
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
        save_training_state(self.state_file, state)
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

    def _append(self, line: dict[str, Any]) -> None:
        try:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"{self.log_file}: cannot be written ({error.strerror}); free space and go on "
                "with --resume"
            ) from None

    def _cut_log(self, step: int) -> None:
        """Drop log lines of steps after `step`, which the resumed run does again."""
        lines = (
            self.log_file.read_text(encoding="utf-8").splitlines() if self.log_file.exists() else []
        )
        kept = [line for line in lines if _step_of(line) <= step]
        write_text(self.log_file, (line + "\n" for line in kept), sync=True, error=CheckpointError)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
