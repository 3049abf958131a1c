"""Commands that bring a dataset of one's own in: datasets new, datasets adapter-template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posekit.cli.base import Json, datasets_app, emit, make_console, say


@datasets_app.command("new")
def datasets_new(
    path: Annotated[Path, typer.Argument(help="Annotation file, or the dataset's folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Card to write; NAME.yaml here by default.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the dataset; from the path by default.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Also write a recipe that trains on it.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a card for your own data: COCO-style JSON, DeepLabCut, YOLO-pose, SLEAP or CSV.

    Infers keypoints, splits (a fifth is held out where the files have one split), links and flip
    pairs, draws a contact sheet beside the card, and says what it is unsure of.
    """
    from posekit.cli.console import rows_table  # noqa: PLC0415
    from posekit.engine.onboarding import new_dataset  # noqa: PLC0415

    done = new_dataset(path, out, name=name, recipe=recipe, overwrite=overwrite)
    emit(done.to_dict(), as_json)
    console = make_console(as_json)
    counts = ", ".join(f"{count} in {split}" for split, count in done.instances.items())
    found = f"{done.form} below {done.root}: {len(done.keypoints)} keypoints"
    say(console, f"{found}; instances: {counts}")
    if done.pairs:
        rows: list[list[object]] = [list(pair) for pair in done.pairs]
        console.print(rows_table("Flip pairs", ["keypoint", "in the mirror", "found by"], rows))
    for sentence in done.unsure:
        say(console, f"Unsure: {sentence}")
    for file in (done.card, done.sheet, done.recipe):
        if file is not None:
            say(console, f"Wrote {file}")
    say(console, "Next:")
    for command in done.next_commands:
        say(console, f"    {command}")


@datasets_app.command("adapter-template")
def datasets_adapter_template(
    file: Annotated[Path, typer.Argument(help="Python file to write, beside the card.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it is there.")
    ] = False,
) -> None:
    """Write an adapter to start from, for a format that posekit does not read; it runs as it is."""
    from posekit.engine.onboarding import write_template  # noqa: PLC0415

    written = write_template(file, overwrite=overwrite)
    say(make_console(False), f"Wrote {written}; name it in the card: adapter: {written.name}:read")
