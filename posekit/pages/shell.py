"""What the HTML pages share: templates, formats of numbers, and how a page is written."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from posekit.output import write_text
from posekit.pages.report_charts import format_score, line_chart
from posekit.version import __version__


def write_page(file: Path, template: str, **values: Any) -> Path:
    """Write a page from a template of `pages/templates`, whole or not at all, and return its path.

    Text is escaped wherever a template shows it; a value that a template asks for and that is not
    given is an error (jinja2.UndefinedError).

    Raises:
        PosekitError: the page cannot be written.
    """
    return write_text(file, _TEMPLATES.get_template(template).render(values))


def _asset(name: str) -> Markup:
    """Return a style sheet or script of this package: our own text, so it is not escaped."""
    return Markup(resources.files("posekit.pages").joinpath(name).read_text("utf-8"))  # noqa: S704


def _plain(value: Any) -> str:
    """Return a setting as a reader would write it: yes, no, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("posekit.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(asset=_asset, version=__version__, line_chart=line_chart)
    templates.filters.update(
        plain=_plain,
        score=format_score,
        signed=_signed,
        spaced=lambda name: str(name).replace("_", " "),
        width=lambda share: f"{100 * min(max(share, 0.0), 1.0):.2f}%",
    )
    # The order of keypoints and instances is information, so that keys stay as they are.
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return templates


_TEMPLATES = _templates()
