"""Command datasets check: is this dataset what its card says, and fit to train and score on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posekit.cli.base import Json, datasets_app, emit, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from posekit.diagnosis import CheckReport, OtherSplit

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_SHOWN = 3


@datasets_app.command("check")
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
    from posekit.config.cards import load_dataset_card  # noqa: PLC0415
    from posekit.diagnosis import (  # noqa: PLC0415
        CheckReport,
        card_findings,
        check_adapter,
        check_dataset,
        write_exclusions,
    )
    from posekit.errors import ConfigError  # noqa: PLC0415
    from posekit.pages.check_page import write_check_page  # noqa: PLC0415

    broken = card_findings(card)
    if broken:
        _finish(CheckReport(Path(card).stem, findings=broken), as_json)
    loaded = load_dataset_card(card)
    if root is None:
        raise ConfigError(
            f"--root: name the folder of dataset '{loaded.name}', which its card calls "
            f"'{loaded.folder}'"
        )
    if adapter:
        if out is not None or exclude_out is not None:
            raise ConfigError("--adapter writes no page and no list; leave --out and "
                              "--exclude-out away")  # fmt: skip
        _finish(check_adapter(loaded, root, splits=split or ()), as_json)
    if exclude_out is not None and not images:
        raise ConfigError("--exclude-out needs the images; leave --no-images away")
    checked = check_dataset(
        loaded,
        root,
        splits=split or (),
        train=train,
        against=[_other(text) for text in against or ()],
        decode=images,
        threads=threads,
    )
    console = make_console(as_json)
    if out is not None:
        console.print(f"Wrote {write_check_page(out, checked)}", soft_wrap=True)
    if exclude_out is not None:
        about = f"images of {loaded.name}/{train} that are also in splits that scores are made on"
        written = write_exclusions(exclude_out, checked.excluded, about)
        console.print(
            f"Wrote {written} with {len(checked.excluded)} images, for heads.NAME.exclude",
            soft_wrap=True,
        )
    _finish(checked.report, as_json)


def _finish(report: CheckReport, as_json: bool) -> None:
    """Print a report and leave, with exit code 1 if it holds an error."""
    emit(report.to_dict(), as_json)
    _print_report(make_console(as_json), report)
    raise typer.Exit(1 if report.has_errors else 0)


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
        console.print(f"split {name} is not here: {why}", highlight=False, soft_wrap=True)
    for found in report.findings:
        colour = _COLOURS[found.severity]
        console.print(f"[{colour}]{found.severity}[/] [bold]{found.name}[/]", end=" ")
        console.print(
            f"{f'({found.split}) ' if found.split else ''}{found.text}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        for one in found.examples[:_SHOWN]:
            parts = [one.image, f"instance {one.instance}" if one.instance else "", one.note]
            line = ", ".join(part for part in parts if part)
            console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
        if len(found.examples) > _SHOWN:
            console.print(f"    ... {found.count} in all", highlight=False)
        console.print(f"    -> {found.fix}", highlight=False, markup=False, soft_wrap=True)
    errors = sum(found.severity == "error" for found in report.findings)
    console.print(
        f"{errors} errors, {len(report.findings) - errors} warnings and notes"
        if report.findings
        else "Nothing looks wrong.",
        highlight=False,
    )


def _other(text: str) -> OtherSplit:
    from posekit.config.cards import load_dataset_card  # noqa: PLC0415
    from posekit.diagnosis import OtherSplit  # noqa: PLC0415
    from posekit.errors import ConfigError  # noqa: PLC0415

    name, _, rest = text.partition(":")
    split, _, root = rest.partition(":")
    if not name or not split or not root:
        raise ConfigError(f"--against {text}: expected CARD:SPLIT:ROOT, for example coco:val:DIR")
    card = load_dataset_card(name)
    card.split(split)
    return OtherSplit(card, split, Path(root).expanduser())
