"""Commands about data: datasets list, show, convert and sigmas, and schema diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posekit.cli.base import Json, datasets_app, emit, make_console, runs_cards, say, schema_app


@datasets_app.command("list")
def datasets_list(
    data_root: Annotated[
        Path | None, typer.Option(help="Say which are below this folder, and how many instances.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the datasets that posekit has a card for, and with --data-root what is there of them."""
    from posekit.cli.console import rows_table  # noqa: PLC0415
    from posekit.config.cards import available, load_dataset_card  # noqa: PLC0415

    cards = [load_dataset_card(name) for name in available("datasets")]
    columns = ["name", "subject", "keypoints", "evaluator", "splits", "licence"]
    rows = [
        [c.name, c.subject, len(c.keypoint_schema), c.evaluator, ", ".join(c.splits), c.licence]
        for c in cards
    ]
    if data_root is not None:
        from posekit.data.presence import presence, presence_words  # noqa: PLC0415

        found = [presence(card, data_root) for card in cards]
        columns = ["name", "keypoints", "instances", "evaluator", "licence"]
        rows = [
            [c.name, len(c.keypoint_schema), presence_words(f), c.evaluator, c.licence]
            for c, f in zip(cards, found, strict=True)
        ]
        split_rows = [[vars(one) for one in f] for f in found]
        emit(
            [{"name": c.name, "splits": s} for c, s in zip(cards, split_rows, strict=True)], as_json
        )
    else:
        emit([dict(zip(columns, row, strict=True)) for row in rows], as_json)
    make_console(as_json).print(rows_table("Datasets", columns, rows))


@datasets_app.command("show")
def datasets_show(
    name: Annotated[str, typer.Argument(help="Name or path of a dataset's card.")],
    picture: Annotated[
        Path | None, typer.Option(help="Draw the named skeleton into this picture (.png, .jpg).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a dataset's card: source, licence, files of each split, keypoints and flip pairs."""
    from posekit.cli.console import rows_table  # noqa: PLC0415
    from posekit.config.cards import load_dataset_card  # noqa: PLC0415

    card = load_dataset_card(name)
    schema = card.keypoint_schema
    plain = card.model_dump(mode="json", exclude={"keypoint_schema"})
    emit({**plain, "schema": schema.to_dict()}, as_json)
    console = make_console(as_json)
    for key in ("title", "subject", "source", "licence", "adapter", "evaluator", "folder", "notes"):
        if plain[key]:
            say(console, f"{key:10} {plain[key]}")
    files = [[s.name, s.annotations, s.images] for s in card.splits.values()]
    console.print(rows_table("Files below the folder", ["split", "annotations", "images"], files))
    mirror = schema.flip_indices
    points = [
        [i, point, schema.keypoints[mirror[i]], schema.sigmas[i] if schema.sigmas else "-"]
        for i, point in enumerate(schema.keypoints)
    ]
    columns = ["channel", "keypoint", "in the mirror", "OKS sigma"]
    console.print(rows_table(f"{len(schema)} keypoints", columns, points))
    say(
        console,
        f"To get it: follow the source above, and put the files below DATA_ROOT/{card.folder} (or "
        "name another folder as the head's root).",
    )
    if picture is not None:
        from posekit.drawing import write_schema_picture  # noqa: PLC0415

        say(console, f"Wrote {write_schema_picture(picture, schema)}")


@datasets_app.command("convert")
@runs_cards
def datasets_convert(
    name: Annotated[str, typer.Argument(help="Name or path of a dataset's card.")],
    split: Annotated[str, typer.Option(help="Split to convert.")],
    root: Annotated[Path, typer.Option(help="The dataset's folder.")],
    out: Annotated[Path, typer.Option(help="COCO-style file to write, inside the folder.")],
    as_json: Json = False,
) -> None:
    """Write a split of any readable dataset as one COCO-style JSON file, images by reference."""
    from posekit.engine.convert import convert_dataset  # noqa: PLC0415

    written = convert_dataset(name, split, root, out).model_dump(mode="json")
    emit({"file": str(out), "split": written}, as_json)
    say(make_console(as_json), f"Wrote {out}; split of a card: {written}")


@schema_app.command("diff")
def schema_diff(
    a: Annotated[str, typer.Argument(help="Dataset card.")],
    b: Annotated[str, typer.Argument(help="Dataset card.")],
    as_json: Json = False,
) -> None:
    """Show how the keypoints of two datasets relate: same, synonym, near, or only in one."""
    import dataclasses  # noqa: PLC0415

    from posekit.cli.console import rows_table  # noqa: PLC0415
    from posekit.config.cards import load_dataset_card  # noqa: PLC0415
    from posekit.schema_map import diff_schemas  # noqa: PLC0415

    found = diff_schemas(*(load_dataset_card(name).keypoint_schema for name in (a, b)))
    emit(dataclasses.asdict(found), as_json)
    rows: list[list[object]] = [
        [relation, *pair]
        for relation in ("same", "synonyms", "near")
        for pair in getattr(found, relation)
    ]
    rows += [[f"only in {a}", point, "-"] for point in found.only_a]
    rows += [[f"only in {b}", "-", point] for point in found.only_b]
    console = make_console(as_json)
    console.print(rows_table(f"{a} and {b}", ["relation", a, b], rows))
    if found.flip_conflicts:
        say(console, f"Flip pairs disagree at: {', '.join(found.flip_conflicts)}")
        raise typer.Exit(1)


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
