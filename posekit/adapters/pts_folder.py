"""Folders of `.pts` files, one beside each image: 300W, iBUG, and menpo's exports."""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from pathlib import Path

import numpy as np
from pydantic import Field

from posekit.adapters.base import Instance
from posekit.adapters.fields import (
    Place,
    image_path,
    labelled_points,
    landmark_crop,
    show,
    text_number,
)
from posekit.adapters.files import read_text, require_folder
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff", ".webp", ".gif"}


class PtsOptions(Strict):
    """What a card can tell the adapter.

    Attributes:
        folders: folders to search, with all below them, relative to the split's annotations.
        one_based: whether coordinates count from 1, as the format's convention is.
        exclude: names of `.pts` files to leave out, relative to the split's annotations.
    """

    folders: list[str] = Field(default_factory=lambda: ["."], min_length=1)
    one_based: bool = True
    exclude: list[str] = Field(default_factory=list)


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance]:
    """Stream the faces of folders of `.pts` files, by folder as listed, then by path.

    The image is the file of the same name beside it. The format has no visibility: every landmark
    counts as visible; a landmark written as nan is not labelled. The crop is the square around
    the landmarks.

    Raises:
        DatasetError: a malformed file, one of another number of points, or one without an image.
        ConfigError: an unknown option in the card.
    """
    options = validate(PtsOptions, split.options, f"split '{split.name}', options")
    base = Path(root) / split.annotations
    count = 0
    excluded = set(options.exclude)
    for folder in options.folders:
        files = sorted(require_folder(base / folder).rglob("*.pts"))
        if not files:
            Place(base / folder).fail("found no .pts file here, expected one beside each image")
        for file in files:
            if file.relative_to(base).as_posix() in excluded:
                continue
            count += 1
            yield _face(file, count, Path(root), options, schema)


def _face(
    file: Path, count: int, root: Path, options: PtsOptions, schema: KeypointSchema
) -> Instance:
    place = Place(file)
    points = read_pts(file)
    if len(points) != len(schema):
        place.fail(
            f"it holds {len(points)} points, expected the {len(schema)} of schema '{schema.name}'",
            "use another schema, or add the file to the option 'exclude'",
        )
    visibility = np.where(np.isfinite(points).all(axis=1), 2, 0).astype(np.uint8)
    if options.one_based:
        points = points - 1
    keypoints = labelled_points(points, visibility, schema, place)
    center, size = landmark_crop(keypoints[visibility > 0])
    path = image_path("", _image_beside(file).relative_to(root).as_posix(), place)
    return Instance(
        image=path,
        image_id=path,
        instance_id=count,
        keypoints=keypoints,
        visibility=visibility,
        crop_center=center,
        crop_size=size,
    )


def read_pts(file: Path) -> np.ndarray:
    """Read one `.pts` file as written: float64 (n, 2), nan where a point is written so.

    Raises:
        DatasetError: the header, a line or the number of points is not as the format has it.
    """
    lines = [line.strip() for line in read_text(file).splitlines()]
    lines = [line for line in lines if line]
    place = Place(file)
    header = dict(_header_entry(line, place) for line in lines[: _position("{", lines, place)])
    body = lines[_position("{", lines, place) + 1 : _position("}", lines, place)]
    declared = header.get("n_points", "")
    if not declared.isdecimal() or int(declared[:9]) != len(body):
        place.fail(
            f"its header says n_points: {show(declared)}, found {len(body)} lines of points",
            "the file may be cut short or damaged",
        )
    points = np.empty((len(body), 2))
    for row, line in enumerate(body):
        cells = line.split()
        where = Place(file, f"point {row}")
        if len(cells) != 2:
            where.fail(f"found {show(line)}, expected two numbers x y")
        points[row] = [
            np.nan if cell.lower() == "nan" else text_number(cell, "coordinate", where)
            for cell in cells
        ]
    return points


def _header_entry(line: str, place: Place) -> tuple[str, str]:
    key, colon, value = line.partition(":")
    if not colon:
        place.fail(f"found {show(line)} before '{{', expected 'version: 1' and 'n_points: N'")
    return key.strip(), value.strip()


def _position(bracket: str, lines: list[str], place: Place) -> int:
    if bracket not in lines:
        place.fail(
            f"found no line '{bracket}', expected version, n_points, '{{', points, '}}'",
            "the file may be cut short or damaged",
        )
    return lines.index(bracket)


def _image_beside(file: Path) -> Path:
    beside = sorted(
        entry
        for entry in file.parent.glob(f"{escape(file.stem)}.*")
        if entry.stem == file.stem and entry.suffix.lower() in _IMAGE_SUFFIXES
    )
    if len(beside) != 1:
        found = "none" if not beside else ", ".join(entry.name for entry in beside)
        Place(file).fail(
            f"found {found}, expected one image of the same name beside it",
            "put the image there, or take the .pts file out",
        )
    return beside[0]
