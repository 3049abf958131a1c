"""DeepLabCut's labels: `CollectedData_<scorer>` as CSV or HDF5, single- and multi-animal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from posekit.adapters.base import EmptyImage, Instance
from posekit.adapters.fields import Place, image_path, labelled_points, show, text_number
from posekit.adapters.files import read_csv_rows
from posekit.adapters.names import match_names
from posekit.adapters.pandas_hdf import read_frame
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema

_LEVELS = ("scorer", "bodyparts", "coords")
_LEVELS_MULTI = ("scorer", "individuals", "bodyparts", "coords")
UNIQUE = "single"
_DATA_FOLDER = "labeled-data/"


class DeepLabCutOptions(Strict):
    """What a card can tell the adapter: file's body part -> keypoint, where spelling differs."""

    names: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class LabelTable:
    """One label file, whatever it was written as.

    Attributes:
        file: where it was read from.
        columns: (individual or '', body part, 'x', 'y' or 'likelihood') of each column.
        rows: (where it stands, the image's name, float64 values by column, nan where unlabelled).
    """

    file: Path
    columns: list[tuple[str, str, str]]
    rows: list[tuple[str, str, np.ndarray]]


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance | EmptyImage]:
    """Stream the labelled animals of a DeepLabCut project.

    The split names one label file, or a folder whose label files are read by path (where a video
    has both forms the CSV is read). An empty cell is not labelled, anything else is visible. An
    individual without a label in an image yields nothing there. Body parts of the individual
    `single` (unique ones, which belong to no animal) are read only if they are the schema.

    Raises:
        DatasetError: a malformed file, body parts that do not fit the schema, or a file of
            predictions.
        ConfigError: an unknown option in the card.
    """
    options = validate(DeepLabCutOptions, split.options, f"split '{split.name}', options")
    count = 0
    for file in _label_files(Path(root) / split.annotations):
        table = read_labels(file)
        animals = _animals(table, schema, options)
        for record, name, values in table.rows:
            place = Place(file, record)
            path = image_path(split.images, from_project(name), place)
            before = count
            for columns in animals:
                points = values[columns]
                visibility = _visibility(points, schema, place)
                if not visibility.any():
                    continue
                count += 1
                yield Instance(
                    image=path,
                    image_id=path,
                    instance_id=count,
                    keypoints=labelled_points(points, visibility, schema, place),
                    visibility=visibility,
                )
            if count == before:
                yield EmptyImage(path, path)


def read_labels(file: Path, predictions: bool = False) -> LabelTable:
    """Read one label file, CSV or HDF5, checking its header but not its body parts.

    Args:
        file: the file.
        predictions: also take a file of predictions, which has likelihood columns.
    """
    if file.suffix.lower() in {".h5", ".hdf5", ".hdf"}:
        names, index, values = read_frame(file)
        columns = _columns(names, Place(file), predictions)
        rows = [
            (f"row {i}", "/".join(part for part in parts if part), values[i])
            for i, parts in enumerate(index)
        ]
        return LabelTable(file, columns, rows)
    return _read_csv(file, predictions)


def _read_csv(file: Path, predictions: bool) -> LabelTable:
    lines = read_csv_rows(file)
    place = Place(file, "header")
    header: list[list[str]] = []
    for _, cells in lines:
        header.append(cells)
        if cells[0].lower() == "coords" or len(header) == len(_LEVELS_MULTI):
            break
    levels = tuple(cells[0].lower() for cells in header)
    if levels not in {_LEVELS, _LEVELS_MULTI}:
        place.fail(
            f"its first column starts with {show(list(levels))}, expected {', '.join(_LEVELS)} "
            "(with individuals after scorer for several animals)",
            "is this a CollectedData file of DeepLabCut?",
        )
    # Newer projects index rows by three columns (labeled-data, video, image), older ones by one.
    width = len(header[0])
    first = next((i for i, cell in enumerate(header[0]) if i and cell), width)
    if any(len(cells) != width for cells in header) or first == width:
        place.fail("its header rows have different lengths or name no columns")
    names = [tuple(cells[i] for cells in header) for i in range(first, width)]
    columns = _columns(names, place, predictions)
    rows = []
    for line, cells in lines:
        where = Place(file, f"line {line}")
        if len(cells) != width:
            where.fail(f"found {len(cells)} cells, expected {width} as in the header")
        name = "/".join(cell for cell in cells[:first] if cell)
        values = [_value(cell, where) for cell in cells[first:]]
        rows.append((f"line {line}", name, np.array(values)))
    return LabelTable(file, columns, rows)


def _columns(
    names: Sequence[tuple[str, ...]], place: Place, predictions: bool
) -> list[tuple[str, str, str]]:
    columns: list[tuple[str, str, str]] = []
    for parts in names:
        if len(parts) not in {len(_LEVELS), len(_LEVELS_MULTI)}:
            place.fail(f"a column is named {show(parts)}, expected scorer, body part and x or y")
        individual = parts[1] if len(parts) == len(_LEVELS_MULTI) else ""
        bodypart, axis = parts[-2], parts[-1].lower()
        if axis == "likelihood" and not predictions:
            place.fail(
                "it has likelihood columns, expected labels only",
                "this is a file of predictions; use CollectedData_<scorer>",
            )
        if axis not in {"x", "y", "likelihood"}:
            place.fail(f"body part '{bodypart}' has a column {show(parts[-1])}, expected x or y")
        columns.append((individual, bodypart, axis))
    if len(set(columns)) != len(columns):
        place.fail("a body part's column appears twice, expected one x and one y for each")
    return columns


def individuals(table: LabelTable) -> dict[str, dict[str, list[int]]]:
    """Return, for each individual and body part, the columns of x, y and, if any, likelihood.

    Raises:
        DatasetError: a body part lacks one of them.
    """
    axes = [a for a in ("x", "y", "likelihood") if a in {axis for *_, axis in table.columns}]
    where = {column: position for position, column in enumerate(table.columns)}
    found: dict[str, dict[str, list[int]]] = {}
    for individual, part, _ in table.columns:
        if any((individual, part, axis) not in where for axis in axes):
            place = Place(table.file, f"individual {individual}" if individual else "header")
            place.fail(f"body part '{part}' has not all of the columns {', '.join(axes)}")
        found.setdefault(individual, {})[part] = [where[individual, part, axis] for axis in axes]
    return found


def _animals(
    table: LabelTable, schema: KeypointSchema, options: DeepLabCutOptions
) -> list[np.ndarray]:
    """Return, for each individual, the columns (K, 2) of its x and y in the schema's order."""
    parts = individuals(table)
    if len(parts) > 1:
        unique = parts.pop(UNIQUE, None)
        if unique is not None and {*unique} == {*schema.keypoints}:
            parts = {UNIQUE: unique}
    animals = []
    for individual, columns in parts.items():
        place = Place(table.file, f"individual {individual}" if individual else "header")
        names = list(columns)
        order = match_names(names, schema, place, options.names)
        animals.append(np.array([columns[names[i]] for i in order]))
    return animals


def _visibility(points: np.ndarray, schema: KeypointSchema, place: Place) -> np.ndarray:
    missing = np.isnan(points)
    half = missing.any(axis=1) != missing.all(axis=1)
    if half.any():
        name = schema.keypoints[int(np.argmax(half))]
        place.fail(f"keypoint '{name}' has only one of x and y, expected both or none")
    return np.where(missing.all(axis=1), 0, 2).astype(np.uint8)


def _label_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = {file.with_suffix(""): file for file in sorted(path.rglob("CollectedData_*.h5"))}
    found |= {file.with_suffix(""): file for file in sorted(path.rglob("CollectedData_*.csv"))}
    if not found:
        Place(path).fail(
            "found no CollectedData_*.csv or .h5 below it",
            "point 'annotations' at the project's labeled-data folder or at one label file",
        )
    return [found[stem] for stem in sorted(found)]


def from_project(name: str) -> str:
    """Cut what old projects write before their own folder: /home/me/project/labeled-data/..."""
    plain = name.replace("\\", "/")
    return plain[plain.rindex(_DATA_FOLDER) :] if _DATA_FOLDER in plain else plain


def _value(cell: str, place: Place) -> float:
    return float("nan") if cell.lower() in {"", "nan"} else text_number(cell, "coordinate", place)
