"""Commands that train and evaluate: quickstart, train, eval, score, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posekit.cli.base import Json, Settings, app, emit, make_console
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
    from posekit.engine.quickstart import run_quickstart  # noqa: PLC0415

    console = make_console(as_json)
    keep_freed_memory()
    done = run_quickstart(
        out, settings or [], resume=resume, listener=ProgressListener(console), say=console.print
    )
    emit(done.to_dict(), as_json)
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
    from posekit.cli.console import ProgressListener, comparison_table, plan_tables  # noqa: PLC0415

    console = make_console(as_json)
    if plan:
        planned = engine.plan(recipe, settings or [])
        emit(planned.to_dict(), as_json)
        for part in plan_tables(planned):
            console.print(part)
        return
    keep_freed_memory()
    listener = ProgressListener(console)
    done = engine.train(recipe, settings or [], resume=resume, listener=listener)
    if not done.complete:
        raise typer.Exit(1)
    if alone:
        engine.train_alone(done.folder, listener=listener)
    compared = engine.compare_heads(done.folder)
    emit({"folder": str(done.folder), "heads": compared}, as_json)
    console.print(comparison_table(f"Heads of {done.folder}", compared))
    console.print(f"Report: {done.folder / 'report.html'}")


@app.command("eval")
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
    from posekit import engine  # noqa: PLC0415
    from posekit.evaluation.registry import split_settings  # noqa: PLC0415

    protocol, rest = split_settings(settings or [])
    if boxes is not None:
        protocol["boxes"] = str(boxes)
    pairs = _pairs(dataset or [], split or [])
    if transfer:
        matrix = engine.transfer_matrix(
            model, rest, datasets=pairs, only=head or None, out=out, device=device
        )
        _show(matrix, as_json)
        return
    if not pairs:
        results = engine.evaluate_run(
            model, only=head or None, settings=protocol, overrides=rest, device=device
        )
        _show(results, as_json)
        return
    if len(pairs) > 1:
        raise ConfigError("several --dataset need --transfer: every head on every one of them")
    (name, part), base = pairs[0], model if model.is_dir() else model.parent
    where = out or base / "elsewhere" / f"{Path(name).stem}-{part}"
    found = engine.evaluate_elsewhere(
        model, name, part, root, only=head, settings=protocol, out=where, device=device
    )
    _show(found, as_json)
    make_console(as_json).print(f"Written to {where}", highlight=False, soft_wrap=True)


def _pairs(datasets: list[str], splits: list[str]) -> list[tuple[str, str]]:
    if len(datasets) != len(splits):
        raise ConfigError(
            f"found {len(datasets)} --dataset and {len(splits)} --split, expected one --split for "
            "each --dataset"
        )
    return list(zip(datasets, splits, strict=True))


def _show(found: Any, as_json: bool) -> None:
    """Show a transfer matrix, or the numbers of each head."""
    from posekit.cli.console import metrics_table  # noqa: PLC0415
    from posekit.engine.processes import own_rank  # noqa: PLC0415

    if own_rank():
        return
    console = make_console(as_json)
    if not isinstance(found, dict):
        emit(found.to_dict(), as_json)
        console.print(found.text(), highlight=False)
        return
    emit({name: result.metrics for name, result in found.items()}, as_json)
    for name, result in found.items():
        console.print(metrics_table(name, result.metrics))
        for finding in result.findings:
            console.print(finding, style="yellow", highlight=False, soft_wrap=True)


@app.command()
def score(
    predictions: Annotated[Path, typer.Argument(help="Predictions file (official format).")],
    dataset: Annotated[str, typer.Option(help="Name or path of the dataset's card.")],
    split: Annotated[str, typer.Option(help="Split that the predictions are for.")],
    root: Annotated[
        Path | None, typer.Option(help="The dataset's folder; data/FOLDER by default.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Run the reference beside it.")] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Score a predictions file by a dataset's official protocol, without any model."""
    from posekit.config.cards import load_dataset_card  # noqa: PLC0415
    from posekit.data.index import build_index  # noqa: PLC0415
    from posekit.diagnosis.diagnose import diagnose  # noqa: PLC0415
    from posekit.evaluation.registry import protocol_of, split_settings  # noqa: PLC0415
    from posekit.evaluation.score import score_file  # noqa: PLC0415

    card = load_dataset_card(dataset)
    index = build_index(card, root if root is not None else Path("data") / card.folder, split)
    protocol, rest = split_settings(settings or [])
    if rest:
        raise ConfigError(f"{rest[0]}: no setting of a protocol; give KEY=value, e.g. nms=none")
    done = score_file(predictions, index, settings=protocol, verify=verify)
    found = diagnose(
        index.columns,
        done.predictions,
        index.schema,
        protocol_of(index.card, protocol),
        done.scores,
    )
    report: dict[str, Any] = {"reference": done.reference, "notes": done.notes}
    report["findings"] = [vars(finding) for finding in found.findings]
    emit({**done.scores.to_dict(), **report}, as_json)
    console = make_console(as_json)
    console.print(done.text(), highlight=False)
    if found.findings:
        console.print(found.text(), style="yellow", highlight=False, soft_wrap=True)
    if verify and not done.agrees:
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
    from posekit.evaluation.compare import compare_runs  # noqa: PLC0415
    from posekit.pages.compare_page import write_comparison  # noqa: PLC0415

    compared = compare_runs(runs, allow_differences=anyway)
    emit(compared.to_dict(), as_json)
    console = make_console(as_json)
    console.print(compared.text(), highlight=False)
    if html is not None:
        file = write_comparison(html, compared, runs)
        console.print(f"Page: {file}", highlight=False, soft_wrap=True)
