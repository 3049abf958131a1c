"""The cache folder: where it is, and how a folder in it appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from posekit.output import atomic_folder


def default_cache() -> Path:
    """Return the folder for caches: POSEKIT_CACHE, else posekit below the user's cache folder."""
    named = os.environ.get("POSEKIT_CACHE")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "posekit"


def publish(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` atomically: fill a temporary folder beside it, then rename that.

    Processes that make the same folder at once do the work twice and one result stays; `fill`
    must therefore give the same content each time. Nothing stays behind if `fill` fails.

    Args:
        folder: the folder to make.
        fill: is called with an empty folder and writes the content into it.

    Raises:
        OutputError: nothing can be written there (no space left, no permission, read-only).
    """
    fix = (
        "free some space there, or name another folder for the cache in the environment variable "
        "POSEKIT_CACHE"
    )
    with atomic_folder(folder, fix=fix) as temporary:
        fill(temporary)


def discard(folder: Path) -> None:
    """Take away a damaged folder, so that it can be made again."""
    shutil.rmtree(folder, ignore_errors=True)
