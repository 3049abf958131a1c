"""A new dataset's head on a frozen backbone with cached features, against full fine-tuning.

    python benchmarks/head_only.py [--out DIR] [--base-steps 240] [--steps 120]

Renders practice data, trains a small model on three of the datasets, and then learns a fourth in
four ways with the same number of steps and samples. Times are processor seconds of all threads,
which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from posekit.config.recipe import Recipe, load_recipe, recipe_from_dict
from posekit.engine.evaluate import evaluate_run
from posekit.engine.train import train
from posekit.evaluation.tables import text_table
from posekit.practice import PracticeSizes, write_practice_data

BASE = ("coco", "aic", "ap10k")
NEW = "mpii"
WAYS: dict[str, dict[str, Any]] = {
    "from random weights": {"training": {"init": None}},
    "full fine-tuning": {},
    "head only, crops": {"freeze": {"backbone": True}},
    "head only, features (4 views)": {
        "freeze": {"backbone": True},
        "data": {"cache": "none", "features": {"views": 4}},
    },
    "the same again, cache there": {
        "freeze": {"backbone": True},
        "data": {"cache": "none", "features": {"views": 4}},
    },
}


def recipe_for(heads: tuple[str, ...], data: Path, out: Path, steps: int) -> dict[str, Any]:
    """Return the quickstart's recipe for some of its heads, as plain values."""
    plain = load_recipe("quickstart").model_dump(mode="json")
    plain["heads"] = {name: plain["heads"][name] for name in heads}
    plain |= {"data_root": str(data), "out": str(out), "name": out.name}
    plain["training"] |= {"steps": steps, "batch_size": 32, "ema_decay": 0.95}
    plain["training"]["gradient_report_every"] = 0  # there is none where the backbone rests
    plain["schedule"]["warmup_steps"] = steps // 10
    return plain


def changed(plain: dict[str, Any], changes: dict[str, Any]) -> Recipe:
    """Lay changes, two levels deep, upon a recipe."""
    return recipe_from_dict({k: _merged(v, changes.get(k)) for k, v in plain.items()})


def _merged(value: Any, change: Any) -> Any:
    return {**value, **change} if isinstance(change, dict) else value


def measure(recipe: Recipe, name: str) -> list[str]:
    """Train and give a row: trainable parameters, processor seconds, headline, common metric."""
    begun = time.process_time()
    done = train(recipe, evaluate=False)
    seconds = time.process_time() - begun
    result = evaluate_run(done.folder, model=done.model, report=False)[NEW]
    count = sum(p.numel() for p in done.model.parameters() if p.requires_grad)
    return [name, f"{count / 1e6:.2f} M", f"{seconds:.0f}", f"{result.metrics['PCKh']:.1f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--base-steps", type=int, default=240)
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="head-only-"))
    os.environ["POSEKIT_CACHE"] = str(out / "cache")
    data = out / "data"
    write_practice_data(data, 0, PracticeSizes(240, 120), datasets=(*BASE, NEW))
    base = train(changed(recipe_for(BASE, data, out / "base", options.base_steps), {}))
    init = str(base.folder / "checkpoints" / "last.safetensors")
    rows = []
    for number, (name, changes) in enumerate(WAYS.items()):
        plain = recipe_for((NEW,), data, out / f"way{number}", options.steps)
        plain["training"] |= {"init": init}
        plain["optimizer"] |= {"layer_decay": 1.0}
        rows.append(measure(changed(plain, changes), name))
    print(text_table(["way", "trainable", "CPU s", "PCKh"], rows))


if __name__ == "__main__":
    main()
