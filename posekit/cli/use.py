"""Commands that use models: predict, export, convert, info, look; and view."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from posekit.cli.base import Json, app, emit, make_console, runs_cards, say
from posekit.errors import ConfigError

Model = Annotated[str, typer.Argument(help="Model file, run folder, or hf:owner/name.")]


class Precision(StrEnum):
    """What an exported file computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


@app.command()
@runs_cards
def predict(
    model: Model,
    inputs: Annotated[
        list[str], typer.Argument(help="Images, videos, folders, globs, or camera:0.")
    ],
    head: Annotated[str | None, typer.Option(help="Head, or 'all' for every head.")] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="File with boxes; else a detector or whole images.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="torchvision:NAME, or the .yaml card of an ONNX detector.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("predictions"),
    overlay: Annotated[bool, typer.Option(help="Also write pictures and videos.")] = True,
    threshold: Annotated[
        float, typer.Option(help="Keypoints that score less are not drawn.", min=0, max=1)
    ] = 0.15,
    track: Annotated[bool, typer.Option(help="Follow instances through videos.")] = True,
    smooth: Annotated[bool, typer.Option("--smooth", help="One-euro smoothing.")] = False,
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average with the mirrored crop; twice the time.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Crops in one forward pass.", min=1)] = 32,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    frames: Annotated[
        int | None, typer.Option(help="Stop videos and cameras after so many.", min=1)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    as_json: Json = False,
) -> None:
    """Predict photographs, videos or a camera; writes JSON beside pictures with the poses."""
    from posekit.cli.console import FilesProgress  # noqa: PLC0415
    from posekit.engine import predict as engine  # noqa: PLC0415

    console = make_console(as_json)
    with FilesProgress(console) as progress:
        done = engine.predict(
            model, inputs, out, head=head, boxes=boxes, detector=detector, overlay=overlay,
            threshold=threshold, track=track, smooth=smooth, flip_test=flip_test,
            batch_size=batch_size, device=device, frames=frames, resume=resume, progress=progress,
        )  # fmt: skip
    emit(done.to_dict(), as_json)
    for file in done.written:
        say(console, f"wrote {file}")
    if done.already:
        say(console, f"{done.already} inputs were done already")
    for problem in done.warnings:
        say(console, f"warning: {problem}", style="yellow")
    for problem in done.failed.values():
        say(console, f"skipped: {problem}", style="yellow")
    if done.failed:
        raise typer.Exit(1)


@app.command()
@runs_cards
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
        say(make_console(as_json), f"wrote {part.text()}")


@app.command()
@runs_cards
def convert(
    source: Annotated[Path, typer.Argument(help="Model of posekit or of another project.")],
    target: Annotated[Path, typer.Argument(help=".safetensors, .pth, or a transformers folder.")],
    recipe: Annotated[
        str | None, typer.Option(help="Recipe that says what a foreign source's heads are.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="To transformers: which head.")] = None,
    as_json: Json = False,
) -> None:
    """Convert weights from ViTPose, ViTPose+ or transformers, or to them; lists every tensor."""
    from posekit.engine import convert as engine  # noqa: PLC0415

    ledger = engine.convert(source, target, recipe=recipe, head=head)
    emit([vars(entry) for entry in ledger.entries], as_json)
    console = make_console(as_json)
    for entry in ledger.entries:
        line = f"{entry.action:9} {entry.source or '-'} -> {entry.target or '-'}"
        say(console, f"{line}  {entry.note}".rstrip())
    counts = ", ".join(f"{count} {action}" for action, count in ledger.counts().items())
    say(console, f"{target}: {counts}")


@app.command()
@runs_cards
def info(
    what: Annotated[Path, typer.Argument(help="Model file, or path or name of a recipe.")],
    as_json: Json = False,
) -> None:
    """Describe a model or a recipe: backbone, heads, parameters, cost of its attention."""
    from posekit.cli.console import rows_table  # noqa: PLC0415
    from posekit.engine.describe import cost_line, describe  # noqa: PLC0415

    found = describe(what)
    emit(found, as_json)
    console = make_console(as_json)
    say(console, f"{found['name']}: {found['backbone']}")
    trains = sum(trainable for trainable, _ in found["parts"].values())
    say(
        console, f"{found['parameters'] / 1e6:.2f} M parameters, {trains / 1e6:.2f} M of them train"
    )
    for phase in found["phases"]:
        line = f"from {phase['start']:g} on: {phase['trainable'] / 1e6:.2f} M train"
        say(console, line)
    for size, macs in found.get("cost", {}).items():
        say(console, cost_line(size, macs))
    columns = ["head", "dataset", "keypoints", "input", "decoder", "codec", "parameters"]
    rows = [[row[column] for column in columns] for row in found["heads"]]
    console.print(rows_table("Heads", columns, rows))
    parts = [[part, n, trainable, n - trainable] for part, (trainable, n) in found["parts"].items()]
    console.print(rows_table("Parameters", ["part", "all", "trainable", "frozen"], parts))


@app.command()
@runs_cards
def view(
    what: Annotated[
        str, typer.Argument(help="Run, dataset card, predictions file, or folder of predict.")
    ],
    head: Annotated[str | None, typer.Option(help="Head of the run.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Card, for a predictions file.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the dataset.")] = None,
    root: Annotated[Path | None, typer.Option(help="The dataset's folder.")] = None,
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("view.html"),
    limit: Annotated[int, typer.Option(help="Most instances on the page.", min=1)] = 600,
) -> None:
    """Write one offline HTML page of a dataset, predictions, or a run's evaluation."""
    from posekit.engine import view as engine  # noqa: PLC0415

    file = engine.view(what, out, head=head, dataset=dataset, split=split, root=root, limit=limit)
    say(make_console(False), f"Wrote {file}")


@app.command()
@runs_cards
def look(
    model: Annotated[str, typer.Argument(help="Model file, run folder, or hf:owner/name.")],
    image: Annotated[Path, typer.Argument(help="Photograph.")],
    head: Annotated[str | None, typer.Option(help="Head.")] = None,
    box: Annotated[str | None, typer.Option(help="x,y,width,height; else the whole image.")] = None,
    keypoint: Annotated[
        list[str] | None, typer.Option(help="Keypoints to show; all by default.")
    ] = None,
    block: Annotated[int, typer.Option(help="Whose attention; -1 is the last block.")] = -1,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("look.jpg"),
) -> None:
    """Draw the heatmap of each keypoint, and what the backbone attends to from its place."""
    from posekit.inference.inspect import write_look  # noqa: PLC0415
    from posekit.inference.predictor import load  # noqa: PLC0415

    numbers = None
    if box is not None:
        try:
            numbers = [float(part) for part in box.split(",")]
        except ValueError:
            raise ConfigError(f"--box '{box}': expected x,y,width,height in pixels") from None
    file = write_look(out, load(model), image, numbers, head=head, keypoints=keypoint, block=block)
    say(make_console(False), f"Wrote {file}")
