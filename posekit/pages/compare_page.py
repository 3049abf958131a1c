"""Several runs side by side as one offline HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from posekit.evaluation.compare import NAN, Comparison, best_runs
from posekit.pages.report_data import RunRecord, bar_scale, read_run
from posekit.pages.shell import write_page

_MOST_CURVES = 6


class _Row(NamedTuple):
    """One metric: its value in each run, None where there is none, and the runs that do best."""

    head: str
    metric: str
    values: dict[str, float | None]
    best: list[str]
    down: bool = False


class _Card(NamedTuple):
    """A chart of one head, a line for each run."""

    head: str
    note: str
    series: dict[str, list[tuple[int, float]]]


def write_comparison(file: str | Path, compared: Comparison, folders: Sequence[str | Path]) -> Path:
    """Write a comparison as one page that holds its styles and charts, and return its path.

    Args:
        file: the page to write.
        compared: the result of `compare_runs`.
        folders: the runs' folders in the same order; curves are drawn from their logs.

    Raises:
        PosekitError: the page cannot be written.
    """
    runs = {name: read_run(folder) for name, folder in zip(compared.runs, folders, strict=True)}
    drawn = dict(list(runs.items())[:_MOST_CURVES])
    charts = {
        "Loss over steps": [_losses(drawn, head) for head in compared.heads],
        "Score over steps": [_scores(drawn, compared, head) for head in compared.heads],
    }
    return write_page(
        Path(file),
        "compare.html",
        runs=list(compared.runs),
        drawn=drawn,
        overview=[_main_row(compared, head) for head in compared.heads],
        charts={title: [card for card in cards if card.series] for title, cards in charts.items()},
        rows={head: _rows(compared, head) for head in compared.heads},
        protocols={head: _shared_protocol(compared, head) for head in compared.heads},
        differences=compared.differences,
        keypoints={head: _keypoints(compared, head) for head in compared.heads},
        bar_scale=bar_scale,
    )


def _main_row(compared: Comparison, head: str) -> _Row:
    main = next(iter(compared.heads[head].values()))
    return _row(compared, head, main.headline)._replace(down=main.lower_is_better)


def _rows(compared: Comparison, head: str) -> list[_Row]:
    scores = compared.heads[head].values()
    names = dict.fromkeys(metric for saved in scores for metric in saved.metrics)
    return [_row(compared, head, name) for name in names]


def _row(compared: Comparison, head: str, metric: str) -> _Row:
    scores = compared.heads[head]
    values = {run: _known(saved.metrics.get(metric, NAN)) for run, saved in scores.items()}
    return _Row(head, metric, values, list(best_runs(metric, scores)))


def _losses(runs: Mapping[str, RunRecord], head: str) -> _Card:
    series = {name: run.losses[head] for name, run in runs.items() if run.losses.get(head)}
    return _Card(head, "", series)


def _scores(runs: Mapping[str, RunRecord], compared: Comparison, head: str) -> _Card:
    metric = next(iter(compared.heads[head].values())).headline
    found = {name: run.evaluations.get(head, {}).get(metric) for name, run in runs.items()}
    return _Card(head, metric, {name: points for name, points in found.items() if points})


def _shared_protocol(compared: Comparison, head: str) -> dict[str, object]:
    settings = next(iter(compared.heads[head].values())).protocol
    differ = compared.differences.get(head, {})
    return {name: value for name, value in settings.items() if name not in differ}


def _keypoints(
    compared: Comparison, head: str
) -> tuple[str, list[float], dict[str, dict[str, float | None]]] | None:
    """Return the first column of the keypoint tables: its name, all numbers, keypoint -> run."""
    scores = compared.heads[head]
    table = next(iter(scores.values())).per_keypoint
    column = next((name for row in table.values() for name in row), "")
    values = {
        point: {
            r: _known(s.per_keypoint.get(point, {}).get(column, NAN)) for r, s in scores.items()
        }
        for point in table
    }
    known = [value for row in values.values() for value in row.values() if value is not None]
    return (column, known, values) if column and known else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
