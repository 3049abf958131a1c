"""The report's part about how the heads move the backbone: shares and conflicts over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from posekit.pages.report_charts import chart_card, line_chart
from posekit.pages.report_data import RunRecord

_MOST_LINES = 6
_CLEAR = 0.05


def section(run: RunRecord) -> list[str]:
    """Return the HTML of the gradients' charts; nothing if the run did not measure them."""
    if not run.shares:
        return []
    names = list(run.shares)
    share = line_chart(
        run.shares, label="share of the backbone's gradient over steps", start_at_zero=True
    )
    parts = [
        "<h3>How the heads move the backbone</h3>",
        '<p class="soft">Measured on the shared weights of the backbone\'s last layer. A share is '
        "the norm of a head's gradient over the sum of all norms; a cosine below 0 means that two "
        "heads pull against each other. Weigh heads with <code>loss_weight</code>.</p>",
        '<div class="grid-wide">',
        chart_card("Share of the gradient", "", share, names[:_MOST_LINES]),
    ]
    if run.cosines:
        means = {pair: _mean(points) for pair, points in run.cosines.items()}
        shown = sorted(means, key=lambda pair: means[pair])[:_MOST_LINES]
        series = {f"{a} | {b}": run.cosines[a, b] for a, b in shown}
        lines = line_chart(series, label="cosines of gradients over steps", reference=0.0)
        rest = len(means) - len(shown)
        note = f"the {len(shown)} lowest of {len(means)}" if rest else ""
        parts.append(chart_card("Cosine between heads", note, lines, list(series)))
        parts.append(_matrix(names, means))
    return [*parts, "</div>"]


def _matrix(names: Sequence[str], means: Mapping[tuple[str, str], float]) -> str:
    """Return the table of mean cosines; colour tells conflict from accord."""
    head = "".join(f'<th class="n">{escape(name)}</th>' for name in names)
    rows = []
    for a in names:
        cells = "".join(
            '<td class="n soft">1</td>'
            if a == b
            else _cell(means.get((a, b), means.get((b, a), float("nan"))))
            for b in names
        )
        rows.append(f"<tr><td>{escape(a)}</td>{cells}</tr>")
    title = '<div class="title">Mean cosine, later half of the run<span></span></div>'
    return (
        f'<div class="card scroll">{title}<table class="matrix"><thead><tr><th></th>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(value: float) -> str:
    if np.isnan(value):
        return '<td class="n soft">-</td>'
    tone = "good" if value > _CLEAR else "bad" if value < -_CLEAR else ""
    text = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
    return f'<td class="n {tone}">{text}</td>'


def _mean(points: Sequence[tuple[int, float]]) -> float:
    """Return the mean over the later half of the measurements."""
    values = [value for _, value in points]
    return float(np.mean(values[len(values) // 2 :]))
