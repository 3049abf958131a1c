"""Command datasets check: is this dataset what its card says, and fit to train and score on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posekit.cli.base import Json, datasets_app, emit, make_console, runs_cards, say

if TYPE_CHECKING:
    from rich.console import Console

    from posekit.diagnosis import CheckReport

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_SHOWN = 3


@datasets_app.command("check")
@runs_cards
def datasets_check(
    card: Annotated[str, typer.Argument(help="Name or path of a dataset's card.")],
    root: Annotated[Path | None, typer.Option(help="The dataset's folder.")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Split to check; all that are there by default.")
    ] = None,
    train: Annotated[str, typer.Option(help="The training split.")] = "train",
    against: Annotated[
        list[str] | None,
        typer.Option(help="CARD:SPLIT:ROOT of another dataset that scores are made on."),
    ] = None,
    exclude_out: Annotated[
        Path | None, typer.Option(help="List of leaked training images to write, for recipes.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Open every image; else only look for it.")
    ] = True,
    threads: Annotated[int, typer.Option(help="Threads that read images.", min=1)] = 4,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Run the contract of adapters over the card's.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a dataset: images, labels, origin, sides, order, leakage; exit code 1 on errors.

    The summary is printed; --out writes a page with pictures of every finding.
    """
    from posekit.engine import check as engine  # noqa: PLC0415

    done = engine.check(
        card, root, splits=split or (), train=train, against=against or (),
        exclude_out=exclude_out, out=out, images=images, threads=threads, adapter=adapter,
    )  # fmt: skip
    console = make_console(as_json)
    if done.page is not None:
        say(console, f"Wrote {done.page}")
    if done.exclusions is not None:
        say(console, f"Wrote {done.exclusions} with {done.excluded} images, for heads.NAME.exclude")
    emit(done.to_dict(), as_json)
    _print_report(console, done.report)
    raise typer.Exit(1 if done.has_errors else 0)


def _print_report(console: Console, report: CheckReport) -> None:
    from posekit.cli.console import rows_table  # noqa: PLC0415

    if report.splits:
        columns = ["split", "instances", "images", "labelled", "trainable", "visibility"]
        rows = [
            [f.name, f.instances, f.images, f.labelled, f.trainable, f.visibility_says]
            for f in report.splits
        ]
        console.print(rows_table(report.dataset, columns, rows))
    for name, why in report.absent.items():
        say(console, f"split {name} is not here: {why}")
    for found in report.findings:
        colour = _COLOURS[found.severity]
        console.print(f"[{colour}]{found.severity}[/] [bold]{found.name}[/]", end=" ")
        say(console, f"{f'({found.split}) ' if found.split else ''}{found.text}")
        for one in found.examples[:_SHOWN]:
            parts = [one.image, f"instance {one.instance}" if one.instance else "", one.note]
            line = ", ".join(part for part in parts if part)
            say(console, f"    {line}")
        if len(found.examples) > _SHOWN:
            say(console, f"    ... {found.count} in all")
        say(console, f"    -> {found.fix}")
    errors = sum(found.severity == "error" for found in report.findings)
    counts = f"{errors} errors, {len(report.findings) - errors} warnings and notes"
    say(console, counts if report.findings else "Nothing looks wrong.")
