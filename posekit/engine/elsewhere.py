"""Evaluate heads away from home: on another dataset, or every head on every dataset of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posekit.catalog import load_dataset_card
from posekit.data.index import build_index
from posekit.engine.evaluate import RunEvaluator, recipe_of
from posekit.engine.setup import read_heads
from posekit.errors import ConfigError
from posekit.evaluation.cross import TransferMatrix, cross_evaluate
from posekit.evaluation.runner import evaluate_model, write_results
from posekit.models import PoseModel, load_model
from posekit.training.events import HeadResult


def evaluate_elsewhere(
    model: str | Path,
    dataset: str,
    split: str,
    root: str | Path,
    *,
    only: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
) -> dict[str, HeadResult] | TransferMatrix:
    """Evaluate heads of a model on a dataset that they need not have been trained on.

    Heads with the dataset's very keypoints are scored by its official protocol. If there is none,
    the heads that share keypoints with it are scored over those by PCK@0.1 of the box's long side.

    Args:
        model: a run's folder or a model file.
        dataset: name or path of the dataset's card; split, root: which split, in which folder.
        only: names of heads; all by default.
        settings: protocol settings.
        out: folder for metrics.json and predictions of officially scored heads; none by default.

    Returns:
        head -> numbers by the official protocol, or the transfer matrix.

    Raises:
        ConfigError, DatasetError, CheckpointError, PredictionError: as the parts do.
    """
    net = load_any(model)
    index = build_index(load_dataset_card(dataset), root, split)
    names = list(only) if only else list(net.head_names)
    unknown = [name for name in names if name not in net.head_names]
    if unknown:
        raise ConfigError(f"no head named '{unknown[0]}' (heads: {', '.join(net.head_names)})")
    fitting = [n for n in names if net.head(n).schema.keypoints == index.schema.keypoints]
    if not fitting:
        return cross_evaluate(net, {f"{dataset}/{split}": index}, heads=names)
    results = {}
    for name in fitting:
        scores, predictions = evaluate_model(net, name, index, settings=settings)
        if out is not None:
            write_results(Path(out) / name, scores, predictions, index)
        results[name] = HeadResult(scores.metrics, scores.headline, scores.lower_is_better)
    return results


def transfer_matrix(run: str | Path, overrides: Sequence[str] = ()) -> TransferMatrix:
    """Evaluate every head of a run on every evaluation split of the run; draws RUN/transfer.png.

    Raises:
        ConfigError, DatasetError, CheckpointError: as the parts do.
    """
    recipe = recipe_of(Path(run), overrides)
    evaluator = RunEvaluator(recipe, read_heads(recipe))
    indices = {name: evaluator.index(name) for name in evaluator.heads}
    matrix = cross_evaluate(load_any(run), indices)
    if Path(run).is_dir():
        matrix.write_picture(Path(run) / "transfer.png")
    return matrix


def load_any(model: str | Path) -> PoseModel:
    """Load a model file, or the last model of a run's folder."""
    path = Path(model)
    return load_model(path if path.is_file() else path / "checkpoints" / "last.safetensors")
