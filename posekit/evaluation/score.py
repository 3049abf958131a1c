"""Score a predictions file without any model, and beside it the reference implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from posekit.data.columns import InstanceColumns
from posekit.data.index import PoseIndex
from posekit.errors import ConfigError, PosekitError, PredictionError
from posekit.evaluation import oks, oks_reference
from posekit.evaluation.base import Scores
from posekit.evaluation.baseline import annotated_boxes
from posekit.evaluation.oks_engine import OksResult
from posekit.evaluation.protocol import OksProtocol, Protocol
from posekit.evaluation.registry import evaluate, protocol_of
from posekit.evaluation.tables import text_table
from posekit.poses.read import read_predictions
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema
from posekit.version import __version__

Reference = Callable[..., OksResult]
_REFERENCES: dict[str, Reference] = {
    "pycocotools": oks_reference.with_pycocotools,
    "xtcocotools": oks_reference.with_xtcocotools,
}


_UNKNOWN: dict[str, Any] = {"boxes": "as in the file", "flip_test": None, "padding": None}


@dataclass(frozen=True)
class FileScores:
    """What a predictions file scores.

    Attributes:
        scores: the numbers and their protocol.
        predictions: what was read.
        reference: name of the reference -> the same metrics by it (only if verified).
        notes: one sentence each about what was done or could not be.
    """

    scores: Scores
    predictions: Poses
    reference: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """True if every reference gives the very same numbers."""
        return all(
            abs(value - self.scores.metrics[name]) < 1e-12
            for column in self.reference.values()
            for name, value in column.items()
        )

    def text(self) -> str:
        """A table with a column for posekit and each reference, then the notes."""
        columns = ["metric", "posekit", *self.reference]
        rows = [
            [name, f"{value:.4f}", *(_cell(column.get(name)) for column in self.reference.values())]
            for name, value in self.scores.metrics.items()
        ]
        return "\n".join([text_table(columns, rows), *self.notes])


def score_file(
    file: str | Path,
    index: PoseIndex,
    *,
    settings: Mapping[str, Any] | None = None,
    verify: bool = False,
) -> FileScores:
    """Score a predictions file by the official protocol of the split's dataset.

    COCO results carry final scores: they are neither rescored nor suppressed again unless
    `settings` say so.

    Args:
        file: posekit's predictions.json, COCO results, or MPII's pred.mat.
        index: the split.
        settings: protocol settings laid over the card's.
        verify: also run the references on the same detections.

    Raises:
        PredictionError: the file is wrong or does not fit the split.
        ConfigError: a wrong setting.
    """
    read = read_predictions(file, index.schema, index.columns)
    chosen = dict(settings or {})
    protocol = protocol_of(index.card, chosen)
    if not (read.has_instance_ids or isinstance(protocol, OksProtocol)):
        raise PredictionError(
            f"{file}: its records do not say which annotated instance each is of (field 'id'), but "
            f"dataset '{index.card.name}' is scored instance by instance; evaluate the model with "
            "`posekit eval`, or add the annotations' ids to the records"
        )
    notes = []
    if read.is_final and isinstance(protocol, OksProtocol):
        final = {"score": "bbox", "nms": "none"}
        protocol = protocol_of(index.card, {**final, **chosen})
        notes.append("The file holds final scores: they were neither rescored nor suppressed.")
    protocol = protocol.model_copy(
        update={
            "split": index.split,
            "data_hash": index.data_hash,
            "posekit_version": __version__,
            "decoder": "a predictions file",
            # What made the file is not known, so the card's defaults would be claims.
            **{key: value for key, value in _UNKNOWN.items() if key not in chosen},
        }
    )
    predictions = _with_left_out(read.predictions, index, protocol)
    scores = evaluate(index.card, index.columns, predictions, protocol)
    reference: dict[str, dict[str, float]] = {}
    if verify:
        reference, said = verify_scores(index.columns, predictions, index.schema, protocol)
        notes.extend(said)
    return FileScores(scores, predictions, reference, tuple(notes))


def verify_scores(
    truth: InstanceColumns, predictions: Poses, schema: KeypointSchema, protocol: Protocol
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Run the reference evaluators on the same detections.

    Returns:
        reference -> COCO's ten numbers (and those of the parts), and notes about references that
        could not run.

    Raises:
        ConfigError: the protocol is no OKS protocol, so there is no reference to run.
    """
    if not isinstance(protocol, OksProtocol):
        raise ConfigError(
            "only OKS scores have a reference to verify with (pycocotools, xtcocotools); point "
            "metrics are checked against golden numbers in posekit's tests"
        )
    problem = oks.prepare(truth, predictions, schema, protocol)
    problems = {"": problem}
    for name, (first, last) in getattr(protocol, "parts", {}).items():
        problems[f"{name} "] = problem.of_keypoints(oks.part_columns(schema, first, last))
    columns: dict[str, dict[str, float]] = {}
    notes = []
    for name, run in _REFERENCES.items():
        try:
            columns[name] = {
                prefix + metric: value
                for prefix, part in problems.items()
                for metric, value in _run(run, part, protocol.max_detections).items()
            }
        except PosekitError as error:
            notes.append(str(error))
    if getattr(protocol, "crowd_index", None):
        columns = {
            name: {metric: v for metric, v in column.items() if "(" not in metric}
            for name, column in columns.items()
        }
    return columns, notes


def _run(run: Reference, part: oks.OksProblem, max_detections: int) -> dict[str, float]:
    categories = len(part.categories)
    return oks.numbers(run(part.truth, part.found, part.sigmas, categories, max_detections))


def _with_left_out(predictions: Poses, index: PoseIndex, protocol: Protocol) -> Poses:
    """Instances that no crop can be made of need no prediction, unless the file has one."""
    if isinstance(protocol, OksProtocol):
        return predictions
    present = set(zip(predictions.image_id.tolist(), predictions.instance_id.tolist(), strict=True))
    return replace(predictions, left_out=annotated_boxes(index).left_out - present)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
