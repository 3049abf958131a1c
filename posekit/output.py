"""Writing files that are either there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from posekit.errors import CheckpointError, PosekitError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Return a temporary file beside `path` that takes its place once it is written and on disk.

    Raises:
        CheckpointError: writing failed (a full disk, no permission); the temporary file is gone
            and whatever stood at `path` before is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(_not_saved(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(file: Path, parts: str | Iterable[str]) -> Path:
    """Write text piece by piece, atomically; PosekitError if it cannot be written."""
    temporary = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as stream:
            stream.writelines([parts] if isinstance(parts, str) else parts)
        os.replace(temporary, file)
    except OSError as error:
        with suppress(OSError):  # its folder may be what is missing
            temporary.unlink(missing_ok=True)
        raise PosekitError(f"{file}: cannot be written ({error.strerror})") from None
    return file


def _not_saved(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    before = "the file from before is intact" if path.exists() else "nothing was left behind"
    return f"{path}: cannot be saved ({reason}); {before}; make room or choose another folder"


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system can sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
