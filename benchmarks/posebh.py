"""What keypoint prototypes and self-supervision by them (PoseBH) change in a practice run.

    python benchmarks/posebh.py [--out DIR] [--base-steps 200] [--steps 120]

Renders practice data of people in three schemas, trains a joint model with few annotated instances
of one of them, and goes on from it for the same number of steps without prototypes, with them, and
with self-supervision too, in the phases of the published schedule. Prints each head's headline and
PCK@0.1 of the box, how much of the prototypes' own heatmaps is right, and processor seconds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from posekit.config.recipe import load_recipe, recipe_from_dict
from posekit.engine.evaluate import common_metric, evaluate_run, recipe_of
from posekit.engine.setup import read_heads
from posekit.engine.train import train
from posekit.evaluation.registry import protocol_of
from posekit.evaluation.runner import predict_split
from posekit.evaluation.tables import text_table
from posekit.models import PoseModel
from posekit.practice import PracticeSizes, write_practice_data

HEADS = ("coco", "aic", "mpii")
SPACE = {"layers": 1, "channels": 96, "width": 32, "momentum": 0.99}
WEIGHTS = {"contrast": 0.1, "distance": 0.1, "map_loss": 1.0, "self_supervision": 0.3}


def ways(steps: int) -> dict[str, dict[str, Any]]:
    """Return name -> changes of the recipe."""
    first, second = steps // 3, 2 * steps // 3
    space = {**SPACE, **WEIGHTS, "update_until": first}
    phases = [
        {"start": 0, "freeze": {"backbone": True, "heads": True}},
        {"start": first, "freeze": {"backbone": True}},
        {"start": second},
    ]
    return {
        "without": {"phases": phases[1:2] + phases[2:]},
        "prototypes": {"posebh": space, "phases": phases},
        "prototypes, self-supervision": {
            "posebh": {**space, "self_from": first},
            "phases": phases,
        },
    }


def recipe_for(data: Path, out: Path, steps: int) -> dict[str, Any]:
    """Return the quickstart's recipe for the heads of people, as plain values."""
    plain = load_recipe("quickstart").model_dump(mode="json")
    plain["heads"] = {name: plain["heads"][name] for name in HEADS}
    plain |= {"data_root": str(data), "out": str(out), "name": out.name}
    plain["training"] |= {"steps": steps, "batch_size": 32, "ema_decay": 0.95}
    plain["training"]["gradient_report_every"] = 0  # there is none where the backbone rests
    plain["schedule"]["warmup_steps"] = steps // 10
    return plain


class ByPrototypes(torch.nn.Module):
    """A model whose heads answer by their prototypes."""

    def __init__(self, model: PoseModel):
        super().__init__()
        self.inner = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, images: torch.Tensor, groups: Any) -> dict[str, torch.Tensor]:
        """Return head -> logits whose softmax has its peak where the prototypes' map has."""
        features = self.inner.features(images, groups)
        return {n: self.inner.prototype_maps(features[r], n) * 20 for n, r in groups}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--base-steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--people", type=int, default=200, help="of each dataset, in training")
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="posebh-"))
    os.environ["POSEKIT_CACHE"] = str(out / "cache")
    data = out / "data"
    write_practice_data(
        data, 0, PracticeSizes(options.people, max(options.people // 2, 1)), datasets=HEADS
    )
    base = train(recipe_from_dict(recipe_for(data, out / "base", options.base_steps)))
    rows = []
    for number, (name, changes) in enumerate(ways(options.steps).items()):
        plain = recipe_for(data, out / f"way{number}", options.steps)
        plain["training"]["init"] = str(base.folder / "checkpoints" / "last.safetensors")
        begun = time.process_time()
        done = train(recipe_from_dict({**plain, **changes}), evaluate=False)
        seconds = time.process_time() - begun
        rows.append([name, *scores(done.folder, done.model), f"{seconds:.0f}"])
    columns = [f"{head} {what}" for head in HEADS for what in ("score", "by prototypes")]
    print(text_table(["way", *columns, "CPU s"], rows))


def scores(folder: Path, model: PoseModel) -> list[str]:
    """Return each head's headline, and PCK@0.1 of the prototypes' own maps."""
    results = evaluate_run(folder, model=model, report=False)
    setups = read_heads(recipe_of(folder))
    cells = []
    for head in HEADS:
        index = setups[head].index(str(setups[head].recipe.evaluate))
        cells.append(f"{results[head].metrics[results[head].headline]:.3f}")
        if model.prototypes is None:
            cells.append("-")
            continue
        found = predict_split(ByPrototypes(model), head, index, protocol_of(index.card))
        cells.append(f"{common_metric(index, found):.3f}")
    return cells


if __name__ == "__main__":
    main()
