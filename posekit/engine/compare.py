"""Compare runs head by head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from posekit.evaluation.compare import Comparison, compare_runs
from posekit.pages.compare_page import write_comparison


def compare(
    runs: Sequence[str | Path], *, anyway: bool = False, html: str | Path | None = None
) -> Comparison:
    """Set several runs side by side, head by head.

    Args:
        runs: the runs' folders.
        anyway: also compare numbers of different protocols.
        html: page with tables and curves to write, if wanted.

    Raises:
        ConfigError: numbers of different protocols.
        PosekitError: a run was not evaluated, or the page cannot be written.
    """
    compared = compare_runs(runs, allow_differences=anyway)
    if html is not None:
        write_comparison(html, compared, runs)
    return compared
