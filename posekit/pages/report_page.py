"""The report's sections as HTML; text from files is always escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from posekit.drawing import ERROR, LEFT, MIDDLE, RIGHT, Colour
from posekit.pages import report_errors, report_gradients
from posekit.pages.report_charts import bar, chart_card, format_score, line_chart
from posekit.pages.report_data import HeadRecord, RunRecord, lower_is_better
from posekit.pages.shell import jpeg_uri

_MANY_KEYPOINTS = 40


def navigation(run: RunRecord) -> str:
    """Return the links to the report's sections."""
    heads = "".join(f'<a href="#head-{escape(name)}">{escape(name)}</a>' for name in run.heads)
    return (
        f'<b>posekit report</b><a href="#results">Results</a><a href="#training">Training</a>'
        f'<a href="#heads">Heads</a><div class="sub">{heads}</div><a href="#recipe">Recipe</a>'
    )


def opening(run: RunRecord) -> str:
    """Return the run's name and the few facts that everyone asks for first."""
    last = run.last
    facts = [f"<b>{len(run.heads)}</b> head{'s' if len(run.heads) != 1 else ''}"]
    if "step" in last:
        facts.append(f"<b>{int(last['step']):,}</b> steps")
    if isinstance(last.get("epoch"), int | float):
        facts.append(f"epoch <b>{last['epoch']:.4g}</b>")
    if run.speed:
        rates = np.median([rate for _, rate, _ in run.speed])
        waits = np.mean([wait for _, _, wait in run.speed])
        facts.append(f"<b>{rates:,.0f}</b> images/s")
        facts.append(f"<b>{100 * waits:.1f} %</b> of the time waiting for data")
    items = "".join(f"<li>{fact}</li>" for fact in facts)
    return f'<header><h1>{escape(run.name)}</h1><ul class="facts">{items}</ul></header>'


def results(run: RunRecord) -> str:
    """Return the table of every head's main score against its mean-pose baseline."""
    scored = [head for head in run.heads.values() if head.score is not None]
    missing = [head.name for head in run.heads.values() if head.score is None]
    parts = ['<section id="results"><h2>Results</h2>']
    if scored:
        rows = "".join(_result_row(head) for head in scored)
        parts.append(
            '<div class="card scroll"><table><thead><tr><th>Head</th><th>Measure</th>'
            '<th class="n">Score</th><th></th><th class="n">Mean pose</th>'
            f'<th class="n">Difference</th></tr></thead><tbody>{rows}</tbody></table></div>'
            '<p class="soft">The tick on each bar is the mean pose: the best that one constant '
            "pose inside the box can do. How each number was made stands with its head.</p>"
        )
    if missing or not scored:
        names = ", ".join(missing) or "any head"
        parts.append(
            _empty(f"No evaluation yet of {names}. Make it with", f"posekit eval {run.name}")
        )
    return "".join(parts) + "</section>"


def training(run: RunRecord) -> str:
    """Return a loss chart for each head, scores over time, and speed."""
    charts = [
        chart_card(head, f"last {points[-1][1]:.4g}", line_chart(
            {head: points}, smooth=True, label=f"loss of {head} over steps"))
        for head, points in run.losses.items()
    ]  # fmt: skip
    parts = ['<section id="training"><h2>Training</h2>']
    if charts:
        parts.append(f'<h3>Loss over steps</h3><div class="grid-2">{"".join(charts)}</div>')
    else:
        parts.append(_empty("No losses logged yet: there is no readable log.jsonl in this run."))
    scores = [card for head in run.evaluations if (card := _score_chart(run, head))]
    if scores:
        parts.append("<h3>Score over steps (dashed: mean pose)</h3>")
        parts.append(f'<div class="grid-2">{"".join(scores)}</div>')
    if run.speed:
        rate = line_chart(
            {"images/s": [(s, r) for s, r, _ in run.speed]},
            smooth=True, start_at_zero=True, label="images per second over steps",
        )  # fmt: skip
        wait = line_chart(
            {"wait": [(s, 100 * w) for s, _, w in run.speed]},
            smooth=True, start_at_zero=True, label="share of time waiting for data",
        )  # fmt: skip
        cards = chart_card("Images per second", "", rate) + chart_card(
            "Waiting for data, %", "", wait
        )
        parts.append(f'<h3>Speed</h3><div class="grid-2">{cards}</div>')
    parts += report_gradients.section(run)
    if run.bad_lines:
        parts.append(
            f'<p class="note">{run.bad_lines} unreadable line(s) of log.jsonl left out.</p>'
        )
    return "".join(parts) + "</section>"


def heads(run: RunRecord) -> str:
    """Return each head's numbers, keypoints, pictures and protocol."""
    parts = ['<section id="heads"><h2>Heads</h2>']
    if any(head.pictures for head in run.heads.values()):
        parts.append(picture_key())
    for head in run.heads.values():
        parts.append(f'<section id="head-{escape(head.name)}"><h2>{escape(head.name)}</h2>')
        if head.metrics:
            parts.append(report_errors.findings(head))
            parts.append(f'<div class="pair">{_all_metrics(head)}{protocol(head)}</div>')
            parts += [report_errors.section(head), _keypoints(head), report_errors.categories(head)]
            parts += [_pictures(head, run.folder), _files(head, run.folder)]
        else:
            parts.append(_empty("This head has no evaluation yet."))
        parts.append("</section>")
    if not run.heads:
        parts.append(_empty("No head has been trained or evaluated yet."))
    return "".join(parts) + "</section>"


def recipe(run: RunRecord) -> str:
    """Return the resolved recipe."""
    if not run.recipe:
        return f'<section id="recipe"><h2>Recipe</h2>{_empty("There is no recipe.yaml.")}</section>'
    return (
        '<section id="recipe"><h2>Recipe</h2><div class="card"><details open>'
        "<summary>recipe.yaml, resolved: this run again from one file</summary>"
        f"<pre><code>{escape(run.recipe)}</code></pre></details></div></section>"
    )


def picture_key() -> str:
    """Return the legend of the pictures: what each colour means."""
    names = ((LEFT, "left"), (RIGHT, "right"), (MIDDLE, "midline"))
    dots = "".join(f'<span><i style="--tone:{_css(c)}"></i>{name}</span>' for c, name in names)
    return (
        f'<p class="key soft">{dots}<span><i class="ring"></i>truth</span>'
        f'<span><i class="stroke" style="--tone:{_css(ERROR)}"></i>error</span></p>'
    )


def _result_row(head: HeadRecord) -> str:
    link = f'<a href="#head-{escape(head.name)}">{escape(head.name)}</a>'
    measure = (head.score or 0.0, head.baseline_score)
    row = _comparison(link, head.headline, measure, down=head.lower_is_better)
    if head.yardstick is None or head.yardstick[0] == head.headline:
        return f"<tr>{row}</tr>"
    name, score, base = head.yardstick
    second = _comparison("", name, (score, base))
    return f'<tr class="first">{row}</tr><tr class="second">{second}</tr>'


def _comparison(
    head: str, measure: str, values: tuple[float, float | None], *, down: bool = False
) -> str:
    score, base = values
    scale = max(score, base or 0.0) * 1.05 or 1.0
    if not down:
        scale = 1.0 if scale <= 1.06 else max(100.0, scale)
    gain = "" if base is None else _signed(score - base, score)
    better = base is not None and (score < base if down else score > base)
    verdict = "" if base is None else "good" if better else "bad"
    if base is not None and not better:
        gain += " (no better)"
    arrow = " \N{DOWNWARDS ARROW}" if down else ""
    return (
        f"<td>{head}</td><td>{escape(measure)}{arrow}</td>"
        f'<td class="n big">{format_score(score)}</td>'
        f'<td class="wide">{bar(score, scale, base, "mean pose")}</td>'
        f'<td class="n">{"" if base is None else format_score(base)}</td>'
        f'<td class="n {verdict}">{gain}</td>'
    )


def _signed(gain: float, score: float) -> str:
    text = f"{gain:+.3f}" if abs(score) < 2 else f"{gain:+.2f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _score_chart(run: RunRecord, head: str) -> str:
    record = run.heads.get(head)
    metrics = run.evaluations[head]
    name = record.headline if record and record.headline in metrics else next(iter(metrics), "")
    if not name:
        return ""
    points = metrics[name]
    baseline = record.baseline.get(name) if record else None
    chart = line_chart({name: points}, label=f"{name} of {head} over steps", reference=baseline)
    return chart_card(head, f"{escape(name)} {format_score(points[-1][1])}", chart)


def _all_metrics(head: HeadRecord) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{format_score(value)}</td>'
        f'<td class="n">{_optional(head.baseline.get(name))}</td></tr>'
        for name, value in head.metrics.items()
    )
    return (
        '<div class="card scroll"><table><thead><tr><th>Measure</th><th class="n">Score</th>'
        f'<th class="n">Mean pose</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _keypoints(head: HeadRecord) -> str:
    parts = []
    for title, values in head.per_keypoint.items():
        if not values:
            continue
        down = lower_is_better(title)
        top = max(values.values())
        scale = (top or 1.0) if down else 1.0 if top <= 1.0 else max(100.0, top)
        weakest = sorted(values, key=lambda name: values[name], reverse=down)[:3]
        rows = "".join(
            f'<li><span title="{escape(name)}">{escape(name)}</span>{bar(value, scale)}'
            f"<span>{format_score(value)}</span></li>"
            for name, value in values.items()
        )
        state = "" if len(values) > _MANY_KEYPOINTS else " open"
        parts.append(
            f'<div class="card"><details{state}><summary>{escape(title)} by keypoint</summary>'
            f'<p class="soft">Weakest: {escape(", ".join(weakest))}.</p>'
            f'<ul class="points">{rows}</ul></details></div>'
        )
    return "".join(parts)


def _pictures(head: HeadRecord, folder: Path) -> str:
    captions = {
        "worst": "Worst predictions: truth on the left, prediction on the right",
        "best": "Best predictions: truth on the left, prediction on the right",
    }
    parts = []
    for kind, caption in captions.items():
        file = head.pictures.get(kind)
        data = embed(file) if file else None
        if file and data:
            image = f'<img src="{data}" alt="{caption} of {escape(head.name)}">'
            parts.append(
                f'<figure><a href="{_link(file, folder)}">{image}</a>'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    return "".join(parts) or _empty("No pictures of this head's predictions.")


def embed(file: Path) -> str | None:
    """Return a picture as a data URI (JPEG, to keep the page small), or None if unreadable."""
    image = cv2.imdecode(np.frombuffer(file.read_bytes(), dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return None
    return jpeg_uri(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def protocol(head: HeadRecord) -> str:
    """Return the card with every setting that made a head's numbers."""
    counted = {name: f"{int(value):,}" for name, value in head.counts.items()}
    if not head.protocol:
        return _empty("The protocol of these numbers was not recorded.")
    return (
        '<div class="card"><div class="title">Protocol: how these numbers were made</div>'
        f"<dl>{definitions({**counted, **head.protocol})}</dl></div>"
    )


def definitions(data: Mapping[str, Any]) -> str:
    """Return the entries of a definition list, without those that say nothing."""
    return "".join(
        f"<dt>{escape(str(key).replace('_', ' '))}</dt><dd>{escape(_plain(value))}</dd>"
        for key, value in data.items()
        if value not in (None, "", [], {})
    )


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _files(head: HeadRecord, folder: Path) -> str:
    files = [folder / "eval" / head.name / "metrics.json", *head.files]
    links = ", ".join(f'<a href="{_link(file, folder)}">{escape(file.name)}</a>' for file in files)
    return f'<p class="soft">Files: {links}</p>'


def _link(file: Path, folder: Path) -> str:
    return escape(quote(file.relative_to(folder).as_posix()))


def _empty(text: str, command: str = "") -> str:
    code = f" <code>{escape(command)}</code>" if command else ""
    return f'<div class="card empty">{escape(text)}{code}</div>'


def _optional(value: float | None) -> str:
    return "" if value is None else format_score(value)


def _css(colour: Colour) -> str:
    return f"rgb({colour[0]} {colour[1]} {colour[2]})"
