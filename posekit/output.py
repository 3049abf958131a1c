"""The one way to write a file or a folder: whole or not at all, with a sentence if it fails."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from posekit.errors import OutputError, PosekitError

MakeError = Callable[[str], PosekitError]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_QUICK_S = 1e-3
_LISTINGS: dict[Path, tuple[float, float]] = {}
"""Folder -> when it was last searched for leftovers, and how many seconds that took."""


@contextmanager
def atomic_file(
    path: str | Path,
    sync: bool = True,
    *,
    error: MakeError = OutputError,
    also: tuple[type[Exception], ...] = (),
) -> Iterator[Path]:
    """Yield a temporary file beside `path` that takes its place once the block has written it.

    The temporary file is `.NAME.PID.tmp`. What a killed process left of the same file is removed
    first, if no process of that number runs on this machine. A link is followed; a device or a
    pipe, such as /dev/stdout, is written directly, as it cannot be replaced.

    Args:
        path: the file; its folder is created.
        sync: put the content on disk before the rename, so that even a power cut leaves a whole
            file. Costs a wait for the disk.
        error: makes the error from its sentence; usually a class of `posekit.errors`.
        also: exceptions beside OSError by which a writer reports a failed write.

    Raises:
        OutputError: or what `error` makes: the file cannot be written (a full or read-only disk,
            no permission). No temporary file is left, and an earlier file at `path` is intact.
    """
    path = Path(path)
    if os.path.islink(path):  # unlike Path's, the questions of os.path never raise
        path = path.resolve()
    special = os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
    failures: tuple[type[Exception], ...] = (OSError, *also)
    temporary = path if special else path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
        if not special:
            if sync:
                _sync(temporary)
            os.replace(temporary, path)
            if sync:
                with suppress(OSError):  # not every system can sync a folder
                    _sync(path.parent)
    except failures as failure:
        raise error(_sentence(path, failure, _reason(failure, temporary))) from failure
    finally:
        if not special:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(
    folder: Path, *, error: MakeError = OutputError, fix: str | None = None
) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `folder` once the block has filled it.

    Where another process published the same folder meanwhile, that one stays. Nothing is synced:
    this is for what can be computed again.

    Args:
        folder: the folder; those above it are created.
        error: makes the error from its sentence.
        fix: what the user can do about a folder that cannot be written.

    Raises:
        OutputError: or what `error` makes: nothing can be written there, and nothing is left.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        # One process may fill the same folder twice at once, so the number is not enough here.
        prefix = f".{folder.name}.{os.getpid()}."
        temporary = Path(tempfile.mkdtemp(".tmp", prefix, folder.parent))
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as failure:
        sentence = _sentence(folder, failure, _reason(failure, folder), fix)
        raise error(sentence) from failure
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(
    path: str | Path, data: Any, sync: bool = False, *, error: MakeError = OutputError
) -> Path:
    """Write bytes, or anything with a buffer such as an encoded picture; see `atomic_file`."""
    with atomic_file(path, sync, error=error) as temporary, temporary.open("wb") as stream:
        stream.write(data)
    return Path(path)


def write_text(
    path: str | Path,
    text: str | Iterable[str],
    sync: bool = False,
    *,
    error: MakeError = OutputError,
) -> Path:
    """Write text, given whole or piece by piece, in UTF-8; see `atomic_file`."""
    with (
        atomic_file(path, sync, error=error) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        stream.writelines([text] if isinstance(text, str) else text)
    return Path(path)


def write_json(
    path: str | Path,
    data: Any,
    sync: bool = False,
    *,
    indent: int | None = 1,
    error: MakeError = OutputError,
) -> Path:
    """Write JSON and a last newline; without `indent` on one line, without blanks."""
    separators = None if indent else (",", ":")
    text = json.dumps(data, indent=indent, separators=separators)
    return write_text(path, f"{text}\n", sync, error=error)


def finite(data: Any) -> Any:
    """Return plain data with None for every number that is not finite, which JSON lacks."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    return [finite(value) for value in data] if isinstance(data, list | tuple) else data


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files and folders of `path` whose process no longer runs.

    Listing a folder takes long where it holds very many files. So a small one is listed before
    every write, a large one so seldom that it costs at most a hundredth of the time.
    """
    now = time.perf_counter()
    last, cost = _LISTINGS.get(path.parent, (0.0, 0.0))
    if cost > _QUICK_S and now - last < 100 * cost:
        return
    names = os.listdir(path.parent)
    _LISTINGS[path.parent] = (now, time.perf_counter() - now)
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.\w+)?\.tmp")
    for name in names:
        found = pattern.fullmatch(name)
        if found is None or _runs(int(found[1])):
            continue
        leftover = path.with_name(name)
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name == "nt":  # os.kill(..., 0) would end the process there
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it runs, and belongs to someone else
        return True
    return True


def _reason(failure: Exception, temporary: Path) -> str:
    if isinstance(failure, FileExistsError):  # from making the folder above
        return f"{failure.filename} is not a folder"
    if isinstance(failure, OSError):
        return failure.strerror or str(failure)
    # torch and safetensors hide the system's reason; one more write to the same file meets it.
    try:
        with temporary.open("ab") as stream:
            stream.write(bytes(1 << 16))
    except OSError as cause:
        return cause.strerror or str(cause)
    return (str(failure).splitlines() or [type(failure).__name__])[0]


def _sentence(path: Path, failure: Exception, reason: str, fix: str | None = None) -> str:
    kept = "what was there before is intact" if os.path.exists(path) else "nothing was left behind"
    if fix is None:
        code = getattr(failure, "errno", None)
        if code in _FULL or not isinstance(failure, OSError):
            fix = "free some space or choose another folder"
        elif code in _FORBIDDEN:
            fix = "choose another folder"
    return f"{path}: cannot be written ({reason}); {kept}" + (f"; {fix}" if fix else "")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
