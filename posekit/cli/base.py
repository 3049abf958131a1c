"""What all commands share: the apps, options, output for people and for machines."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from posekit.output import finite

if TYPE_CHECKING:
    from posekit.config.recipe import Recipe

app = typer.Typer(
    name="posekit",
    help="Keypoints: one shared backbone, many datasets, a head and an evaluator for each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
datasets_app = typer.Typer(help="Datasets: cards, checks, conversion.", no_args_is_help=True)
app.add_typer(datasets_app, name="datasets")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
_AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", help="Run code that cards name (file.py:Name, module:Name); read it first."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(help="key.path=value settings, e.g. data_root=DIR out=DIR training.steps=100"),
]
schema_app = typer.Typer(help="Schemas: how two relate.", no_args_is_help=True)
app.add_typer(schema_app, name="schema")


def runs_cards(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option --allow-code to a command that loads cards, runs or models."""

    @wraps(command)
    def call(*args: Any, allow_code: bool = False, **kwargs: Any) -> None:
        from posekit.config.plug_ins import code_allowed  # noqa: PLC0415

        with code_allowed(allow_code):
            command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    option = inspect.Parameter("allow_code", kind, default=False, annotation=_AllowCode)
    parameters = [*signature.parameters.values(), option]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def make_console(as_json: bool) -> Console:
    """Return the console for people: standard output, or standard error beside JSON."""
    return Console(stderr=as_json)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a sentence on one line, paths and names in it just as they are."""
    console.print(text, style=style, highlight=False, soft_wrap=True, markup=False)


def read_recipe(name: str, settings: list[str] | None) -> Recipe:
    """Load a recipe before the engine: a mistyped name needs no torch, whose import takes seconds.

    Raises:
        ConfigError: there is no such recipe, or it or a setting is wrong.
    """
    from posekit.config.recipe import load_recipe  # noqa: PLC0415

    return load_recipe(name, settings or [])


def emit(data: Any, as_json: bool) -> None:
    """Print data as JSON on standard output, if it is wanted."""
    if as_json:
        typer.echo(json.dumps(finite(data), default=str))
