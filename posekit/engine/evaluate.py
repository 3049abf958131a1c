"""Evaluate the heads of a run or of a model, each by its dataset's protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from posekit.config.plug_ins import takes_allow_code
from posekit.config.recipe import Recipe, load_recipe, recipe_from_dict
from posekit.data.index import PoseIndex
from posekit.diagnosis.diagnose import Diagnosis, diagnose
from posekit.diagnosis.error_types import Calibration, ErrorTypes, calibration, error_types
from posekit.diagnosis.pairs import pair
from posekit.engine.processes import join_processes, own_device
from posekit.engine.setup import ResolvedHead, keep_code, read_heads, require_heads
from posekit.errors import CheckpointError, PosekitError, PredictionError, TrainingError
from posekit.evaluation.base import Scores
from posekit.evaluation.baseline import MeanPose
from posekit.evaluation.boxes import boxes_file
from posekit.evaluation.pck import evaluate_pck
from posekit.evaluation.protocol import PckProtocol
from posekit.evaluation.registry import evaluate, protocol_of
from posekit.evaluation.runner import evaluate_model, evaluate_shared, write_results
from posekit.models import PoseModel, load_model
from posekit.models.checkpoint import read_description
from posekit.models.processes import rank_and_size
from posekit.pages.pictures import write_best_worst
from posekit.pages.report import write_report
from posekit.poses.table import Poses
from posekit.training.events import HeadResult

COMMON_METRIC = "PCK@0.1"
"""The metric that all heads share: the share of points within 0.1 of the box's long side."""


@dataclass(frozen=True)
class HeadEvaluation:
    """One head's evaluation.

    Attributes:
        scores: by the dataset's protocol.
        predictions: what was scored.
        baseline: the mean pose, scored likewise.
        common, baseline_common: `COMMON_METRIC` of both.
        diagnosis: what looks wrong.
        error_types, calibration: what kind of errors there are, and what the scores are worth.
    """

    scores: Scores
    predictions: Poses
    baseline: Scores
    common: float
    baseline_common: float
    diagnosis: Diagnosis
    error_types: ErrorTypes
    calibration: Calibration

    @property
    def by_id(self) -> bool:
        """True if every prediction is of the annotated instance whose id it bears."""
        return self.scores.protocol["boxes"] == "annotation"

    @property
    def result(self) -> HeadResult:
        """The numbers as a run's log keeps them, and what looks wrong."""
        return head_result(self.scores, self.diagnosis)


def head_result(scores: Scores, diagnosis: Diagnosis | None = None) -> HeadResult:
    """Return scores, and what looks wrong with them, in the form that a run's log keeps."""
    found = tuple(f"{f.name}: {f.text}" for f in diagnosis.findings) if diagnosis else ()
    return HeadResult(dict(scores.metrics), scores.headline, scores.lower_is_better, found)


class RunEvaluator:
    """Evaluates the heads of a recipe on their evaluation splits.

    Args:
        recipe: the run's recipe.
        heads: its heads with cards read.
        only: names of the heads to evaluate; all that have an evaluation split if left out.
        settings: protocol settings laid over the recipe's and the cards'.
        distributed: all processes of the group evaluate together.
    """

    def __init__(
        self,
        recipe: Recipe,
        heads: Mapping[str, ResolvedHead],
        only: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        distributed: bool = False,
    ):
        self.recipe, self.settings = recipe, dict(settings or {})
        self.distributed = distributed
        require_heads(only or (), heads)
        chosen = heads if only is None else {name: heads[name] for name in only}
        self.heads = {name: head for name, head in chosen.items() if head.recipe.evaluate}
        self._indices: dict[str, PoseIndex] = {}

    def index(self, name: str) -> PoseIndex:
        """Open a head's evaluation split (once)."""
        if name not in self._indices:
            head = self.heads[name]
            self._indices[name] = head.index(str(head.recipe.evaluate))
        return self._indices[name]

    def check_boxes(self) -> None:
        """Raise PredictionError if a detector's boxes that a protocol asks for are not there.

        To be called before hours of training.
        """
        for name in self.heads:
            index = self.index(name)
            file = boxes_file(index, protocol_of(index.card, self._protocol_settings(name)))
            if file is not None and not file.is_file():
                raise PredictionError(
                    f"{file}: there is no such file, expected the detector's boxes that head "
                    f"'{name}' is evaluated on; put it there, or evaluate on annotated boxes "
                    f"(heads.{name}.protocol.boxes=annotation)"
                )

    def head_results(
        self, model: PoseModel, failed: Callable[[str], None]
    ) -> dict[str, HeadResult]:
        """Score every head of a model; only the numbers, for a run's log.

        A head that cannot be evaluated is told to `failed` and left out. With several processes the
        first has the results, the others an empty dict.
        """
        results: dict[str, HeadResult] = {}
        for name in self.heads:
            with _told(failed, name):
                scored = self.score(model, name)
                if scored is not None:
                    results[name] = head_result(scored[0])
        return results

    def score(self, model: PoseModel, name: str) -> tuple[Scores, Poses] | None:
        """Run a head over its evaluation split and score it; None on processes but the first."""
        was_training = model.training
        precision = self.recipe.training.precision if model.mean.is_cuda else "fp32"
        run = evaluate_shared if self.distributed else evaluate_model
        try:
            return run(
                model.eval(),
                name,
                self.index(name),
                settings=self._protocol_settings(name),
                batch_size=self.recipe.evaluation.batch_size,
                precision=precision,
            )
        finally:
            model.train(was_training)

    def evaluate(self, model: PoseModel, name: str) -> HeadEvaluation | None:
        """Score a head and, beside it, the mean pose of its training split; None as `score`."""
        scored = self.score(model, name)
        if scored is None:
            return None
        scores, predictions = scored
        index = self.index(name)
        mean_pose = MeanPose.fit(self.heads[name].train_index())
        constant = mean_pose.predict(index, like=predictions)
        protocol = protocol_of(index.card, self._protocol_settings(name))
        baseline = evaluate(index.card, index.columns, constant, protocol)
        by_id = protocol.boxes == "annotation"
        return HeadEvaluation(
            scores,
            predictions,
            baseline,
            common_metric(index, predictions, protocol.boxes),
            common_metric(index, constant, protocol.boxes),
            diagnose(index.columns, predictions, index.schema, protocol, scores),
            error_types(index.columns, predictions, index.schema, trust_ids=by_id),
            calibration(index.columns, predictions, index.schema, trust_ids=by_id),
        )

    def _protocol_settings(self, name: str) -> dict[str, Any]:
        own = self.recipe.heads[name].protocol
        return {**self.recipe.evaluation.protocol, **own, **self.settings}


def common_metric(index: PoseIndex, predictions: Poses, boxes: str = "annotation") -> float:
    """Return `COMMON_METRIC` of predictions: comparable between heads, whatever their own protocol.

    NaN for a detector's boxes, which belong to no instance.
    """
    if boxes != "annotation":
        return float("nan")
    protocol = PckProtocol(normalisers={"PCK": "box_long_side"}, thresholds=(0.1,))
    scores = evaluate_pck(index.columns, predictions, index.schema, protocol)
    return scores.metrics[COMMON_METRIC]


@takes_allow_code
def evaluate_run(
    run: str | Path,
    *,
    model: PoseModel | None = None,
    evaluator: RunEvaluator | None = None,
    only: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    report: bool = True,
    device: str | None = None,
    failed: Callable[[str], None] | None = None,
    allow_code: bool = False,
) -> dict[str, HeadResult]:
    """Evaluate the heads of a run and write metrics, predictions, pictures and report.

    Args:
        run: the run's folder, or a model file.
        model: the model to evaluate; the run's last one if left out.
        evaluator: the run's evaluator, if the caller has it already.
        only, settings: see RunEvaluator.
        overrides: `key.path=value` settings of the recipe (such as data_root).
        report: also write pictures and report.html (for a run's folder).
        device: where a model that is not given shall compute; a GPU if there is one.
        failed: is told of a head that cannot be evaluated, which is then left out; without it, the
            error is raised once the other heads are done.
        allow_code: let the cards run code that they name (see docs/plug_ins.md).

    Processes that torchrun started share the work; the first writes.

    Returns:
        head -> its numbers; an empty dict on processes but the first.

    Raises:
        ConfigError, DatasetError, CheckpointError, PredictionError: as the parts do.
    """
    path = Path(run)
    if model is None:
        join_processes()
    rank, processes = rank_and_size()
    if evaluator is None:
        recipe = recipe_of(path, overrides)
        heads = read_heads(recipe)
        if path.is_dir():
            keep_code(path, heads)
        evaluator = RunEvaluator(recipe, heads, only, settings, processes > 1)
    if model is None:
        model = load_any(path, device)
    folder = path.parent if path.is_file() else path
    results: dict[str, HeadResult] = {}
    failures: list[str] = []
    for name in evaluator.heads:
        with _told(failures.append, name):
            done = evaluator.evaluate(model, name)
            if done is None:
                continue
            where, index = folder / "eval" / name, evaluator.index(name)
            write_results(where, done.scores, done.predictions, index, extra=_extra_results(done))
            results[name] = done.result
            if report:
                pairs = pair(index.columns, done.predictions, trust_ids=done.by_id)
                write_best_worst(where, index, pairs)
    if report and not rank:
        with _told(failures.append, "report"):
            write_report(folder)
    for failure in failures:
        if failed is None:
            raise PredictionError(failure)
        failed(failure)
    return results


@contextmanager
def _told(tell: Callable[[str], None], head: str) -> Iterator[None]:
    """Pass an error in the evaluation of one head to `tell`, and go on."""
    try:
        yield
    except TrainingError:  # another process is gone: there is no going on
        raise
    except (PosekitError, OSError, torch.OutOfMemoryError) as error:
        what = "the report cannot be written" if head == "report" else f"head '{head}' has no score"
        tell(f"{what}: {error}")


def load_any(model: str | Path, device: str | None = None) -> PoseModel:
    """Load a model file, or the last model of a run's folder; on a GPU if there is one."""
    path = Path(model)
    file = path if path.is_file() else path / "checkpoints" / "last.safetensors"
    return load_model(file, own_device(device))


def recipe_of(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a run's folder or of a model file.

    Raises:
        CheckpointError: neither a run nor a model that knows its recipe.
    """
    if path.is_dir():
        if not (path / "recipe.yaml").is_file():
            raise CheckpointError(f"{path}: no run in this folder (it has no recipe.yaml)")
        return load_recipe(path / "recipe.yaml", overrides)
    description = read_description(path)
    if "recipe" not in description:
        raise CheckpointError(f"{path}: this model does not record what it was trained on")
    return recipe_from_dict(description["recipe"], str(path), overrides)


def _extra_results(done: HeadEvaluation) -> dict[str, Any]:
    return {
        "baseline": done.baseline.metrics,
        "findings": done.diagnosis.to_list(),
        "common_metric": {
            "name": f"{COMMON_METRIC} of the box's long side",
            "model": done.common,
            "baseline": done.baseline_common,
        },
        "error_types": done.error_types.to_dict(),
        "calibration": vars(done.calibration),
    }
