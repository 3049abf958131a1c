"""Commands about speed: prepare, profile."""

from __future__ import annotations

from typing import Annotated

import typer

from posekit.cli.base import Json, Settings, app, emit, make_console, read_recipe, runs_cards


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
