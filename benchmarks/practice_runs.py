"""Short runs on practice data, for the tables of the other scripts; nothing to run by itself."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import posekit
from posekit.config.recipe import Recipe, load_recipe
from posekit.engine.evaluate import COMMON_METRIC, RunEvaluator, common_metric
from posekit.engine.setup import read_heads
from posekit.practice import PracticeSizes, write_practice_data

MEASURE = f"{COMMON_METRIC} of the box's long side"
SMALL = ("backbone.embed_dim=128", "backbone.depth=4", "backbone.num_heads=4")
SHORT = (
    *("backbone.embed_dim=96", "backbone.depth=4", "backbone.num_heads=3"),
    *("heads.coco.input_size=[96, 64]", "training.batch_size=16"),
)


@contextmanager
def practice_folder(train: int = 400, evaluation: int = 200) -> Iterator[Path]:
    """Return a temporary folder with rendered people in COCO's format; the cache lies in it too."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["POSEKIT_CACHE"] = str(Path(name) / "cache")
        sizes = PracticeSizes(train, evaluation)
        write_practice_data(Path(name) / "data", sizes=sizes, datasets=["coco"])
        yield Path(name)


def people_recipe(
    folder: Path, name: str, settings: Sequence[str], steps: int, seed: int = 0
) -> Recipe:
    """Return the recipe `quickstart` with its people alone, shortened, and settings on top."""
    fixed = [
        *(f"heads.{head}=null" for head in ("aic", "mpii", "ap10k", "wflw")),
        f"data_root={folder / 'data'}",
        f"out={folder / 'runs' / name}",
        f"training.steps={steps}",
        f"training.seed={seed}",
        "training.batch_size=32",
        "training.ema_decay=0.97",
        "training.save_every=100000",
        f"schedule.warmup_steps={steps // 10}",
        "evaluation.batch_size=100",
    ]
    return load_recipe("quickstart", [*fixed, *settings])


def train_and_score(recipe: Recipe) -> tuple[float, float]:
    """Train; gives `MEASURE` on the evaluation split, and CPU seconds of a training step."""
    begun = time.process_time()
    done = posekit.train(recipe, evaluate=False)
    step_s = (time.process_time() - begun) / done.step
    evaluator = RunEvaluator(recipe, read_heads(recipe))
    _, predictions = evaluator.score(done.model, "coco")
    return common_metric(evaluator.index("coco"), predictions), step_s


def show(title: str, scores: Sequence[float], rest: str = "") -> None:
    """Print one row: mean over seeds, the single values, and whatever else was measured."""
    single = " ".join(f"{score:.3f}" for score in scores)
    print(f"| {title} | {np.mean(scores):.3f} | {single} |{rest}", flush=True)
