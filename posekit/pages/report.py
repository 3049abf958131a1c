"""report.html: one offline page of what a run left behind."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import cv2
import numpy as np

from posekit.drawing import ERROR, LEFT, MIDDLE, RIGHT, Colour
from posekit.drawing.picture_files import jpeg_uri
from posekit.pages.report_data import (
    RunRecord,
    SavedEvaluation,
    bar_scale,
    lower_is_better,
    read_run,
)
from posekit.pages.shell import write_page

__all__ = ["write_report"]

_MOST_LINES = 6
_CAPTION = "{} predictions: truth on the left, prediction on the right"


class _Comparison(NamedTuple):
    """A score against the mean pose's: a row of the table of results."""

    measure: str
    score: float
    base: float | None
    down: bool = False

    @property
    def is_better(self) -> bool:
        base = self.score if self.base is None else self.base
        return self.score < base if self.down else self.score > base

    @property
    def scale(self) -> float:
        """The value of a full bar: 1 or 100 for scores, a little over the larger of two errors."""
        scale = max(self.score, self.base or 0.0) * 1.05 or 1.0
        if self.down:
            return scale
        return 1.0 if scale <= 1.06 else max(100.0, scale)


def write_report(run_folder: str | Path) -> Path:
    """Write RUN/report.html from the run's recipe, log and evaluations, and return its path.

    The page holds its styles, charts and pictures, so that it can be sent on as one file and opens
    without a network. What the run has not made yet (no evaluation, no log) is shown as missing.
    An older report is replaced at once, never half.

    Raises:
        PosekitError: there is no such folder, it holds nothing of a run, or the page cannot be
            written.
    """
    run = read_run(run_folder)
    means = {pair: _late_mean(points) for pair, points in run.cosines.items()}
    lowest = sorted(means, key=lambda pair: means[pair])[:_MOST_LINES]
    return write_page(
        run.folder / "report.html",
        "report.html",
        run=run,
        median_rate=np.median([rate for _, rate, _ in run.speed]) if run.speed else 0.0,
        mean_wait=np.mean([wait for _, _, wait in run.speed]) if run.speed else 0.0,
        results=[_result(head) for head in run.heads.values() if head.score is not None],
        missing=[head.name for head in run.heads.values() if head.score is None],
        curves=[curve for head in run.evaluations if (curve := _curve(run, head))],
        means=means,
        cosines={f"{a} | {b}": run.cosines[a, b] for a, b in lowest},
        pictures={name: _pictures(head) for name, head in run.heads.items()},
        key=[("left", _css(LEFT)), ("right", _css(RIGHT)), ("midline", _css(MIDDLE))],
        error_colour=_css(ERROR),
        bar_scale=bar_scale,
        weakest=_weakest,
        link=lambda file: quote(file.relative_to(run.folder).as_posix()),
    )


def _result(head: SavedEvaluation) -> tuple[str, _Comparison, _Comparison | None]:
    """Return a head's name, its official score, and the common metric if that is another one."""
    official = _Comparison(
        head.headline, head.score or 0.0, head.baseline_score, head.lower_is_better
    )
    common = head.common_metric
    if common is None or common[0] == head.headline:
        return head.name, official, None
    return head.name, official, _Comparison(*common)


def _curve(
    run: RunRecord, head: str
) -> tuple[str, str, list[tuple[int, float]], float | None] | None:
    """Return head, metric, its values over steps and its mean-pose score; None without values."""
    record, metrics = run.heads.get(head), run.evaluations[head]
    name = record.headline if record and record.headline in metrics else next(iter(metrics), "")
    if not name:
        return None
    return head, name, metrics[name], record.baseline.get(name) if record else None


def _late_mean(points: list[tuple[int, float]]) -> float:
    """Return the mean over the later half of the measurements."""
    values = [value for _, value in points]
    return float(np.mean(values[len(values) // 2 :]))


def _weakest(column: str, values: dict[str, float]) -> list[str]:
    return sorted(values, key=lambda name: values[name], reverse=lower_is_better(column))[:3]


def _pictures(head: SavedEvaluation) -> list[tuple[str, str, Path]]:
    """Return caption, data URI and file of each contact sheet that can be read."""
    found = []
    for kind in ("worst", "best"):
        file = head.pictures.get(kind)
        data = np.frombuffer(file.read_bytes() if file else b"", np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if file and image is not None:
            uri = jpeg_uri(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            found.append((_CAPTION.format(kind.capitalize()), uri, file))
    return found


def _css(colour: Colour) -> str:
    return "rgb({} {} {})".format(*colour)
