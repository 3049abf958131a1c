"""The report's parts about a head's errors: kinds, calibration, categories, what looks wrong."""

from __future__ import annotations

from html import escape

from posekit.pages.report_charts import bar, format_score, stack
from posekit.pages.report_data import HeadRecord

_MANY = 40


def findings(head: HeadRecord) -> str:
    """Return a note for each finding of the autopsy, nothing if all looks right."""
    return "".join(
        f'<p class="note finding"><b>{escape(name.replace("_", " "))}</b>: {escape(text)}</p>'
        for name, text in head.findings
    )


def section(head: HeadRecord) -> str:
    """Return the kinds of errors of a head, by keypoint, beside what its scores are worth."""
    if not head.error_types:
        return ""
    kinds = list(head.error_types)
    keys = "".join(f'<li class="k{i}">{escape(kind)}</li>' for i, kind in enumerate(kinds))
    ranked = sorted(head.keypoint_errors.items(), key=lambda item: item[1].get(kinds[0], 1.0))
    rows = "".join(
        f'<li><span title="{escape(name)}">{escape(name)}</span>'
        f"{stack({kind: shares.get(kind, 0.0) for kind in kinds})}"
        f"<span>{shares.get(kinds[0], 0.0):.0%}</span></li>"
        for name, shares in ranked
    )
    state = "" if len(ranked) > _MANY else " open"
    all_of_them = ", ".join(f"{kind} {share:.1%}" for kind, share in head.error_types.items())
    card = (
        '<div class="card"><div class="title">Kinds of errors<span></span></div>'
        f"{stack(head.error_types)}"
        f'<ul class="legend kinds">{keys}</ul><p class="soft">{escape(all_of_them)}.</p>'
        f'<details{state}><summary>By keypoint, the worst first</summary><ul class="points">{rows}'
        f'</ul></details><p class="soft">Good: similarity of at least 0.85. Jitter: 0.5 to 0.85. '
        "Inversion: on the mirror partner of the same instance. Swap: on another instance. Miss: "
        f"the rest. Similarity: {escape(head.error_scale)}.</p></div>"
    )
    return f'<div class="grid-wide">{card}{_calibration(head)}</div>'


def categories(head: HeadRecord) -> str:
    """Return the table of categories, nothing if there is only one."""
    if not head.categories:
        return ""
    names = list(dict.fromkeys(name for row in head.categories.values() for name in row))
    titles = "".join(f'<th class="n">{escape(name)}</th>' for name in names)
    rows = "".join(
        f"<tr><td>{escape(category)}</td>"
        + "".join(
            f'<td class="n">{format_score(row[name]) if name in row else ""}</td>' for name in names
        )
        + "</tr>"
        for category, row in head.categories.items()
    )
    state = "" if len(head.categories) > _MANY // 2 else " open"
    return (
        f'<div class="card scroll"><details{state}><summary>By category</summary><table><thead><tr>'
        f"<th>Category</th>{titles}</tr></thead><tbody>{rows}</tbody></table></details></div>"
    )


def _calibration(head: HeadRecord) -> str:
    if not head.calibration:
        return ""
    scale = max(1.0, *(row[2] for row in head.calibration))
    rows = "".join(
        f"<li><span>{low:.2f} to {high:.2f}</span>{bar(right, scale, mean, 'mean score')}"
        f"<span>{right:.0%}</span></li>"
        for low, high, mean, right, _ in head.calibration
    )
    error = head.calibration_error
    said = [] if error is None else [f"Expected calibration error {error:.3f}."]
    if head.ranking is not None:
        said.append(f"A right keypoint scores higher than a wrong one in {head.ranking:.0%}.")
    return (
        '<div class="card"><div class="title">What scores are worth<span></span></div>'
        f'<ul class="points single">{rows}</ul><p class="soft">{escape(" ".join(said))} Bars: '
        "share of keypoints that are right (similarity of at least 0.5) among those with such "
        "scores; tick: their mean score. A calibrated head has its ticks at the bars' ends.</p>"
        "</div>"
    )
