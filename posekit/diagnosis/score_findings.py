"""What the autopsy reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        name: its name, lower_snake.
        text: what was seen and what it means.
        is_fatal: nothing else can be checked until it is fixed.
    """

    name: str
    text: str
    is_fatal: bool = False
