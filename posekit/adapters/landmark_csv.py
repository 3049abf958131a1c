"""Landmark tables: one CSV row an instance, the image's name and two columns a keypoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from posekit.adapters.base import Instance
from posekit.adapters.fields import Place, image_path, labelled_points, show, text_number
from posekit.adapters.files import read_csv_rows
from posekit.adapters.names import match_names
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.errors import nearest
from posekit.schema import KeypointSchema

_AXES = {"x": 0, "y": 1, "v": 2, "visibility": 2}
_NAME_FIRST = re.compile(r"(.+?)[_.\- ](x|y|v|visibility)", re.IGNORECASE)
_AXIS_FIRST = re.compile(r"(x|y|v)(?:[_.\- ](.+)|(\d+))", re.IGNORECASE)


class CsvOptions(Strict):
    """What a card can tell the adapter.

    Attributes:
        image_column: header of the column with the image's name; the first column if left out.
        box_columns: headers of the columns x, y, width, height of the box, if there are any.
        ignore: headers of columns that mean nothing here.
        names: file name -> keypoint, where they differ by more than spelling.
        delimiter: what separates the cells.
        one_based: whether coordinates count from 1.
    """

    image_column: str | None = None
    box_columns: tuple[str, str, str, str] | None = None
    ignore: list[str] = Field(default_factory=list)
    names: dict[str, str] = Field(default_factory=dict)
    delimiter: str = Field(",", min_length=1, max_length=1)
    one_based: bool = False


@dataclass(frozen=True)
class Columns:
    """Where things stand in a row: numbers of columns.

    Attributes:
        image: column of the image's name.
        points: K pairs (x, y) in the schema's order.
        visibility: K columns, or empty if the file has none.
        box: the columns x, y, width, height, or empty.
    """

    image: int
    points: tuple[tuple[int, int], ...]
    visibility: tuple[int, ...]
    box: tuple[int, ...]


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance]:
    """Stream the rows of a landmark CSV; several rows may name one image.

    Headers of keypoints may be `nose_x, nose_y` (also nose.x, x_nose; with nose_v a visibility of
    0, 1 or 2), numbered points `x0, y0, x1, y1`, or bare numbers `0, 1, 2, 3` that stand for x and
    y in turn. A point whose two cells are empty or nan is not labelled; without a visibility
    column the others count as visible.

    Raises:
        DatasetError: a header that fits none of these, or a malformed row; names its line.
        ConfigError: an unknown option in the card.
    """
    options = validate(CsvOptions, split.options, f"split '{split.name}', options")
    file = Path(root) / split.annotations
    rows = read_csv_rows(file, options.delimiter)
    _, header = next(rows, (0, []))
    columns = _find_columns(header, options, schema, Place(file, "header"))
    for count, (line, cells) in enumerate(rows, start=1):
        place = Place(file, f"line {line}")
        if len(cells) != len(header):
            place.fail(f"found {len(cells)} cells, expected {len(header)} as in the header")
        name = cells[columns.image]
        points, visibility = _landmarks(cells, columns, schema, place)
        if options.one_based:
            points[visibility > 0] -= 1
        yield Instance(
            image=image_path(split.images, name, place),
            image_id=name,
            instance_id=count,
            keypoints=points,
            visibility=visibility,
            box_xywh=_box(cells, columns, options, place),
        )


def _find_columns(
    header: Sequence[str], options: CsvOptions, schema: KeypointSchema, place: Place
) -> Columns:
    """Find out what each column of a landmark CSV is; DatasetError if that is not clear."""
    image, box, axes = _parts(header, options, place)
    names = list(dict.fromkeys(name for name, _ in axes))
    for name in names:
        if (name, 0) not in axes or (name, 1) not in axes:
            place.fail(f"point '{name}' has no column for x and y both")
    with_visibility = [name for name in names if (name, 2) in axes]
    if with_visibility and len(with_visibility) != len(names):
        place.fail(f"{len(with_visibility)} of {len(names)} points have a visibility column")
    order = _numbered_order(names)
    if order is not None and len(order) != len(schema):
        place.fail(
            f"found {len(names)} numbered points, expected the {len(schema)} of schema "
            f"'{schema.name}'",
            "check that the card's schema is the one of this file",
        )
    if order is None:
        order = match_names(names, schema, place, options.names)
    names = [names[position] for position in order]
    return Columns(
        image,
        tuple((axes[name, 0], axes[name, 1]) for name in names),
        tuple(axes[name, 2] for name in names) if with_visibility else (),
        box,
    )


def point_names(header: Sequence[str], options: CsvOptions, place: Place) -> list[str]:
    """Return the names of a landmark CSV's points, in the order in which a schema must have them
    where they are numbers; DatasetError where a header is not clear.
    """
    _, _, axes = _parts(header, options, place)
    names = list(dict.fromkeys(name for name, _ in axes))
    order = _numbered_order(names)
    return names if order is None else [names[position] for position in order]


def _parts(
    header: Sequence[str], options: CsvOptions, place: Place
) -> tuple[int, tuple[int, ...], dict[tuple[str, int], int]]:
    """Return the column of the image, those of the box, and (point, axis) -> column."""
    if not header:
        place.fail("the file is empty, expected a header and one row an instance")
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        place.fail(f"the columns {', '.join(map(repr, sorted(twice)))} appear twice")
    image = 0
    if options.image_column is not None:
        image = _column(header, options.image_column, place)
    box = tuple(_column(header, name, place) for name in options.box_columns or ())
    ignored = {image, *box, *(_column(header, name, place) for name in options.ignore)}
    rest = [column for column in range(len(header)) if column not in ignored]
    order = _numbered_order([header[column] for column in rest])
    if order is None:
        return image, box, _named_axes(header, rest, place)
    return image, box, {(str(n // 2), n % 2): rest[at] for n, at in enumerate(order)}


def _numbered_order(names: Sequence[str]) -> list[int] | None:
    if not names or not all(name.isascii() and name.isdecimal() for name in names):
        return None
    numbers = [int(name[:9]) for name in names]
    first = min(numbers)
    if sorted(numbers) != list(range(first, first + len(numbers))) or first > 1:
        return None
    return [numbers.index(first + i) for i in range(len(numbers))]


def _named_axes(
    header: Sequence[str], columns: Sequence[int], place: Place
) -> dict[tuple[str, int], int]:
    axes: dict[tuple[str, int], int] = {}
    for column in columns:
        text = header[column]
        if match := _NAME_FIRST.fullmatch(text):
            name, axis = match[1], match[2]
        elif match := _AXIS_FIRST.fullmatch(text):
            name, axis = match[2] or match[3], match[1]
        else:
            place.fail(
                f"column {show(text)} is neither a point's x or y nor known",
                "name columns like nose_x and nose_y, or add it to the option 'ignore' "
                "(see also 'image_column' and 'box_columns')",
            )
        key = name, _AXES[axis.lower()]
        if key in axes:
            place.fail(f"the columns {show(header[axes[key]])} and {show(text)} mean the same")
        axes[key] = column
    return axes


def _landmarks(
    cells: Sequence[str], columns: Columns, schema: KeypointSchema, place: Place
) -> tuple[np.ndarray, np.ndarray]:
    points = np.zeros((len(schema), 2))
    visibility = np.zeros(len(schema), np.uint8)
    for k, (x, y) in enumerate(columns.points):
        what = f"keypoint '{schema.keypoints[k]}'"
        empty = [cells[column].lower() in {"", "nan"} for column in (x, y)]
        if any(empty) != all(empty):
            place.fail(f"{what}: found {show(cells[x])}, {show(cells[y])}, expected both or none")
        visibility[k] = 0 if all(empty) else 2
        if columns.visibility:
            code = cells[columns.visibility[k]]
            if code not in {"0", "1", "2"} or (code != "0" and all(empty)):
                place.fail(f"{what}: found visibility {show(code)}, expected 0, 1 or 2")
            visibility[k] = int(code)
        if visibility[k]:
            points[k] = text_number(cells[x], what, place), text_number(cells[y], what, place)
    return labelled_points(points, visibility, schema, place), visibility


def _box(
    cells: Sequence[str], columns: Columns, options: CsvOptions, place: Place
) -> np.ndarray | None:
    if not columns.box:
        return None
    texts = [cells[column] for column in columns.box]
    if not any(texts):
        return None
    box = np.array([text_number(text, "box", place) for text in texts])
    if options.one_based:
        box[:2] -= 1
    return box


def _column(header: Sequence[str], name: str, place: Place) -> int:
    if name not in header:
        place.fail(f"there is no column '{name}'{nearest(name, header)}")
    return list(header).index(name)
