"""The whole story on practice data: render, train jointly, evaluate each head, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posekit.config.base import Strict, apply_overrides, validate
from posekit.config.recipe import load_recipe
from posekit.engine.evaluate import evaluate_run
from posekit.engine.single_heads import compare_heads
from posekit.engine.train import train
from posekit.errors import ConfigError
from posekit.practice import PracticeSizes, write_practice_data
from posekit.training.events import Listener

RECIPE = "quickstart"


class Practice(Strict):
    """Settings of the practice data: at least how many figures each dataset shows, and the seed."""

    train: int = PracticeSizes.train
    evaluation: int = PracticeSizes.evaluation
    seed: int = 0


@dataclass(frozen=True)
class Quickstart:
    """What the quickstart came to.

    Attributes:
        folder: the run; report: its page; data: the practice data.
        heads: see `compare_heads`.
        render_s, train_s, evaluate_s: seconds of each part.
        complete: False if a signal ended it early.
    """

    folder: Path
    data: Path
    heads: dict[str, dict[str, Any]]
    render_s: float
    train_s: float
    evaluate_s: float
    complete: bool

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.folder / "report.html"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "folder": str(self.folder),
            "report": str(self.report),
            "data": str(self.data),
            "heads": self.heads,
            "seconds": {
                "render": self.render_s,
                "train": self.train_s,
                "evaluate": self.evaluate_s,
            },
            "complete": self.complete,
        }


def quickstart(
    out: str | Path,
    settings: Sequence[str] = (),
    *,
    resume: bool = False,
    listener: Listener | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Quickstart:
    """Render practice data, train five heads on one backbone, evaluate each, write the report.

    Args:
        out: folder for `data/` and `run/`.
        settings: `practice.KEY=value` for the data, other `key.path=value` for the recipe.
        resume: go on with a stopped run.
        listener: is told what happens in training.
        say: is told what is being done.

    Raises:
        ConfigError: a wrong setting, or `out` holds a finished run and `resume` is False.
    """
    out = Path(out)
    practice, rest = _split_settings(settings)
    data, run = out / "data", out / "run"
    recipe = load_recipe(RECIPE, [f"data_root={data}", f"out={run}", *rest])
    if (run / "log.jsonl").exists() and not resume:
        raise ConfigError(f"{run}: this folder holds a run already; use --resume or another --out")
    say(f"Rendering people, animals and faces into {data} ...")
    begun = time.perf_counter()
    sizes = PracticeSizes(practice.train, practice.evaluation)
    write_practice_data(data, practice.seed, sizes, workers=2)
    rendered = time.perf_counter()
    say(f"Training one backbone with {len(recipe.heads)} heads ...")
    done = train(recipe, resume=resume, evaluate=False, listener=listener)
    trained = time.perf_counter()
    heads: dict[str, dict[str, Any]] = {}
    if done.complete:
        say("Evaluating each head by its dataset's own protocol ...")
        evaluate_run(run, model=done.model)
        heads = compare_heads(run)
    seconds = (rendered - begun, trained - rendered, time.perf_counter() - trained)
    return Quickstart(run, data, heads, *seconds, complete=done.complete)


def _split_settings(settings: Sequence[str]) -> tuple[Practice, list[str]]:
    mine = [setting for setting in settings if setting.startswith("practice.")]
    values = apply_overrides({}, mine).get("practice", {})
    rest = [setting for setting in settings if setting not in mine]
    return validate(Practice, values, "practice settings"), rest
