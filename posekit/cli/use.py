"""Commands that use models: predict, export, convert, info."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from posekit.cli.base import Json, app, emit, make_console

Model = Annotated[Path, typer.Argument(help="Model file (.safetensors) or run folder.")]


class Precision(StrEnum):
    """What an exported file computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


@app.command()
def predict(
    model: Model,
    inputs: Annotated[list[str], typer.Argument(help="Images, videos, folders or globs.")],
    head: Annotated[str | None, typer.Option(help="Head, or 'all' for every head.")] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="Boxes (COCO results); else whole images.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("predictions"),
    as_json: Json = False,
) -> None:
    """Predict photographs and videos; writes JSON beside pictures with the poses drawn in."""
    from posekit.inference.files import predict_files  # noqa: PLC0415

    console = make_console(as_json)
    done = predict_files(model, inputs, out, head=head, boxes=boxes)
    emit(done.to_dict(), as_json)
    for file in done.written:
        console.print(f"wrote {file}", highlight=False, soft_wrap=True)
    for problem in done.failed.values():
        console.print(f"passed over: {problem}", style="yellow", highlight=False, soft_wrap=True)
    if done.failed:
        raise typer.Exit(1)


@app.command()
def export(
    model: Model,
    out: Annotated[
        Path, typer.Option(help="File to write: .onnx, .xml (OpenVINO) or .pt2 (torch.export).")
    ],
    head: Annotated[
        list[str] | None, typer.Option(help="Head; several with several --head; or 'all'.")
    ] = None,
    maps: Annotated[
        bool, typer.Option("--maps", help="Leave decoding out: the graph gives heatmaps.")
    ] = False,
    precision: Annotated[Precision, typer.Option(help="Arithmetic or weights.")] = Precision.fp32,
    limit_px: Annotated[
        float | None, typer.Option(help="Largest keypoint drift allowed.", min=0)
    ] = None,
    samples: Annotated[
        list[str] | None, typer.Option(help="Images to prove it on, best of your subject.")
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="Boxes of the sample images.")] = None,
    as_json: Json = False,
) -> None:
    """Export to ONNX, OpenVINO or torch.export, and prove on sample crops that it is the same."""
    from posekit.inference import export as exporting  # noqa: PLC0415

    proof = exporting.read_samples(samples, boxes) if samples else None
    done = exporting.export(
        model, out, head=head, decode=not maps, precision=precision.value, limit_px=limit_px,
        samples=proof,
    )  # fmt: skip
    emit([part.to_dict() for part in done], as_json)
    for part in done:
        make_console(as_json).print(f"wrote {part.text()}", highlight=False, soft_wrap=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Model of posekit or of another project.")],
    target: Annotated[Path, typer.Argument(help=".safetensors, .pth, or a transformers folder.")],
    recipe: Annotated[
        str | None, typer.Option(help="Recipe that says what a foreign source's heads are.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="To transformers: which head.")] = None,
    as_json: Json = False,
) -> None:
    """Bring weights from ViTPose, ViTPose+ or transformers, or to them; lists every tensor."""
    from posekit.engine.setup import read_heads  # noqa: PLC0415
    from posekit.models.convert_files import convert_file  # noqa: PLC0415
    from posekit.recipe import load_recipe  # noqa: PLC0415

    heads = None
    if recipe:
        heads = {name: setup.spec for name, setup in read_heads(load_recipe(recipe)).items()}
    ledger = convert_file(source, target, heads, head=head)
    emit([vars(entry) for entry in ledger.entries], as_json)
    console = make_console(as_json)
    for entry in ledger.entries:
        line = f"{entry.action:9} {entry.source or '-'} -> {entry.target or '-'}"
        console.print(f"{line}  {entry.note}".rstrip(), highlight=False, soft_wrap=True)
    counts = ", ".join(f"{count} {action}" for action, count in ledger.counts().items())
    console.print(f"{target}: {counts}", highlight=False)


@app.command()
def info(
    what: Annotated[Path, typer.Argument(help="Model file, or path or name of a recipe.")],
    as_json: Json = False,
) -> None:
    """Say what a model or a recipe is: backbone, heads, parameters."""
    from posekit.console import rows_table  # noqa: PLC0415
    from posekit.engine.describe import describe  # noqa: PLC0415

    found = describe(what)
    emit(found, as_json)
    console = make_console(as_json)
    console.print(f"{found['name']}: {found['backbone']}", highlight=False, soft_wrap=True)
    console.print(f"{found['parameters'] / 1e6:.2f} M parameters", highlight=False)
    columns = ["head", "dataset", "keypoints", "input", "decoder", "codec", "parameters"]
    rows = [[row[column] for column in columns] for row in found["heads"]]
    console.print(rows_table("Heads", columns, rows))
