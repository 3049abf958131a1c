"""report.html: one offline page of what a run left behind."""

from __future__ import annotations

import os
from pathlib import Path

from posekit.pages import report_page
from posekit.pages.report_data import read_run
from posekit.pages.shell import html_page
from posekit.version import __version__

__all__ = ["write_report"]


def write_report(run_folder: str | Path) -> Path:
    """Write RUN/report.html from the run's recipe, log and evaluations, and give its path.

    The page holds its styles, charts and pictures, so that it can be sent on as one file and opens
    without a network. What the run has not made yet (no evaluation, no log) is shown as missing.
    An older report is replaced at once, never half.

    Raises:
        PosekitError: there is no such folder, or it holds nothing of a run.
    """
    run = read_run(run_folder)
    body = "\n".join(
        (
            report_page.opening(run),
            report_page.results(run),
            report_page.training(run),
            report_page.heads(run),
            report_page.recipe(run),
            f"<footer>Written by posekit {__version__}.</footer>",
        )
    )
    html = html_page(f"{run.name} - posekit report", report_page.navigation(run), body)
    target = run.folder / "report.html"
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_text(html, encoding="utf-8")
    draft.replace(target)
    return target
