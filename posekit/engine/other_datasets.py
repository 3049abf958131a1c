"""Evaluate heads of a model: on their own datasets, on another, or each head on each dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posekit.config.cards import DatasetCard, load_dataset_card
from posekit.config.plug_ins import takes_allow_code
from posekit.data.index import PoseIndex, build_index
from posekit.diagnosis.diagnose import diagnose
from posekit.engine.evaluate import RunEvaluator, evaluate_run, head_result, load_any, recipe_of
from posekit.engine.processes import join_processes, own_rank
from posekit.engine.setup import read_heads, require_heads
from posekit.errors import CheckpointError, ConfigError
from posekit.evaluation.cross import TransferMatrix, cross_evaluate
from posekit.evaluation.registry import protocol_of, split_settings
from posekit.evaluation.runner import evaluate_model, evaluate_shared, write_results
from posekit.models import PoseModel
from posekit.training.events import HeadResult


@dataclass(frozen=True)
class EvaluationResults:
    """What an evaluation found.

    Attributes:
        results: head -> its numbers by a dataset's protocol; empty where there is a matrix.
        matrix: every head on every dataset, over the keypoints that they share.
        folder: where the results on another dataset were written.
    """

    results: dict[str, HeadResult] = field(default_factory=dict)
    matrix: TransferMatrix | None = None
    folder: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        if self.matrix is not None:
            return self.matrix.to_dict()
        return {name: result.metrics for name, result in self.results.items()}


@takes_allow_code
def evaluate(
    model: str | Path,
    *,
    heads: Sequence[str] = (),
    datasets: Sequence[tuple[str, str]] = (),
    root: str | Path | None = None,
    out: str | Path | None = None,
    boxes: str | Path | None = None,
    transfer: bool = False,
    device: str | None = None,
    settings: Sequence[str] = (),
    allow_code: bool = False,
) -> EvaluationResults:
    """Evaluate the heads of a run or model, each by its dataset's own protocol.

    Under torchrun the processes share the work.

    Args:
        model: a run's folder or a model file.
        heads: names of the heads to evaluate; all by default.
        datasets: (card, split) of another dataset; several with `transfer`.
        root: folder of that dataset; the one below the recipe's data_root if left out.
        out: folder for results on other datasets; RUN/elsewhere/CARD-SPLIT (with `transfer` the
            run's folder) if left out.
        boxes: a detector's boxes (COCO results).
        transfer: every head on each dataset; on the run's own if none is named.
        device: where to compute; a GPU if there is one.
        settings: `KEY=value` of the protocol (flip_test=false), `key.path=value` of the recipe
            (data_root=DIR).
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Raises:
        ConfigError, DatasetError, CheckpointError, PredictionError: as the parts do.
    """
    protocol, rest = split_settings(settings)
    if boxes is not None:
        protocol["boxes"] = str(boxes)
    if transfer:
        matrix = _transfer_matrix(model, rest, datasets, heads or None, out, device)
        return EvaluationResults(matrix=matrix)
    if not datasets:
        results = evaluate_run(
            model, only=heads or None, settings=protocol, overrides=rest, device=device
        )
        return EvaluationResults(results)
    if len(datasets) > 1:
        raise ConfigError("several --dataset need --transfer: every head on every one of them")
    (name, split), base = datasets[0], Path(model)
    base = base if base.is_dir() else base.parent
    where = Path(out) if out is not None else base / "elsewhere" / f"{Path(name).stem}-{split}"
    found = _on_dataset(model, name, split, root, heads, protocol, where, device)
    if isinstance(found, TransferMatrix):
        return EvaluationResults(matrix=found, folder=where)
    return EvaluationResults(found, folder=where)


def _on_dataset(
    model: str | Path,
    dataset: str,
    split: str,
    root: str | Path | None,
    only: Sequence[str],
    settings: Mapping[str, Any],
    out: Path,
    device: str | None,
) -> dict[str, HeadResult] | TransferMatrix:
    """Evaluate heads of a model on a dataset that they need not have been trained on.

    Heads with the dataset's very keypoints are scored by its official protocol. If there is none,
    the heads that share keypoints with it are scored over those by PCK@0.1 of the box's long side.
    """
    rank, processes = join_processes()
    net = load_any(model, device)
    card = load_dataset_card(dataset)
    index = build_index(card, root if root is not None else _home(Path(model), card), split)
    names = list(only or net.head_names)
    require_heads(names, net.head_names)
    fitting = [n for n in names if net.head(n).schema.keypoints == index.schema.keypoints]
    if not fitting:
        matrix = cross_evaluate(net, {index.name: index}, heads=names)
        if not rank:
            matrix.write(out)
        return matrix
    where = None if rank else out
    done = {n: _evaluate_one(net, n, index, settings, where, processes > 1) for n in fitting}
    return {name: result for name, result in done.items() if result is not None}


def _transfer_matrix(
    run: str | Path,
    overrides: Sequence[str],
    datasets: Sequence[tuple[str, str]],
    only: Sequence[str] | None,
    out: str | Path | None,
    device: str | None,
) -> TransferMatrix:
    """Evaluate heads of a run on several datasets, over the keypoints that they share with each."""
    path = Path(run)
    recipe = recipe_of(path, overrides)
    if datasets:
        indices = {}
        for name, split in datasets:
            card = load_dataset_card(name)
            root = Path(recipe.data_root).expanduser() / card.folder
            indices[f"{card.name}/{split}"] = build_index(card, root, split)
    else:
        evaluator = RunEvaluator(recipe, read_heads(recipe))
        indices = {name: evaluator.index(name) for name in evaluator.heads}
    matrix = cross_evaluate(load_any(run, device), indices, heads=only)
    if not own_rank():
        matrix.write(Path(out) if out is not None else path if path.is_dir() else path.parent)
    return matrix


def _evaluate_one(
    model: PoseModel,
    head: str,
    index: PoseIndex,
    settings: Mapping[str, Any] | None,
    out: Path | None,
    shared: bool,
) -> HeadResult | None:
    run = evaluate_shared if shared else evaluate_model
    scored = run(model, head, index, settings=settings)
    if scored is None:
        return None
    scores, predictions = scored
    protocol = protocol_of(index.card, settings)
    diagnosis = diagnose(index.columns, predictions, index.schema, protocol, scores)
    if out is not None:
        extra = {"findings": diagnosis.to_list()}
        write_results(out / head, scores, predictions, index, extra=extra)
    return head_result(scores, diagnosis)


def _home(model: Path, card: DatasetCard) -> Path:
    """Return the dataset's folder below the data_root that the model was trained from."""
    try:
        return Path(recipe_of(model).data_root).expanduser() / card.folder
    except CheckpointError:
        raise ConfigError(
            f"{model} does not record where its data is; name the dataset's folder (root)"
        ) from None
