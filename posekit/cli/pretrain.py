"""The command that pre-trains a backbone."""

from __future__ import annotations

from typing import Annotated

import typer

from posekit.cli.base import Json, Settings, app, emit, make_console, read_recipe, runs_cards, say
from posekit.cli.host_memory import keep_freed_memory


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
