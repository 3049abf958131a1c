"""What a run folder holds, read for the report; parts that are not there yet are simply absent."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from posekit.errors import PosekitError

_COUNTS = {"matched", "count", "labelled", "points"}
_LOWER_IS_BETTER = re.compile(r"(nme|fr|failure|epe|rmse|mean_error|error|distance)(?![a-z])", re.I)


@dataclass(frozen=True)
class SavedEvaluation:
    """One head's evaluation.

    Attributes:
        name: the head.
        metrics: metric -> value, in the evaluator's order; empty if there is no evaluation.
        headline: name of the main metric, or "".
        baseline: the same metrics of the mean pose, as far as they were computed.
        per_keypoint: column title -> {keypoint: value}.
        protocol: how the numbers were made.
        counts: how many instances and images took part.
        lower_is_better: True where the headline is an error.
        common_metric: name, score and mean-pose score of the measure that all heads share, if any.
        error_types: kind of error -> share of the labelled keypoints; empty if not judged.
        keypoint_errors: keypoint -> kind -> share.
        error_scale: what the kinds are told by.
        calibration: (lowest, highest, mean score, share right, count) of each bin of scores.
        calibration_error, ranking: expected calibration error; chance that a right keypoint scores
            higher than a wrong one.
        categories: category -> metric -> value.
        findings: name and text of what looks wrong.
        pictures: "best" and "worst" -> PNG file.
        files: further files of the evaluation, to link to.
    """

    name: str
    metrics: dict[str, float] = field(default_factory=dict)
    headline: str = ""
    baseline: dict[str, float] = field(default_factory=dict)
    per_keypoint: dict[str, dict[str, float]] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    lower_is_better: bool = False
    common_metric: tuple[str, float, float] | None = None
    error_types: dict[str, float] = field(default_factory=dict)
    keypoint_errors: dict[str, dict[str, float]] = field(default_factory=dict)
    error_scale: str = ""
    calibration: tuple[tuple[float, ...], ...] = ()
    calibration_error: float | None = None
    ranking: float | None = None
    categories: dict[str, dict[str, float]] = field(default_factory=dict)
    findings: tuple[tuple[str, str], ...] = ()
    pictures: dict[str, Path] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def score(self) -> float | None:
        """The headline metric, or None."""
        return self.metrics.get(self.headline)

    @property
    def baseline_score(self) -> float | None:
        """The headline metric of the mean pose, or None."""
        return self.baseline.get(self.headline)

    @property
    def settings(self) -> dict[str, Any]:
        """What took part and how the numbers were made."""
        return {**{name: f"{int(n):,}" for name, n in self.counts.items()}, **self.protocol}

    @property
    def worst_keypoints(self) -> list[tuple[str, dict[str, float]]]:
        """Keypoints with the share of each kind of error, the fewest good ones first."""
        kinds = list(self.error_types)
        ranked = sorted(self.keypoint_errors.items(), key=lambda entry: entry[1].get(kinds[0], 1.0))
        return [(name, {kind: row.get(kind, 0.0) for kind in kinds}) for name, row in ranked]


@dataclass(frozen=True)
class RunRecord:
    """All that a run left behind.

    Attributes:
        folder: the run folder.
        recipe: text of recipe.yaml, or "".
        losses: head -> [(step, loss)], in step order.
        evaluations: head -> metric -> [(step, value)].
        speed: [(step, images per second, share of time spent waiting for data)].
        shares: head -> [(step, its share of the gradient of one late layer of the backbone)].
        cosines: (head, head) -> [(step, cosine of their gradients there)].
        last: the last log line that holds a loss, or {}.
        bad_lines: lines of the log that could not be read.
        heads: head -> its evaluation, in the order of the log, then by name.
    """

    folder: Path
    recipe: str = ""
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    speed: list[tuple[int, float, float]] = field(default_factory=list)
    shares: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    cosines: dict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    bad_lines: int = 0
    heads: dict[str, SavedEvaluation] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name: the recipe's, else its folder's."""
        try:
            name = _mapping(yaml.safe_load(self.recipe)).get("name")
        except yaml.YAMLError:
            name = None
        return str(name or self.folder.resolve().name)

    @property
    def rates(self) -> list[tuple[int, float]]:
        """[(step, images per second)]."""
        return [(step, rate) for step, rate, _ in self.speed]

    @property
    def waits(self) -> list[tuple[int, float]]:
        """[(step, percentage of time spent waiting for data)]."""
        return [(step, 100 * wait) for step, _, wait in self.speed]


def lower_is_better(metric: str) -> bool:
    """Return whether a metric measures an error, by its name."""
    return bool(_LOWER_IS_BETTER.match(metric))


def bar_scale(metric: str, values: Collection[float]) -> float:
    """Return the value of a full bar: the largest error, or 1 or 100 for scores."""
    top = max(values)
    if lower_is_better(metric):
        return top or 1.0
    return 1.0 if top <= 1.0 else max(100.0, top)


def read_run(folder: str | Path) -> RunRecord:
    """Read what a run folder holds.

    Raises:
        PosekitError: there is no such folder, it holds nothing of a run, or a metrics.json is not
            what an evaluation writes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PosekitError(f"{folder}: there is no such run folder")
    recipe, log = folder / "recipe.yaml", folder / "log.jsonl"
    names = sorted(path.parent.name for path in folder.glob("eval/*/metrics.json"))
    if not (recipe.is_file() or log.is_file() or names):
        raise PosekitError(
            f"{folder}: found no recipe.yaml, log.jsonl or eval/, expected the folder of a run"
        )
    lines, bad = _read_log(log)
    losses: dict[str, dict[int, float]] = {}
    evaluations: dict[str, dict[str, dict[int, float]]] = {}
    speed: dict[int, tuple[float, float]] = {}
    for line in lines:
        step = int(line.get("step", 0))
        for head, value in _numbers(line.get("loss")).items():
            losses.setdefault(head, {})[step] = value
        for head, values in _mapping(line.get("eval")).items():
            for metric, value in _numbers(values).items():
                evaluations.setdefault(head, {}).setdefault(metric, {})[step] = value
        if "images_per_s" in line:
            speed[step] = (float(line["images_per_s"]), float(line.get("data_wait") or 0))
    order = [*losses, *(name for name in sorted({*evaluations, *names}) if name not in losses)]
    return RunRecord(
        folder=folder,
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        losses={head: sorted(points.items()) for head, points in losses.items()},
        evaluations={
            head: {metric: sorted(points.items()) for metric, points in metrics.items()}
            for head, metrics in evaluations.items()
        },
        speed=[(step, *values) for step, values in sorted(speed.items())],
        shares=_shares(lines),
        cosines=_cosines(lines),
        last=next((line for line in reversed(lines) if "loss" in line), {}),
        bad_lines=bad,
        heads={name: read_head(folder / "eval" / name) for name in order},
    )


def read_head(folder: Path) -> SavedEvaluation:
    """Read one head's evaluation folder; a folder that is not there gives an empty record."""
    file = folder / "metrics.json"
    if not file.is_file():
        return SavedEvaluation(folder.name)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        metrics = _numbers(data["metrics"])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        raise PosekitError(
            f"{file}: expected a JSON object with the key 'metrics'; evaluate the head again"
        ) from None
    headline = data.get("headline") or next(iter(metrics), "")
    pictures = {kind: folder / f"{kind}.png" for kind in ("best", "worst")}
    kept = ("metrics.json", *(path.name for path in pictures.values()))
    return SavedEvaluation(
        name=folder.name,
        metrics=metrics,
        headline=headline,
        baseline=_numbers(data.get("baseline")),
        per_keypoint=_columns(_mapping(data.get("per_keypoint")), headline),
        protocol=_mapping(data.get("protocol")),
        counts=_numbers(data.get("counts")),
        lower_is_better=bool(data.get("lower_is_better", lower_is_better(headline))),
        common_metric=_common_metric(data.get("common_metric")),
        categories={k: _numbers(v) for k, v in _mapping(data.get("per_category")).items()},
        findings=_findings(data.get("findings")),
        **_errors(_mapping(data.get("error_types")), _mapping(data.get("calibration"))),
        pictures={kind: path for kind, path in pictures.items() if path.is_file()},
        files=tuple(p for p in sorted(folder.iterdir()) if p.is_file() and p.name not in kept),
    )


def _read_log(file: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the log's objects and how many lines were unreadable (a killed run cuts its last)."""
    if not file.is_file():
        return [], 0
    lines, bad = [], 0
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            lines.append(line)
        else:
            bad += 1
    return lines, bad


def _columns(data: dict[str, Any], headline: str) -> dict[str, dict[str, float]]:
    """Turn {keypoint: {column: value}} (or {keypoint: value}) into {column: {keypoint: value}}."""
    columns: dict[str, dict[str, float]] = {}
    for keypoint, values in data.items():
        entry = values if isinstance(values, dict) else {headline or "score": values}
        for column, value in _numbers(entry).items():
            if column in _COUNTS:
                continue
            columns.setdefault(column, {})[keypoint] = value
    return columns


def _shares(lines: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        for head, value in _numbers(_mapping(line.get("gradients")).get("share")).items():
            found.setdefault(head, {})[int(line.get("step", 0))] = value
    return {head: sorted(points.items()) for head, points in found.items()}


def _cosines(lines: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[int, float]]]:
    found: dict[tuple[str, str], dict[int, float]] = {}
    for line in lines:
        for entry in _mapping(line.get("gradients")).get("cosine") or ():
            if len(entry) == 3 and isinstance(entry[2], int | float):
                pair = (str(entry[0]), str(entry[1]))
                found.setdefault(pair, {})[int(line.get("step", 0))] = float(entry[2])
    return {pair: sorted(points.items()) for pair, points in found.items()}


def _errors(types: dict[str, Any], calibration: dict[str, Any]) -> dict[str, Any]:
    bins = calibration.get("bins")
    numbers = _numbers(calibration)
    by_keypoint = _mapping(types.get("per_keypoint"))
    return {
        "error_types": _numbers(types.get("shares")),
        "keypoint_errors": {k: n for k, v in by_keypoint.items() if (n := _numbers(v))},
        "error_scale": str(types.get("scale", "")),
        "calibration": tuple(tuple(map(float, row)) for row in bins) if bins else (),
        "calibration_error": numbers.get("expected_error"),
        "ranking": numbers.get("ranking"),
    }


def _findings(data: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        (str(finding["name"]), str(finding["text"]))
        for finding in (data if isinstance(data, list) else [])
        if isinstance(finding, dict) and {"name", "text"} <= set(finding)
    )


def _common_metric(data: Any) -> tuple[str, float, float] | None:
    data = _mapping(data)
    values = _numbers(data)
    if not {"model", "baseline"} <= set(values):
        return None
    return str(data.get("name", "")), values["model"], values["baseline"]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: Any) -> dict[str, float]:
    return {
        str(key): float(number)
        for key, number in _mapping(value).items()
        if isinstance(number, int | float) and not isinstance(number, bool)
        if math.isfinite(number)
    }
