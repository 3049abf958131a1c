"""Commands that share models: card, push, and what is done to heads before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posekit.cli.base import Json, app, emit, make_console, runs_cards, say
from posekit.errors import ConfigError

heads_app = typer.Typer(
    help="Heads of models: split, keep, drop, rename, merge, add.", no_args_is_help=True
)
app.add_typer(heads_app, name="heads")

Model = Annotated[str, typer.Argument(help="Run folder, model file, or hf:owner/name.")]
Out = Annotated[Path, typer.Option(help="Model file to write.")]
Names = Annotated[list[str], typer.Argument(help="Names of heads.")]


@app.command()
def card(
    model: Model,
    out: Annotated[Path | None, typer.Option(help="File to write; else it is printed.")] = None,
    licence: Annotated[str, typer.Option(help="Identifier of the weights' licence.")] = "other",
) -> None:
    """Write a model's card: what it is, its datasets and their terms, its numbers."""
    from posekit.engine.model_card import model_card  # noqa: PLC0415
    from posekit.output import write_text  # noqa: PLC0415

    text = model_card(model, licence=licence)
    if out is None:
        typer.echo(text)
        return
    write_text(out, text)
    say(make_console(False), f"wrote {out}")


@app.command()
@runs_cards
def push(
    model: Model,
    repo: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    licence: Annotated[str, typer.Option(help="Identifier of the weights' licence.")] = "other",
    dry_run: Annotated[
        Path | None, typer.Option(help="Only write what would be shared into this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Share a model with its card, recipe and numbers on the Hugging Face Hub."""
    from posekit.engine.share import push_to_hub, write_shared  # noqa: PLC0415

    console = make_console(as_json)
    if dry_run is not None:
        notes = write_shared(model, dry_run, address=repo, licence=licence)
        emit({"folder": str(dry_run), "notes": notes}, as_json)
        say(console, f"wrote {dry_run}; nothing was shared")
    else:
        done = push_to_hub(model, repo, private=not public, licence=licence)
        notes = done.notes
        emit(done.to_dict(), as_json)
        say(console, f"shared {', '.join(done.files)}")
        say(console, f"load it with posekit.load({done.address!r})")
    for note in notes:
        say(console, f"note: {note}", style="yellow")


@heads_app.command("split")
@runs_cards
def heads_split(
    model: Model, out: Annotated[Path, typer.Option(help="Folder for a model file a head.")]
) -> None:
    """Write each head as a plain model of its own, experts folded in."""
    from posekit.engine.heads import split_heads  # noqa: PLC0415

    for file in split_heads(model, out):
        say(make_console(False), f"wrote {file}")


@heads_app.command("keep")
@runs_cards
def heads_keep(model: Model, heads: Names, out: Out) -> None:
    """Write a model with these heads only."""
    from posekit.engine.heads import keep_heads  # noqa: PLC0415

    say(make_console(False), f"wrote {keep_heads(model, heads, out)}")


@heads_app.command("drop")
@runs_cards
def heads_drop(model: Model, heads: Names, out: Out) -> None:
    """Write a model without these heads."""
    from posekit.engine.heads import remove_heads  # noqa: PLC0415

    say(make_console(False), f"wrote {remove_heads(model, heads, out)}")


@heads_app.command("rename")
@runs_cards
def heads_rename(
    model: Model,
    names: Annotated[list[str], typer.Argument(help="OLD=NEW, one or several.")],
    out: Out,
) -> None:
    """Write a model whose heads have other names."""
    from posekit.engine.heads import rename_heads  # noqa: PLC0415

    pairs = [name.partition("=") for name in names]
    for name, (_, equals, new) in zip(names, pairs, strict=True):
        if not (equals and new):
            raise ConfigError(f"'{name}': expected OLD=NEW")
    done = rename_heads(model, {old: new for old, _, new in pairs}, out)
    say(make_console(False), f"wrote {done}")


@heads_app.command("merge")
@runs_cards
def heads_merge(
    models: Annotated[list[str], typer.Argument(help="Models that share a backbone.")], out: Out
) -> None:
    """Write one model with the heads of several that share a backbone."""
    from posekit.engine.heads import merge_files  # noqa: PLC0415

    say(make_console(False), f"wrote {merge_files(models, out)}")


@heads_app.command("add")
@runs_cards
def heads_add(
    model: Model,
    name: Annotated[str, typer.Argument(help="Name of the new head.")],
    dataset: Annotated[str, typer.Option(help="Card of the dataset whose keypoints it has.")],
    out: Out,
    head: Annotated[str, typer.Option(help="Card of the kind of head.")] = "classic_udp",
    input_size: Annotated[
        tuple[int, int] | None, typer.Option(help="HEIGHT WIDTH; the first head's by default.")
    ] = None,
    expert_of: Annotated[
        str | None, typer.Option(help="Share this head's expert; else a copy of the first.")
    ] = None,
) -> None:
    """Write a model with one more, untrained head."""
    from posekit.engine.heads import append_head  # noqa: PLC0415

    done = append_head(model, out, name, dataset, head, input_size=input_size, expert_of=expert_of)
    say(make_console(False), f"wrote {done}")
