"""Tables of results: plain text to print, CSV to keep."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from posekit.output import atomic_file


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay cells out in columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [_line(columns, widths), "  ".join("-" * width for width in widths)]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def write_csv(
    file: Path, first: str, table: Mapping[str, Mapping[str, float]], columns: Sequence[str] = ()
) -> Path:
    """Write row -> column -> value as CSV, atomically; what is missing or NaN stays empty.

    Args:
        file: where to; its folder is made.
        first: title of the column with the rows' names.
        table: the rows, in order.
        columns: the columns' order; those of the rows, by first use, if left out.

    Raises:
        OutputError: the file cannot be written.
    """
    names = list(columns) or list(dict.fromkeys(name for row in table.values() for name in row))
    with (
        atomic_file(file, sync=False) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow([first, *names])
        for name, row in table.items():
            writer.writerow([name, *(_number(row.get(column)) for column in names)])
    return file


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest]).rstrip()
