"""Every command, each a thin call; `posekit --help` lists them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from posekit.errors import ConfigError, PosekitError

app = typer.Typer(
    name="posekit",
    help="Keypoints: one shared backbone, many datasets, a head and an evaluator for each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
datasets_app = typer.Typer(help="Datasets: cards, checks, conversion.", no_args_is_help=True)
app.add_typer(datasets_app, name="datasets")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(help="key.path=value settings, e.g. data_root=DIR out=DIR training.steps=100"),
]


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for data and run.")] = Path("quickstart"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """The whole story on practice data: render, train five heads jointly, evaluate each, report."""
    from posekit.console import ProgressListener, quickstart_parts  # noqa: PLC0415
    from posekit.engine.quickstart import run_quickstart  # noqa: PLC0415

    console = _console(as_json)
    done = run_quickstart(
        out, settings or [], resume=resume, listener=ProgressListener(console), say=console.print
    )
    _emit(done.to_dict(), as_json)
    for part in quickstart_parts(done):
        console.print(part, soft_wrap=isinstance(part, str), highlight=False)
    if not done.complete:
        raise typer.Exit(1)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Path or name of a recipe.")],
    settings: Settings = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what the run would do.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    alone: Annotated[
        bool,
        typer.Option(
            "--alone",
            help="Afterwards train each head alone on as many of its own samples, and compare.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train one backbone jointly on all heads of a recipe, then evaluate each head."""
    from posekit import engine  # noqa: PLC0415
    from posekit.console import ProgressListener, comparison_table, plan_tables  # noqa: PLC0415

    console = _console(as_json)
    if plan:
        planned = engine.plan(recipe, settings or [])
        _emit(planned.to_dict(), as_json)
        for part in plan_tables(planned):
            console.print(part)
        return
    listener = ProgressListener(console)
    done = engine.train(recipe, settings or [], resume=resume, listener=listener)
    if not done.complete:
        raise typer.Exit(1)
    if alone:
        engine.train_alone(done.folder, listener=listener)
    compared = engine.compare_heads(done.folder)
    _emit({"folder": str(done.folder), "heads": compared}, as_json)
    console.print(comparison_table(f"Heads of {done.folder}", compared))
    console.print(f"Report: {done.folder / 'report.html'}")


@app.command("eval")
def evaluate(
    model: Annotated[Path, typer.Argument(help="Run folder or model file.")],
    head: Annotated[
        list[str] | None, typer.Option(help="Head to evaluate; all by default.")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Evaluate the heads of a run or model, each by its dataset's own protocol.

    Settings of the recipe are given as key.path=value, those of the protocol as
    protocol.KEY=value, e.g. protocol.flip_test=false.
    """
    from posekit import engine  # noqa: PLC0415
    from posekit.config import apply_overrides  # noqa: PLC0415
    from posekit.console import metrics_table  # noqa: PLC0415

    console = _console(as_json)
    given = settings or []
    protocol = apply_overrides({}, [s for s in given if s.startswith("protocol.")])
    rest = [s for s in given if not s.startswith("protocol.")]
    results = engine.evaluate_run(
        model, only=head or None, settings=protocol.get("protocol"), overrides=rest
    )
    _emit({name: result.metrics for name, result in results.items()}, as_json)
    for name, result in results.items():
        console.print(metrics_table(name, result.metrics))


@datasets_app.command("list")
def datasets_list(as_json: Json = False) -> None:
    """List the datasets that posekit has a card for."""
    from posekit.catalog import available, load_dataset_card  # noqa: PLC0415
    from posekit.console import rows_table  # noqa: PLC0415

    cards = [load_dataset_card(name) for name in available("datasets")]
    columns = ["name", "subject", "keypoints", "evaluator", "splits", "licence"]
    rows = [
        [c.name, c.subject, len(c.keypoint_schema), c.evaluator, ", ".join(c.splits), c.licence]
        for c in cards
    ]
    _emit([dict(zip(columns, row, strict=True)) for row in rows], as_json)
    _console(as_json).print(rows_table("Datasets", columns, rows))


def main() -> None:
    """Run the command line: exit code 0 done, 1 the work found a problem, 2 wrong usage."""
    try:
        app(standalone_mode=True)
    except ConfigError as error:
        _say_error(error)
        sys.exit(2)
    except PosekitError as error:
        _say_error(error)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _say_error(error: PosekitError) -> None:
    Console(stderr=True).print(
        f"posekit: {error}", style="red", highlight=False, soft_wrap=True, markup=False
    )


def _console(as_json: bool) -> Console:
    """Give the console for people: standard output, or standard error beside JSON."""
    return Console(stderr=as_json)


def _emit(data: Any, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(data, default=str))


if __name__ == "__main__":
    main()
