"""Commands that train and evaluate, from quickstart and prepare to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posekit.cli.base import Json, Settings, app, emit, make_console, read_recipe, runs_cards, say
from posekit.cli.host_memory import keep_freed_memory
from posekit.errors import ConfigError


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for data and run.")] = Path("quickstart"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """The whole story on practice data: render, train five heads jointly, evaluate each, report."""
    from posekit.cli.console import ProgressListener, quickstart_parts  # noqa: PLC0415
    from posekit.engine import quickstart as engine  # noqa: PLC0415

    console = make_console(as_json)
    keep_freed_memory()
    done = engine.quickstart(
        out, settings or [], resume=resume, listener=ProgressListener(console), say=console.print
    )
    emit(done.to_dict(), as_json)
    for part in quickstart_parts(done):
        console.print(part, soft_wrap=isinstance(part, str), highlight=False)
    if not done.complete:
        raise typer.Exit(1)


@app.command()
@runs_cards
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
    from posekit.cli.console import ProgressListener, comparison_table, plan_tables  # noqa: PLC0415

    loaded = read_recipe(recipe, settings)
    from posekit.engine import single_heads  # noqa: PLC0415
    from posekit.engine import train as engine  # noqa: PLC0415
    from posekit.engine.processes import own_rank  # noqa: PLC0415

    console = make_console(as_json)
    if plan:
        planned = engine.plan(loaded)
        emit(planned.to_dict(), as_json)
        for part in plan_tables(planned):
            console.print(part)
        return
    keep_freed_memory()
    listener = ProgressListener(console)
    done = engine.train(loaded, resume=resume, listener=listener)
    if not done.complete:
        raise typer.Exit(1)
    if alone:
        single_heads.train_alone(done.folder, listener=listener)
    if own_rank():  # the first process tells
        return
    compared = single_heads.compare_heads(done.folder)
    emit({"folder": str(done.folder), "heads": compared}, as_json)
    console.print(comparison_table(f"Heads of {done.folder}", compared))
    say(console, f"Report: {done.folder / 'report.html'}")


@app.command("eval")
@runs_cards
def evaluate(
    model: Annotated[Path, typer.Argument(help="Run folder or model file.")],
    head: Annotated[
        list[str] | None, typer.Option(help="Head to evaluate; all by default.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Another dataset's card, with --split; several with --transfer."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Split of that dataset, one for each.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of that dataset; below data_root by default.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results on that dataset; RUN/elsewhere/... by default."),
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="A detector's boxes (COCO results).")] = None,
    transfer: Annotated[
        bool,
        typer.Option("--transfer", help="Every head on each dataset; the run's own by default."),
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; a GPU if there is one.")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Evaluate the heads of a run or model, each by its dataset's own protocol.

    Settings of the protocol are given as KEY=value (flip_test=false, nms=none), those of the recipe
    as key.path=value (data_root=DIR). Under torchrun the processes share the work.
    """
    from posekit.cli.console import metrics_table  # noqa: PLC0415
    from posekit.engine import other_datasets as engine  # noqa: PLC0415
    from posekit.engine.processes import own_rank  # noqa: PLC0415

    found = engine.evaluate(
        model, heads=head or (), datasets=_pairs(dataset or [], split or []), root=root, out=out,
        boxes=boxes, transfer=transfer, device=device, settings=settings or (),
    )  # fmt: skip
    if own_rank():
        return
    emit(found.to_dict(), as_json)
    console = make_console(as_json)
    if found.matrix is not None:
        say(console, found.matrix.text())
    for name, result in found.results.items():
        console.print(metrics_table(name, result.metrics))
        for finding in result.findings:
            say(console, finding, style="yellow")
    if found.folder is not None:
        say(console, f"Written to {found.folder}")


def _pairs(datasets: list[str], splits: list[str]) -> list[tuple[str, str]]:
    if len(datasets) != len(splits):
        raise ConfigError(
            f"found {len(datasets)} --dataset and {len(splits)} --split, expected one --split for "
            "each --dataset"
        )
    return list(zip(datasets, splits, strict=True))


@app.command()
@runs_cards
def score(
    predictions: Annotated[
        Path, typer.Argument(help="Predictions file, or what `posekit predict` wrote.")
    ],
    dataset: Annotated[str, typer.Option(help="Name or path of the dataset's card.")],
    split: Annotated[str, typer.Option(help="Split that the predictions are for.")],
    root: Annotated[
        Path | None, typer.Option(help="The dataset's folder; data/FOLDER by default.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Run the reference beside it.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the scores, for `posekit compare`.")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Score a predictions file by a dataset's official protocol, without any model."""
    from posekit.engine import score as engine  # noqa: PLC0415

    done = engine.score(
        predictions, dataset, split, root, settings=settings or (), verify=verify, out=out
    )
    emit(done.to_dict(), as_json)
    console = make_console(as_json)
    say(console, done.file.text())
    if done.diagnosis.findings:
        say(console, done.diagnosis.text(), style="yellow")
    if verify and not done.file.agrees:
        raise typer.Exit(1)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also set numbers of different protocols side by side.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write an offline page with tables and curves.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Set several runs side by side, head by head; refuses numbers of different protocols."""
    from posekit.engine import compare as engine  # noqa: PLC0415

    compared = engine.compare(runs, anyway=anyway, html=html)
    emit(compared.to_dict(), as_json)
    console = make_console(as_json)
    say(console, compared.text())
    if html is not None:
        say(console, f"Page: {html}")


@app.command()
@runs_cards
def pretrain(
    recipe: Annotated[str, typer.Argument(help="Path or name of a recipe.")],
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    as_json: Json = False,
) -> None:
    """Pre-train a recipe's backbone on its datasets' crops, without labels (masked autoencoder)."""
    from posekit.cli.console import ProgressListener  # noqa: PLC0415

    loaded = read_recipe(recipe, settings)
    from posekit.engine import pretrain as engine  # noqa: PLC0415

    console = make_console(as_json)
    keep_freed_memory()
    done = engine.pretrain(loaded, resume=resume, listener=ProgressListener(console))
    emit({"checkpoint": str(done.checkpoint), "step": done.step}, as_json)
    if not done.complete:
        raise typer.Exit(1)
    say(console, f"Start a pose run from it: posekit train RECIPE training.init={done.checkpoint}")


@app.command()
@runs_cards
def prepare(
    recipe: Annotated[str, typer.Argument(help="Path or name of a recipe.")],
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Build ahead what a run reads: indices and, with data.cache=store, crop stores."""
    from posekit.cli.console import ProgressListener, prepared_table  # noqa: PLC0415

    loaded = read_recipe(recipe, settings)
    from posekit.engine import prepare as engine  # noqa: PLC0415

    console = make_console(as_json)
    listener = ProgressListener(console)
    done = engine.prepare(
        loaded, say=lambda head, n, of: listener.prepared(f"crops of {head}", n, of)
    )
    emit({name: vars(head) for name, head in done.items()}, as_json)
    console.print(prepared_table(done))


@app.command()
@runs_cards
def profile(
    recipe: Annotated[str, typer.Argument(help="Path or name of a recipe.")],
    settings: Settings = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 8,
    as_json: Json = False,
) -> None:
    """Show where a training step's time goes, what limits it and what to change."""
    from posekit.cli.console import profile_parts  # noqa: PLC0415

    loaded = read_recipe(recipe, settings)
    from posekit.engine import profile as engine  # noqa: PLC0415

    console = make_console(as_json)
    found = engine.profile(loaded, steps=steps)
    emit(found.to_dict(), as_json)
    for part in profile_parts(found):
        console.print(part, soft_wrap=isinstance(part, str), highlight=False)
