"""Charts as inline SVG, and how scores are shown; charts take their colours from the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 320, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 16, 10, 26
_MOST_POINTS = 400


def line_chart(
    series: Mapping[str, Points],
    *,
    label: str,
    smooth: bool = False,
    start_at_zero: bool = False,
    reference: float | None = None,
) -> Markup:
    """Return an SVG of one or more lines over training steps.

    Args:
        series: legend -> [(step, value)] in step order; series without points are left out.
        label: what the chart shows, for screen readers.
        smooth: draw the points faintly and a running mean over them.
        start_at_zero: let the value axis begin at 0.
        reference: a value to compare with, drawn as a dashed line.
    """
    drawn = {name: _thin(points) for name, points in series.items() if len(points)}
    if not drawn:
        return Markup()
    values = np.concatenate([points[:, 1] for points in drawn.values()])
    if reference is not None:
        values = np.append(values, reference)
    steps = np.concatenate([points[:, 0] for points in drawn.values()])
    low, high = _value_range(values, start_at_zero)
    first, last = float(steps.min()), float(max(steps.max(), steps.min() + 1))
    if first <= 0.02 * last:
        first = 0.0

    def place(points: np.ndarray) -> np.ndarray:
        x = _LEFT + (points[:, 0] - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (points[:, 1] - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return np.stack([x, y], axis=1)

    parts = [*_value_axis(low, high), *_step_axis(first, last)]
    if reference is not None:
        level = place(np.array([[first, reference]]))[0, 1]
        parts.append(f'<path class="reference" d="M{_LEFT} {level:.1f}H{_WIDTH - _RIGHT}"/>')
    for number, points in enumerate(drawn.values()):
        at = place(np.clip(points, (-np.inf, low), (np.inf, high)))
        tone = f"s{number % 6}"
        if len(points) == 1:
            parts.append(
                f'<circle class="{tone} dot" cx="{at[0, 0]:.1f}" cy="{at[0, 1]:.1f}" r="3"/>'
            )
            continue
        if smooth and len(points) > 8:
            parts.append(_path(at, f"{tone} raw"))
            at = np.stack([at[:, 0], _running_mean(at[:, 1])], axis=1)
        parts.append(_path(at, f"{tone} line"))
        parts.append(
            f'<circle class="{tone} dot" cx="{at[-1, 0]:.1f}" cy="{at[-1, 1]:.1f}" r="3"/>'
        )
    head = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
    # Only numbers and the escaped label go into the picture, so that it is safe as it is.
    return Markup(f'{head} aria-label="{escape(label)}">{"".join(parts)}</svg>')  # noqa: S704


def format_score(value: float) -> str:
    """Return a score as tables show it: three decimals of a fraction, two of a percentage.

    A dash for -1, by which AP and AR say that nothing falls into their range.
    """
    if value == -1:
        return "-"
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers between low and high: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    start = math.ceil(low / step - 1e-9)
    return [i * step for i in range(start, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """Return a number as an axis shows it: 0.25, 12k, 3.2M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.0e}"


def _thin(points: Points) -> np.ndarray:
    """Return at most _MOST_POINTS points, each the mean of its neighbours (the last stays)."""
    array = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(array) <= _MOST_POINTS:
        return array
    chunks = np.array_split(array[:-1], _MOST_POINTS - 1)
    return np.concatenate([[chunk.mean(axis=0) for chunk in chunks], array[-1:]])


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Smooth with a centred window of about a fifteenth of the points, shorter at the ends."""
    half = max(1, len(values) // 30)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    reach = np.minimum(half, np.minimum(index, len(values) - 1 - index))
    return (total[index + reach + 1] - total[index - reach]) / (2 * reach + 1)


def _value_range(values: np.ndarray, start_at_zero: bool) -> tuple[float, float]:
    low = 0.0 if start_at_zero else float(values.min())
    high = float(values.max())
    if len(values) > 20:  # the first steps' peak would flatten all that follows
        high = min(high, 3 * float(np.quantile(values, 0.9)) + 1e-12) if high > 0 else high
    if high - low < 1e-9 * max(abs(high), 1e-9):
        high = low + (abs(low) or 1.0)
    room = 0.06 * (high - low)
    return (low if start_at_zero else low - room), high + room


def _value_axis(low: float, high: float) -> list[str]:
    parts = []
    for tick in nice_ticks(low, high):
        y = _HEIGHT - _BOTTOM - (tick - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 7}" y="{y + 3.5:.1f}">{short(tick)}</text>')
    return parts


def _step_axis(first: float, last: float) -> list[str]:
    y, parts = _HEIGHT - 8, []
    for tick in (tick for tick in nice_ticks(first, last) if tick == round(tick)):
        x = _LEFT + (tick - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        parts.append(f'<text class="mid" x="{x:.1f}" y="{y}">{short(tick)}</text>')
    return parts


def _path(at: np.ndarray, tone: str) -> str:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    return f'<polyline class="{tone}" points="{line}"/>'
