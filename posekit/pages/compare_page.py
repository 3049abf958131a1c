"""Several runs side by side as one offline HTML page."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from posekit.errors import PosekitError
from posekit.evaluation.compare import NAN, Comparison, best_runs
from posekit.pages.report_charts import bar, chart_card, format_score, line_chart
from posekit.pages.report_data import RunRecord, lower_is_better, read_run
from posekit.pages.report_page import definitions
from posekit.pages.shell import html_page
from posekit.version import __version__

_MANY_KEYPOINTS = 40
_MOST_CURVES = 6


def write_comparison(file: str | Path, compared: Comparison, folders: Sequence[str | Path]) -> Path:
    """Write a comparison as one page that holds its styles and charts; gives its path.

    Args:
        file: where to.
        compared: what `compare_runs` gave.
        folders: the runs' folders in the same order; curves are drawn from their logs.

    Raises:
        PosekitError: the page cannot be written.
    """
    runs = {name: read_run(folder) for name, folder in zip(compared.runs, folders, strict=True)}
    links = "".join(f'<a href="#head-{escape(h)}">{escape(h)}</a>' for h in compared.heads)
    body = "".join(
        (
            f"<header><h1>{escape(' | '.join(compared.runs))}</h1>"
            f'<ul class="facts"><li><b>{len(runs)}</b> runs</li>'
            f"<li><b>{len(compared.heads)}</b> heads</li></ul></header>",
            _overview(compared),
            _curves(runs, compared),
            *(_head(compared, head) for head in compared.heads),
            f"<footer>Written by posekit {__version__}.</footer>",
        )
    )
    navigation = (
        '<b>posekit compare</b><a href="#overview">Overview</a><a href="#curves">Curves</a>'
        f'<div class="sub">{links}</div>'
    )
    target = Path(file)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(
            html_page(f"{' | '.join(compared.runs)} - posekit compare", navigation, body),
            encoding="utf-8",
        )
        draft.replace(target)
    except OSError as error:
        raise PosekitError(f"{target}: cannot be written ({error.strerror})") from None
    return target


def _overview(compared: Comparison) -> str:
    """Return the main number of every head, a column for each run, the best one marked."""
    rows = []
    for head, scores in compared.heads.items():
        main = next(iter(scores.values()))
        arrow = " \N{DOWNWARDS ARROW}" if main.lower_is_better else ""
        link = f'<a href="#head-{escape(head)}">{escape(head)}</a>'
        values = {run: s.metrics.get(main.headline, NAN) for run, s in scores.items()}
        cells = _cells(compared.runs, values, best_runs(main.headline, scores))
        rows.append(f"<tr><td>{link}</td><td>{escape(main.headline)}{arrow}</td>{cells}</tr>")
    titles = "".join(f'<th class="n">{escape(run)}</th>' for run in compared.runs)
    return (
        '<section id="overview"><h2>Overview</h2><div class="card scroll"><table><thead><tr>'
        f"<th>Head</th><th>Measure</th>{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        '</div><p class="soft">The best of a row is bold. An arrow down: less is better.</p>'
        "</section>"
    )


def _curves(runs: Mapping[str, RunRecord], compared: Comparison) -> str:
    """Return loss and score over steps of every head, a line for each run."""
    names = list(runs)[:_MOST_CURVES]
    parts = ['<section id="curves"><h2>Curves</h2>']
    if len(runs) > len(names):
        parts.append(f'<p class="note">Curves of the first {len(names)} runs.</p>')
    for title, pick in (("Loss over steps", _losses), ("Score over steps", _score_curve)):
        cards = []
        for head in compared.heads:
            series, note = pick({name: runs[name] for name in names}, head, compared)
            if chart := line_chart(series, label=f"{title} of {head}", smooth=pick is _losses):
                cards.append(chart_card(head, escape(note), chart, list(series)))
        if cards:
            parts.append(f'<h3>{title}</h3><div class="grid-2">{"".join(cards)}</div>')
    if len(parts) == 1:
        parts.append('<div class="card empty">These runs have no readable log.jsonl.</div>')
    return "".join(parts) + "</section>"


def _losses(
    runs: Mapping[str, RunRecord], head: str, compared: Comparison
) -> tuple[dict[str, list[tuple[int, float]]], str]:
    return {name: run.losses[head] for name, run in runs.items() if run.losses.get(head)}, ""


def _score_curve(
    runs: Mapping[str, RunRecord], head: str, compared: Comparison
) -> tuple[dict[str, list[tuple[int, float]]], str]:
    metric = next(iter(compared.heads[head].values())).headline
    found = {name: run.evaluations.get(head, {}).get(metric) for name, run in runs.items()}
    return {name: points for name, points in found.items() if points}, metric


def _head(compared: Comparison, head: str) -> str:
    scores = compared.heads[head]
    names = list(dict.fromkeys(metric for s in scores.values() for metric in s.metrics))
    rows = "".join(
        f"<tr><td>{escape(metric)}</td>"
        + _cells(
            compared.runs,
            {run: s.metrics.get(metric, NAN) for run, s in scores.items()},
            best_runs(metric, scores),
        )
        + "</tr>"
        for metric in names
    )
    titles = "".join(f'<th class="n">{escape(run)}</th>' for run in compared.runs)
    table = (
        f'<div class="card scroll"><table><thead><tr><th>Measure</th>{titles}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    return (
        f'<section id="head-{escape(head)}"><h2>{escape(head)}</h2>{_differences(compared, head)}'
        f'<div class="pair">{table}{_protocol(compared, head)}</div>'
        f"{_keypoints(compared, head)}</section>"
    )


def _differences(compared: Comparison, head: str) -> str:
    found = compared.differences.get(head, {})
    lines = "".join(
        f"<li><b>{escape(setting.replace('_', ' '))}</b>: "
        + escape(", ".join(f"{run} {value}" for run, value in values.items()))
        + "</li>"
        for setting, values in found.items()
    )
    return (
        '<p class="note finding">These numbers were made by different protocols and do not '
        f"compare:</p><ul>{lines}</ul>"
        if lines
        else ""
    )


def _protocol(compared: Comparison, head: str) -> str:
    shared = dict(next(iter(compared.heads[head].values())).protocol)
    for setting in compared.differences.get(head, {}):
        shared.pop(setting, None)
    return (
        '<div class="card"><div class="title">Protocol of all runs<span></span></div>'
        f"<dl>{definitions(shared)}</dl></div>"
    )


def _keypoints(compared: Comparison, head: str) -> str:
    """Return the first column of the keypoint tables, a bar for each run."""
    scores = compared.heads[head]
    table = next(iter(scores.values())).per_keypoint
    column = next((c for row in table.values() for c in row), "")
    if not column:
        return ""
    values = {
        name: {run: s.per_keypoint.get(name, {}).get(column, NAN) for run, s in scores.items()}
        for name in table
    }
    known = [v for row in values.values() for v in row.values() if not math.isnan(v)]
    if not known:
        return ""
    top = max(known)
    scale = (top or 1.0) if lower_is_better(column) else 1.0 if top <= 1.0 else max(100.0, top)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(_bar_cell(row.get(run, NAN), scale) for run in compared.runs)
        + "</tr>"
        for name, row in values.items()
    )
    titles = "".join(f"<th>{escape(run)}</th>" for run in compared.runs)
    state = "" if len(values) > _MANY_KEYPOINTS else " open"
    return (
        f'<div class="card scroll"><details{state}><summary>{escape(column)} by keypoint</summary>'
        f'<table class="matrix"><thead><tr><th>Keypoint</th>{titles}</tr></thead>'
        f"<tbody>{rows}</tbody></table></details></div>"
    )


def _bar_cell(value: float, scale: float) -> str:
    if math.isnan(value):
        return "<td></td>"
    return f'<td><span class="barred">{bar(value, scale)}<b>{format_score(value)}</b></span></td>'


def _cells(runs: Sequence[str], values: Mapping[str, float], best: Sequence[str]) -> str:
    cells = []
    for run in runs:
        value = values.get(run, NAN)
        text = "" if math.isnan(value) else format_score(value)
        cells.append(f'<td class="n">{f"<b>{text}</b>" if run in best and text else text}</td>')
    return "".join(cells)
