"""Opening annotation files, so that whatever is wrong with one is a DatasetError."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posekit.adapters.mat_tags import check_tags
from posekit.errors import DatasetError

_MISSING_FIX = "check the data root and the paths in the dataset's card"
_TRUNCATED_FIX = "the file may be cut short or damaged; copy or download it again"


def require_folder(folder: Path) -> Path:
    """Return the folder back; DatasetError if there is none."""
    if not folder.is_dir():
        found = "a file" if folder.is_file() else "nothing"
        raise DatasetError(folder, f"found {found} here, expected a folder", fix=_MISSING_FIX)
    return folder


def require_file(file: Path) -> Path:
    """Return the file back; DatasetError if there is none."""
    if not file.is_file():
        found = "a folder" if file.is_dir() else "nothing"
        raise DatasetError(file, f"found {found} here, expected a file", fix=_MISSING_FIX)
    return file


def read_bytes(file: Path) -> bytes:
    """Read a whole file; DatasetError if it is missing or unreadable."""
    try:
        return require_file(file).read_bytes()
    except OSError as error:
        raise DatasetError(file, f"it cannot be read ({error.strerror})") from None


def read_text(file: Path) -> str:
    """Read a whole UTF-8 text file, without a byte-order mark; DatasetError if it is not one."""
    try:
        text = read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8 text"
        raise DatasetError(file, problem, fix="save it as UTF-8") from None
    if "\0" in text:
        raise DatasetError(file, "it holds zero bytes, expected text", fix=_TRUNCATED_FIX)
    return text


def load_json(file: Path) -> Any:
    """Load a whole JSON file; DatasetError with line and column if it is not valid JSON.

    Costs about ten times the file's size in memory while the result lives.
    """
    data = read_bytes(file)
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        problem = f"not valid JSON: {error.msg} ({where} of {len(data):,} bytes)"
    except UnicodeDecodeError as error:
        problem = f"not valid JSON: byte {error.start} is not UTF-8 text"
    except RecursionError:
        problem = "not valid JSON: brackets are nested too deeply"
    except ValueError as error:
        problem = f"not valid JSON: {error}"
    raise DatasetError(file, problem, fix=_TRUNCATED_FIX)


def read_csv_rows(file: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Stream the non-empty rows of a CSV file as (line number from 1, cells without padding)."""
    text = io.StringIO(read_text(file), newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        problem = f"not a valid CSV file: {error}"
        raise DatasetError(
            file, problem, record=f"line {reader.line_num}", fix=_TRUNCATED_FIX
        ) from None


@contextmanager
def open_hdf5(file: Path, kind: str, fix: str = _TRUNCATED_FIX) -> Iterator[Any]:
    """Open an HDF5 file with h5py; DatasetError if it, or what is read from it, is damaged.

    `kind` says in the message what the file should be.
    """
    import h5py  # noqa: PLC0415 - slow to import, few datasets need it

    require_file(file)
    try:
        with h5py.File(file, "r") as store:
            yield store
    # h5py raises errors of many kinds for a damaged file; ours pass through.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(file, f"not a readable {kind} file ({text})", fix=fix) from None


_NUMERIC = {"double", "single", "logical"} | {
    f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)
}


def load_mat(file: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Load named arrays of numbers from a MATLAB file (before v7.3).

    Cells, structures and texts are never read: scipy's reader can crash the whole process on
    damaged ones, which no exception handler catches.

    Raises:
        DatasetError: the file is missing or damaged, or lacks one of the names or holds something
            else than numbers under it.
    """
    from scipy.io import loadmat, whosmat  # noqa: PLC0415 - slow to import, few datasets need it

    require_file(file)
    try:
        check_tags(read_bytes(file))
        listed = whosmat(str(file))
        kinds = {name: (kind, math.prod(shape)) for name, shape, kind in listed}
        if len(kinds) != len(listed):
            raise ValueError("a variable appears twice")
        wanted = [name for name in names if _is_numeric(kinds.get(name), file)]
        content = loadmat(str(file), variable_names=wanted) if wanted == list(names) else {}
    # scipy raises errors of a dozen kinds (also zlib's and struct's) for a damaged file.
    except Exception as error:
        problem = f"not a readable MATLAB file ({type(error).__name__}: {error})"
        raise DatasetError(file, " ".join(problem.split()), fix=_TRUNCATED_FIX) from None
    for name in names:
        if name not in content:
            present = (
                ", ".join(f"{k!r:.40} ({kind})" for k, (kind, _) in kinds.items()) or "nothing"
            )
            raise DatasetError(file, f"expected an array of numbers '{name}', found {present}")
    return content


def _is_numeric(kind: tuple[str, int] | None, file: Path) -> bool:
    """Return whether a variable holds numbers, no more than its file can plausibly hold."""
    return kind is not None and kind[0] in _NUMERIC and 0 <= kind[1] <= 1000 * file.stat().st_size
