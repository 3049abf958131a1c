"""The cache folder: where it is, and how a folder in it appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from posekit.errors import PosekitError


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
        PosekitError: nothing can be written there (no space left, no permission, read-only).
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        fill(temporary)
        _rename(temporary, folder)
    except OSError as error:
        raise PosekitError(
            f"{folder.parent}: the cache cannot be written ({error.strerror or error}); free some "
            "space there, or name another folder in the environment variable POSEKIT_CACHE"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def discard(folder: Path) -> None:
    """Take away a damaged folder, so that it can be made again."""
    shutil.rmtree(folder, ignore_errors=True)


def _rename(temporary: Path, folder: Path) -> None:
    temporary.chmod(0o755)
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
