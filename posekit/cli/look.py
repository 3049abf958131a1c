"""Commands to look with: view, look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posekit.cli.base import app, make_console, runs_cards, say
from posekit.errors import ConfigError


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
