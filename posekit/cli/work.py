"""Commands that train and evaluate: quickstart, train, eval, score, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posekit.cli.base import Json, Settings, app, emit, make_console
from posekit.errors import ConfigError


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

    console = make_console(as_json)
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
    from posekit.console import ProgressListener, comparison_table, plan_tables  # noqa: PLC0415

    console = make_console(as_json)
    if plan:
        planned = engine.plan(recipe, settings or [])
        emit(planned.to_dict(), as_json)
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
        str | None, typer.Option(help="Another dataset's card; with --split and --root.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of that dataset.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of that dataset.")] = None,
    boxes: Annotated[Path | None, typer.Option(help="A detector's boxes (COCO results).")] = None,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Every head on every dataset of the run.")
    ] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Evaluate the heads of a run or model, each by its dataset's own protocol.

    Settings of the recipe are given as key.path=value, those of the protocol as
    protocol.KEY=value, e.g. protocol.flip_test=false.
    """
    from posekit import engine  # noqa: PLC0415
    from posekit.config import apply_overrides  # noqa: PLC0415

    given = settings or []
    protocol = apply_overrides({}, [s for s in given if s.startswith("protocol.")])
    protocol = protocol.get("protocol", {})
    if boxes is not None:
        protocol["boxes"] = str(boxes)
    rest = [s for s in given if not s.startswith("protocol.")]
    if transfer:
        _show(engine.transfer_matrix(model, rest), as_json)
        return
    if dataset is None:
        results = engine.evaluate_run(model, only=head or None, settings=protocol, overrides=rest)
        _show(results, as_json)
        return
    if split is None or root is None:
        raise ConfigError("--dataset needs --split and --root as well")
    found = engine.evaluate_elsewhere(model, dataset, split, root, only=head, settings=protocol)
    _show(found, as_json)


def _show(found: Any, as_json: bool) -> None:
    """Show a transfer matrix, or the numbers of each head."""
    from posekit.console import metrics_table  # noqa: PLC0415

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
    root: Annotated[Path, typer.Option(help="The dataset's folder.")],
    verify: Annotated[bool, typer.Option("--verify", help="Run the reference beside it.")] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Score a predictions file by a dataset's official protocol, without any model."""
    from posekit.catalog import load_dataset_card  # noqa: PLC0415
    from posekit.config import apply_overrides  # noqa: PLC0415
    from posekit.data.index import build_index  # noqa: PLC0415
    from posekit.evaluation.autopsy import diagnose  # noqa: PLC0415
    from posekit.evaluation.registry import protocol_of  # noqa: PLC0415
    from posekit.evaluation.score import score_file  # noqa: PLC0415

    index = build_index(load_dataset_card(dataset), root, split)
    protocol = apply_overrides({}, settings or []).get("protocol", {})
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
    as_json: Json = False,
) -> None:
    """Set several runs side by side, head by head; refuses numbers of different protocols."""
    from posekit.evaluation.compare import compare_runs  # noqa: PLC0415

    compared = compare_runs(runs, allow_differences=anyway)
    emit(compared.to_dict(), as_json)
    make_console(as_json).print(compared.text(), highlight=False)
