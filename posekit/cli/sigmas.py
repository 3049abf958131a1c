"""The command that estimates OKS sigmas: datasets sigmas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posekit.cli.base import Json, datasets_app, emit, make_console, runs_cards, say


@datasets_app.command("sigmas")
@runs_cards
def datasets_sigmas(
    name: Annotated[str, typer.Argument(help="Name or path of a dataset's card.")],
    split: Annotated[
        list[str],
        typer.Option(help="Split; several, if the annotators' files are splits of the card."),
    ],
    annotations: Annotated[
        list[str] | None,
        typer.Option(help="An annotator's file, read like the one split's; give two or more."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="The dataset's folder; data/FOLDER by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Key of the resampling behind the intervals.")] = 0,
    as_json: Json = False,
) -> None:
    """Estimate OKS sigmas, with 95 % intervals, from the same instances annotated several times."""
    from posekit.config.cards import load_dataset_card  # noqa: PLC0415
    from posekit.diagnosis.sigmas import estimate_from_files  # noqa: PLC0415

    card = load_dataset_card(name)
    folder = root if root is not None else Path("data") / card.folder
    found = estimate_from_files(card, folder, split, annotations or (), seed=seed)
    emit(found.to_dict(), as_json)
    say(make_console(as_json), found.text())
