"""Commands about published results: reproduce."""

from __future__ import annotations

from typing import Annotated

import typer

from posekit.cli.base import Json, app, emit, make_console, read_recipe, runs_cards, say
from posekit.errors import ConfigError


@app.command()
@runs_cards
def reproduce(
    recipe: Annotated[str, typer.Argument(help="Path or name of a recipe with published numbers.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|MODEL] [SETTINGS]...",
            help="Run folder or model file, and key.path=value settings such as data_root=DIR.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that a recipe's files are in place; compare a run or model with the published numbers.

    Without a run or model: says which files are missing and where to get them. With one:
    takes the run's own numbers where they were made by the published protocol, measures the others,
    and ends with exit code 1 if one is below what was published.
    """
    from posekit.cli.console import rows_table  # noqa: PLC0415

    settings = [text for text in arguments or () if "=" in text]
    models = [text for text in arguments or () if "=" not in text]
    if len(models) > 1:
        raise ConfigError(f"reproduce: found several models ({', '.join(models)}), expected one")
    loaded = read_recipe(recipe, settings)
    from posekit.engine import reproduce as engine  # noqa: PLC0415

    found = engine.reproduce(loaded, models[0] if models else None)
    emit(found.to_dict(), as_json)
    console = make_console(as_json)
    for path in dict.fromkeys(file.path for file in found.missing):
        files = [file for file in found.missing if file.path == path]
        uses = ", ".join(dict.fromkeys(file.entry or "training" for file in files))
        say(
            console,
            f"missing: {path} ({files[0].what}; for {uses}) - from: {files[0].source.strip()}",
            style="yellow",
        )
    there = found.needed - len(found.missing)
    say(console, f"{found.recipe}: {there} of {found.needed} files and folders are in place.")
    if found.rows:
        columns = ["entry", "metric", "published", "found", "verdict", "from"]
        cells = [
            [r.entry, r.metric, r.published, r.found, r.verdict, r.taken_from] for r in found.rows
        ]
        console.print(rows_table("Published and found", columns, cells))
        for entry, doubt in {r.entry: r.doubt for r in found.rows if r.doubt}.items():
            say(console, f"{entry} is not judged: {doubt}")
    if not found.is_good:
        raise typer.Exit(1)
